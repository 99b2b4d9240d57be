"""What the unperturbed image gives: its maps, once for all masks, and their shapes, once for all images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from agentwrap_viewer.program import Values
from agentwrap_viewer.replica import Prepared

#: All values of a program for one unperturbed image; its tensors hold no numbers.
Example = Values


class CleanMaps:
    """Feature maps of one image without a mask.

    Attributes:
        run: What is run, and the image.
        filled: The program's values before a run.
        memo: What rules keep for the masks to come.
    """

    def __init__(self, run: Prepared) -> None:
        """Keep what is run and the image."""
        self.filled = run.filled
        self.memo: dict[int, torch.Tensor] = {}
        self.run = run
        self._values: Values | None = None
        self._rows: dict[int, torch.Tensor] = {}

    def outputs(self) -> list[torch.Tensor]:
        """Return the program's outputs for the image; what they are computed from serves the first ``rows``.

        Raises:
            GraphError: The program refuses the image.
        """
        values = self.values()
        return [values[slot] for slot in self.run.program.outputs]

    def values(self) -> Values:
        """Return all values of the program for the image; not to be changed.

        Raises:
            GraphError: The program refuses the image.
        """
        if self._values is None:
            self._values = self.run.program.trace(self.filled, self.run.single)
        return self._values

    def rows(self, slots: Iterable[int]) -> list[torch.Tensor]:
        """Return the maps in some slots, as rows: (pixels, C), or (features,).

        Raises:
            GraphError: The program refuses the image.
        """
        slots = list(slots)
        missing = [slot for slot in slots if slot not in self._rows]
        if missing:
            values = self._values or self.run.program.trace(self.filled, self.run.single, keep=missing)
            self._values = None
            for slot in missing:
                (first, *_) = values[slot] if isinstance(values[slot], tuple) else (values[slot],)
                self._rows[slot] = first[0].flatten(1).T.contiguous() if first.ndim == 4 else first[0]
        return [self._rows[slot] for slot in slots]


def shapes_of(run: Prepared) -> Example:
    """Run a program on one image and return its values without their numbers.

    Raises:
        GraphError: The program refuses the image.
    """
    return [_without_numbers(value) for value in run.program.trace(run.filled, run.single)]


def _without_numbers(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to("meta")
    return type(value)(map(_without_numbers, value)) if isinstance(value, tuple | list) else value
