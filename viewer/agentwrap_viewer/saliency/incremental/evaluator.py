"""Evaluates masked images through plans, which it keeps for the images to come."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch

from agentwrap_viewer.program import Program

from .clean import CleanMaps, Example, shapes_of
from .costs import costs
from .first_order import Summing, slopes
from .plan import Plan
from .values import Kept

if TYPE_CHECKING:
    from agentwrap_viewer.replica import Prepared, Replica
    from agentwrap_viewer.saliency.masks import Masks

#: Most numbers in a block that the largest map of all its images would have, were it whole (a replica refuses 2**28),
#: and most images. Larger blocks took less time wherever it was measured; see ``docs/performance.md``.
BLOCK_NUMBERS, BLOCK_IMAGES = 3 * 2**26, 2000

#: Most images in a block of a level, where plans allow: who goes level by level looks at other things between blocks.
#: Measured on the Nature CNN and one busy core: 8 ms of 52, where the last level in one block of 208 took 28.
LEVEL_IMAGES = 64

#: Most blocks of a level, and most bytes of plans that are kept for a program. What no longer fits is planned anew.
LEVEL_BLOCKS, PLAN_BYTES = 16, 2**28


class _Plans:
    """Plans of one program. The least recently used go first, but for those of the masks that are being evaluated."""

    def __init__(self) -> None:
        self.kept = Kept()
        self.examples: dict[tuple[object, ...], Example] = {}
        self._plans: OrderedDict[tuple[object, ...], tuple[Masks, Plan]] = OrderedDict()

    def example(self, run: Prepared) -> Example:
        shapes = tuple((tensor.shape, tensor.dtype) for tensor in run.single)
        if shapes not in self.examples:
            self.examples[shapes] = shapes_of(run)
        return self.examples[shapes]

    def get(self, key: tuple[object, ...]) -> Plan | None:
        if key not in self._plans:
            return None
        self._plans.move_to_end(key)
        return self._plans[key][1]

    def put(self, key: tuple[object, ...], masks: Masks, plan: Plan) -> None:
        for old in [old for old, (others, _) in self._plans.items() if others is not masks]:
            if self._bytes() + plan.bytes > PLAN_BYTES:
                del self._plans[old]
        if self._bytes() + plan.bytes <= PLAN_BYTES:
            self._plans[key] = masks, plan  # the masks too: the key holds their id

    def _bytes(self) -> int:
        return sum(plan.bytes for _, plan in self._plans.values())


_PLANS: WeakKeyDictionary[Program, _Plans] = WeakKeyDictionary()


class Incremental:
    """One image under the masks of one geometry.

    Attributes:
        dense: Operators from which on whole batches were computed, as far as is known.
    """

    def __init__(
        self,
        replica: Replica,
        inputs: Mapping[str, torch.Tensor],
        name: str,
        *,
        change: torch.Tensor,
        masks: Masks,
        axes: tuple[int, int],
        low: bool = False,
    ) -> None:
        """Prepare.

        Args:
            replica: The policy.
            inputs: All its inputs by name, with a batch axis of one; the masked one is float32 (1, *shape).
            name: The input that is masked.
            change: What a mask of ones adds to it, float32 (*shape).
            masks: The masks.
            axes: Where height and width are, without batch axis.
            low: Whether what masks change is multiplied in bfloat16; see ``changes``.
        """
        self.dense: tuple[str, ...] = ()
        self._low = low
        self._clean: CleanMaps | None = None
        self._replica, self._inputs, self._name = replica, inputs, name
        self._change, self._masks, self._axes = change[None], masks, (axes[0] + 1, axes[1] + 1)

    def blocks(self, indices: torch.Tensor, most: int | None = None) -> list[torch.Tensor]:
        """Cut masks into blocks that are evaluated together, always the same for the same masks."""
        most = most or min(BLOCK_IMAGES, max(1, BLOCK_NUMBERS // self._largest()))
        return list(torch.tensor_split(indices, -(-len(indices) // most)))

    def _largest(self) -> int:
        """Return how many numbers the largest map of one image has."""
        return max([self._change.numel(), *(value.numel() for value in self._made())])

    def _made(self) -> Iterator[torch.Tensor]:
        """What the steps of the program compute, without data; nothing where none can be run on one image."""
        if self._clean is None and self.clean() is None:
            return
        assert self._clean is not None
        run = self._clean.run
        example = _PLANS.setdefault(run.program, _Plans()).example(run)
        yield from (value for step in run.program.steps if isinstance(value := example[step.out], torch.Tensor))

    def level_blocks(self, indices: torch.Tensor, count: int, most: int | None = None) -> list[torch.Tensor]:
        """Cut one level of ``count`` masks altogether into smaller blocks, so many that all their plans are kept."""
        fewest = -(-count // LEVEL_BLOCKS)
        return [
            piece
            for block in self.blocks(indices, most)
            for piece in torch.tensor_split(block, 1 if most else -(-len(block) // max(LEVEL_IMAGES, fewest)))
        ]

    def evaluate(self, indices: torch.Tensor) -> dict[str, torch.Tensor] | None:
        """Return the outputs by name for a block of masks, each (len(indices), …); None where that does not pay.

        Raises:
            GraphError: The policy refuses the inputs, or would need too much memory.
        """
        run = self._replica.prepared(self._inputs, self._name, rows=len(indices))
        if run is None:
            return None
        plan = self._plan(run, indices)
        if plan.whole:
            return None
        self.dense = tuple(dict.fromkeys((*self.dense, *plan.dense)))
        image = run.single[run.place]
        outputs = plan.run(self._maps(run), image, self._change.to(image.device), run.tensors)
        return self._replica.named(outputs, len(indices))

    def clean(self) -> dict[str, torch.Tensor] | None:
        """Return the outputs by name for the image without a mask, each (1, …); None where ``evaluate`` returns None.

        Raises:
            GraphError: The policy refuses the inputs.
        """
        run = self._replica.prepared(self._inputs, self._name, rows=1)
        return None if run is None else self._replica.named(self._maps(run).outputs(), 1)

    def other_precision(self) -> torch.dtype | None:
        """Return in what else than float32 something is computed, if anything is: the rules of ``plan`` are for that.

        Raises:
            GraphError: The policy refuses the inputs.
        """
        others = (value.dtype for value in self._made() if value.is_floating_point() and value.dtype != torch.float32)
        return next(others, None)

    def first_order(self, directions: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        """Return how much each mask adds to sums of outputs, (count, K), to first order: by gradients, all at once.

        Args:
            directions: For outputs by name, what is summed: (K, numbers of that output).

        Returns:
            None where gradients cannot be taken, or masks are not of a kind that can be summed under.

        Raises:
            GraphError: The policy refuses the inputs.
        """
        if not isinstance(self._masks, Summing):
            return None
        if self._clean is None and self.clean() is None:
            return None
        assert self._clean is not None
        run, values = self._clean.run, self._clean.values()
        slots = zip(self._replica.graph.outputs, run.program.outputs, strict=True)
        looked_at = {slot: directions[output.name] for output, slot in slots if output.name in directions}
        keep = partial(_PLANS.setdefault(run.program, _Plans()).kept, values)
        planes = slopes(run, values, self._change.to(run.single[run.place]), self._axes, looked_at, keep)
        return None if planes is None else self._masks.sums(planes).T

    def _maps(self, run: Prepared) -> CleanMaps:
        if self._clean is None or self._clean.filled is not run.filled:  # other weights
            self._clean = CleanMaps(run)
        return self._clean

    def _plan(self, run: Prepared, indices: torch.Tensor) -> Plan:
        plans = _PLANS.setdefault(run.program, _Plans())
        image = run.single[run.place]
        which = (id(self._masks), indices.numpy(force=True).tobytes())
        key = (*which, image.shape, self._axes, run.place, image.device, self._low)
        plan = plans.get(key)
        if plan is None:
            plan = Plan(
                run.program,
                plans.example(run),
                self._masks.make(indices.to(image.device)),
                image=run.place,
                axes=self._axes,
                costs=costs(image.device, torch.get_num_threads()),
                kept=plans.kept,
                low=self._low,
            )
            plans.put(key, self._masks, plan)
        return plan
