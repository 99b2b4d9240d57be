"""A program planned for one set of masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch

from agentwrap_viewer.program import Program, Step, Values

from .changes import rows_rule
from .clean import CleanMaps, Example
from .costs import Costs
from .flat import linear_rule
from .geometry import Ints
from .image import boxes_of, image_rule, windows_of
from .maps import flattened, map_rule
from .tables import row_index, take
from .values import Action, Image, Kept, Kind, Map, Plain, Planned, Rows, Site


@dataclass(frozen=True)
class _Act:
    """Fills a slot, then lets go of others."""

    out: int
    call: Action
    dead: tuple[int, ...] = ()


class Plan:
    """The steps of a program for one image under N masks, each computing as little as it can.

    What is planned depends on shapes and masks alone: it serves for all images and all weights.

    Attributes:
        count: N.
        dense: Operators from which on whole batches are computed, because there is no rule for them; in order.
        whole: Whether that is so from the image on: then planning was of no use.
        bytes: About how much memory the plan takes as long as it is kept.
    """

    def __init__(
        self,
        program: Program,
        example: Example,
        masks: torch.Tensor,
        *,
        image: int,
        axes: tuple[int, int],
        costs: Costs,
        kept: Kept,
        low: bool = False,
    ) -> None:
        """Plan.

        Args:
            program: What is run.
            example: Its values for one unperturbed image.
            masks: float32 (N, H, W).
            image: Which input is masked.
            axes: Where its height and width are.
            costs: What things cost where this runs.
            kept: What follows from weights, for all plans of one program.
            low: Whether what masks change is multiplied in bfloat16.
        """
        self.count, self.dense, self.whole, self.bytes = len(masks), list[str](), False, 0
        self._program, self._masks, self._image, self._costs = program, masks, image, costs
        self._example, self._low = example, low
        self._clean: dict[int, int] = {}
        self._kinds: dict[int, Kind] = dict.fromkeys(program.inputs, Plain.ROWS)
        self._kinds[program.inputs[image]] = Image(axes)
        self._kept = kept
        self._boxes = cache(partial(boxes_of, masks))
        self._acts: list[_Act] = []
        for step in program.steps:
            self._add(step)
        for slot in program.outputs:
            if isinstance(self._kind(slot), Image | Map):
                self._build(slot)
        del self._masks, self._kinds, self._boxes  # what is needed of them is in the acts

    def run(
        self,
        clean: CleanMaps,
        image: torch.Tensor,
        change: torch.Tensor,
        inputs: Sequence[torch.Tensor],
    ) -> list[torch.Tensor]:
        """Return the outputs, (N, …), in the graph's order.

        Args:
            clean: The program and its maps for the image.
            image: The image, with a batch axis of one.
            change: What a mask of ones adds to it, likewise.
            inputs: All inputs, expanded to N rows; the image's place is not looked at.
        """
        values = [*clean.filled, *clean.rows(self._clean)]
        for slot, tensor in zip(self._program.inputs, inputs, strict=True):
            values[slot] = tensor
        values[self._program.inputs[self._image]] = (image, change, clean.memo)
        for act in self._acts:
            values[act.out] = act.call(values)
            for slot in act.dead:
                values[slot] = None
        return [values[slot] for slot in self._program.outputs]

    def _add(self, step: Step) -> None:
        call, kind = self._planned(self._site(step)) or self._in_windows(step) or self._as_it_is(step)
        self._acts.append(_Act(step.out, call, step.dead))
        self._kinds[step.out] = kind

    def _index(self, rows: Ints) -> Rows:
        return row_index(rows, self._masks.device, self._hold)

    def _hold(self, tensor: torch.Tensor) -> torch.Tensor:
        self.bytes += tensor.nbytes
        return tensor

    def _site(self, step: Step) -> Site:
        def clean(slot: int = step.out) -> int:
            return self._clean.setdefault(slot, len(self._example) + len(self._clean))

        kinds = tuple(map(self._kind, step.slots))
        return Site(
            step,
            kinds,
            self._example,
            self._masks,
            self._boxes,
            self._kept,
            clean,
            self._low,
            self._costs,
            self._hold,
            self._index,
        )

    def _in_windows(self, step: Step) -> Planned | None:
        """Plan a step that has no rule for the image itself, with the image perturbed in windows."""
        slot = next((slot for slot in step.slots if isinstance(self._kind(slot), Image)), None)
        kind = None if slot is None else self._kind(slot)
        if slot is None or not isinstance(kind, Image):
            return None
        opened = windows_of(self._example[slot].shape, kind, self._masks, self._boxes(), self._costs, self._hold)
        if opened is None:
            return None
        perturb, self._kinds[slot] = opened
        planned = self._planned(self._site(step))
        if planned is None:
            self._kinds[slot] = kind
        else:
            self._acts.append(_Act(slot, lambda values: perturb(*values[slot][:2])))
        return planned

    def _planned(self, site: Site) -> Planned | None:
        kinds = site.kinds
        if site.step.node.op == "aten.sym_size.int" and isinstance(kinds[0], Image | Map):
            length = self.count if site.arguments[1] == 0 else self._example[site.step.out]
            return (lambda values: length), Plain.SIZED
        if kinds and isinstance(kinds[0], Image):
            return image_rule(site)
        if not any(isinstance(kind, Map) for kind in kinds):
            return rows_rule(site) if self._low else None
        if any(isinstance(kind, Map) and kind.flat for kind in kinds):
            return linear_rule(site)
        return (flattened(site) if isinstance(kinds[0], Map) else None) or map_rule(site)

    def _as_it_is(self, step: Step) -> Planned:
        """Run a step as the program does, on whole batches."""
        differing = [slot for slot in dict.fromkeys(step.slots) if isinstance(self._kind(slot), Image | Map)]
        if differing:
            self.dense.append(step.node.op)
        for slot in differing:
            self._build(slot)
        kinds = {self._kind(slot) for slot in step.slots}
        kind = next((kind for kind in (Plain.ROWS, Plain.SIZED) if kind in kinds), Plain.FIXED)
        call, slots = step.call, step.slots
        return (lambda values: call(*[values[slot] for slot in slots])), kind

    def _build(self, slot: int) -> None:
        """Turn an image or map into a batch from here on."""
        kind = self._kind(slot)
        self.whole |= isinstance(kind, Image)
        self._acts.append(
            _Act(slot, self._built_image(slot, kind) if isinstance(kind, Image) else self._built_map(slot, kind))
        )
        self._kinds[slot] = Plain.ROWS

    def _built_image(self, slot: int, kind: Image) -> Action:
        masks, shape = self._hold(self._masks), [self.count] + [1] * (self._example[slot].ndim - 1)
        for axis, length in zip(kind.axes, masks.shape[1:], strict=True):
            shape[axis] = length
        masks = masks if kind.axes[0] < kind.axes[1] else masks.transpose(1, 2)
        return lambda values: torch.addcmul(values[slot][0], masks.reshape(shape), values[slot][1])

    def _built_map(self, slot: int, kind: Kind) -> Action:
        assert isinstance(kind, Map)
        rows = self._index(kind.field.whole(np.arange(self.count)))

        def act(values: Values) -> Any:
            maps = take(values[slot], rows).view(self.count, *kind.field.size, -1).permute(0, 3, 1, 2)
            return maps.reshape(self.count, -1) if kind.flat else maps

        return act

    def _kind(self, slot: int) -> Kind:
        return self._kinds.get(slot, Plain.FIXED)
