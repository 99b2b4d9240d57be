"""A program planned for one set of masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from agentwrap_viewer.program import Program, Step, Values

from .flat import linear_rule
from .image import image_rule
from .maps import flattened, map_rule, row_index, take
from .values import Action, Image, Kind, Map, Plain, Planned, Site

#: What follows from weights: by slot and purpose, the weight and what was made of it.
Kept = dict[tuple[int, str], tuple[torch.Tensor, torch.Tensor]]


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
    """

    def __init__(
        self,
        program: Program,
        filled: Values,
        masks: torch.Tensor,
        inputs: Sequence[torch.Tensor],
        *,
        image: int,
        axes: tuple[int, int],
        kept: Kept | None = None,
    ) -> None:
        """Plan.

        Args:
            program: What is run.
            filled: Its values before a run.
            masks: float32 (N, H, W).
            inputs: An example of each input, with a batch axis of one.
            image: Which input is masked.
            axes: Where its height and width are.
            kept: Where to keep what follows from weights, for several plans of one program.

        Raises:
            GraphError: The program refuses the example.
        """
        self.count, self.dense, self.whole = len(masks), list[str](), False
        self._program, self._masks, self._image = program, masks, image
        self._example = program.trace(filled, inputs)
        self._kinds: dict[int, Kind] = dict.fromkeys(program.inputs, Plain.ROWS)
        self._kinds[program.inputs[image]] = Image(axes)
        self._kept: Kept = {} if kept is None else kept
        self._acts: list[_Act] = []
        for step in program.steps:
            self._add(step)
        for slot in program.outputs:
            if isinstance(self._kind(slot), Image | Map):
                self._build(slot)
        del self._example

    def run(
        self, filled: Values, image: torch.Tensor, change: torch.Tensor, inputs: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        """Return the outputs, (N, …), in the graph's order.

        Args:
            filled: The program's values before a run.
            image: The image, with a batch axis of one.
            change: What a mask of ones adds to it, likewise.
            inputs: All inputs, expanded to N rows; the image's place is not looked at.
        """
        values = list(filled)
        for slot, tensor in zip(self._program.inputs, inputs, strict=True):
            values[slot] = tensor
        values[self._program.inputs[self._image]] = (image, change)
        for act in self._acts:
            values[act.out] = act.call(values)
            for slot in act.dead:
                values[slot] = None
        return [values[slot] for slot in self._program.outputs]

    def _add(self, step: Step) -> None:
        site = Site(step, tuple(map(self._kind, step.slots)), self._example, self._masks, self._keep)
        call, kind = self._planned(site) or self._as_it_is(step)
        self._acts.append(_Act(step.out, call, step.dead))
        self._kinds[step.out] = kind

    def _planned(self, site: Site) -> Planned | None:
        kinds = site.kinds
        if site.step.node.op == "aten.sym_size.int" and isinstance(kinds[0], Image | Map):
            length = self.count if site.arguments[1] == 0 else self._example[site.step.out]
            return (lambda values: length), Plain.SIZED
        if kinds and isinstance(kinds[0], Image):
            return image_rule(site)
        if not any(isinstance(kind, Map) for kind in kinds):
            return None
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
        masks, shape = self._masks, [self.count] + [1] * (self._example[slot].ndim - 1)
        for axis, length in zip(kind.axes, masks.shape[1:], strict=True):
            shape[axis] = length
        masks = masks if kind.axes[0] < kind.axes[1] else masks.transpose(1, 2)
        return lambda values: torch.addcmul(values[slot][0], masks.reshape(shape), values[slot][1])

    def _built_map(self, slot: int, kind: Kind) -> Action:
        assert isinstance(kind, Map)
        rows = row_index(kind.field.rows, self._masks.device)

        def act(values: Values) -> Any:
            maps = take(values[slot], rows).view(self.count, *kind.field.size, -1).permute(0, 3, 1, 2)
            return maps.reshape(self.count, -1) if kind.flat else maps

        return act

    def _kind(self, slot: int) -> Kind:
        return self._kinds.get(slot, Plain.FIXED)

    def _keep(
        self, values: Values, slot: int, purpose: str, make: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """Keep what follows from a weight until the weight is another one."""
        weight = values[slot]
        kept = self._kept.get((slot, purpose))
        if kept is None or kept[0] is not weight:
            kept = self._kept[slot, purpose] = (weight, make(weight))
        return kept[1]
