"""What gradients say that each mask changes: all masks at once, from one pass back through the program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch

from agentwrap_viewer.program import Values
from agentwrap_viewer.replica import Prepared

from .backward import Keep, gradients


@runtime_checkable
class Summing(Protocol):
    """Masks under which planes can be summed without making them."""

    def sums(self, planes: torch.Tensor) -> torch.Tensor:
        """Return the sum of each plane (…, H, W) under each mask, (…, count)."""


def slopes(
    run: Prepared,
    clean: Values,
    change: torch.Tensor,
    axes: tuple[int, int],
    directions: Mapping[int, torch.Tensor],
    keep: Keep,
) -> torch.Tensor | None:
    """Return how fast outputs change when pixels of the image go towards ``image + change``.

    Args:
        run: The program, prepared for one row.
        clean: Its values for the image. They stay as they are.
        change: What a mask of ones adds to the image, (1, *shape).
        axes: Where its height and width are.
        directions: By slot of an output, what is looked at: (K, numbers of that output). Row k of the result is about
            the sum of the outputs' products with the directions' rows k.
        keep: Keeps what follows from weights.

    Returns:
        (K, H, W): the product with a mask, summed, is how much that mask adds, to first order. None where the program
        has no derivative.
    """
    try:
        found = gradients(run.program, clean, run.program.inputs[run.place], directions, keep)
    except RuntimeError:  # what torch says of what has no derivative
        return None
    product = found[:, 0].contiguous() * change
    others = [axis for axis in range(1, product.ndim) if axis not in axes]
    planes = product.sum(others) if others else product
    return planes if axes[0] < axes[1] else planes.mT
