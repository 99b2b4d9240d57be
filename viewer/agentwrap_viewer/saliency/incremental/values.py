"""What is known of a value before it is computed, and what a rule is given and gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import torch

from agentwrap_viewer.program import Step, Values

from .costs import Costs
from .geometry import Field, Ints


@dataclass(frozen=True)
class Image:
    """A perturbed image that was not built: (image, change, memo), the first two with a batch axis of one.

    With mask M it stands for image + M·change. The memo holds, by slot, what follows from the two whatever the mask.

    Attributes:
        axes: Where height and width are.
    """

    axes: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Map:
    """A feature map (N, C, H, W), held as a table (rows, C) that ``field`` lays out.

    Attributes:
        field: Where it differs.
        channels: C.
        flat: Whether it stands for (N, C·H·W).
    """

    field: Field
    channels: int
    flat: bool = False


class Plain(Enum):
    """Values held as they are."""

    FIXED = auto()  #: the same for all perturbations
    SIZED = auto()  #: computed from nothing but the number of perturbations
    ROWS = auto()  #: one row for each perturbation


Kind = Image | Map | Plain
#: Rows of a table: an index, or a slice where they follow one another.
Rows = slice | torch.Tensor
Action = Callable[[Values], Any]
Planned = tuple[Action, Kind]
#: Takes note of a tensor that a plan keeps, and returns it.
Hold = Callable[[torch.Tensor], torch.Tensor]
#: The smallest boxes [low, high) in which masks are not zero, each (N, 2).
Boxes = tuple[Ints, Ints]


class Kept:
    """What follows from weights, until they are other ones."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._made: dict[tuple[int, str], tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(
        self, values: Values, slot: int, purpose: str, make: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """Return what ``make`` makes of the tensor in ``slot``."""
        weight = values[slot]
        made = self._made.get((slot, purpose))
        if made is None or made[0] is not weight:
            made = self._made[slot, purpose] = (weight, make(weight))
        return made[1]


@dataclass(frozen=True)
class Site:
    """A step to be planned.

    Attributes:
        step: The step.
        kinds: Kinds of its arguments, in order.
        example: All values for one unperturbed image: their shapes.
        masks: float32 (N, H, W).
        boxes: Gives where they are not zero.
        keep: Keeps what follows from weights.
        clean: Gives the slot in which the clean result will be found, as rows (pixels, C); of a slot, what is in that.
        low: Whether changes are multiplied in bfloat16; see ``changes``.
        costs: What things cost where this runs.
        hold: Takes note of a tensor that the plan keeps, and returns it.
        index: Makes what ``take`` is given of an array of rows.
    """

    step: Step
    kinds: tuple[Kind, ...]
    example: Values
    masks: torch.Tensor
    boxes: Callable[[], Boxes]
    keep: Kept
    clean: Callable[..., int]
    low: bool
    costs: Costs
    hold: Hold
    index: Callable[[Ints], Rows]

    @property
    def arguments(self) -> list[Any]:
        """The arguments for one unperturbed image."""
        return [self.example[slot] for slot in self.step.slots]

    @property
    def result(self) -> Any:
        """The result for one unperturbed image; the first where there are several."""
        result = self.example[self.step.out]
        return result[0] if isinstance(result, tuple) else result

    @property
    def rest_is_fixed(self) -> bool:
        """Whether all arguments but the first are the same for all perturbations."""
        return all(kind is Plain.FIXED for kind in self.kinds[1:])
