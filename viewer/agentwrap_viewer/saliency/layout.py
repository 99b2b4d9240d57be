"""Where an observation's pixels are: the axes of height and width, and the axis along which frames are stacked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from .errors import SaliencyError

Channels = Literal["auto", "first", "last", "none"]
Kind = Literal["image", "vector"]

#: Element types of numbers that count something out. Those of one byte are pixels and switches.
_COUNTING = frozenset({torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64})


@dataclass(frozen=True)
class Layout:
    """How an observation (without batch axis) is laid out.

    Attributes:
        shape: The observation's shape.
        axes: Axes of height and width, or None for a vector.
        stack: Axis along which frames follow one another, oldest first, or None.
        discrete: Whether the numbers of a vector count something out: none between two of them means anything.
    """

    shape: tuple[int, ...]
    axes: tuple[int, int] | None
    stack: int | None = None
    discrete: bool = False

    @property
    def kind(self) -> Kind:
        """``image`` or ``vector``."""
        return "vector" if self.axes is None else "image"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        if self.axes is None:
            raise SaliencyError(f"an observation of shape {self.shape} has no height and width")
        return self.shape[self.axes[0]], self.shape[self.axes[1]]

    def spread(self, masks: torch.Tensor) -> torch.Tensor:
        """Turn masks (B, H, W) into a view that broadcasts over a batch of observations (B, *shape)."""
        y, x = self.axes or (0, 0)
        shape = [1] * len(self.shape)
        shape[y], shape[x] = masks.shape[1], masks.shape[2]
        return masks.reshape(len(masks), *shape)

    def newest_only(self, change: torch.Tensor) -> torch.Tensor:
        """Return a change (*shape) that is zero but for the newest frame of the stack."""
        if self.stack is None:
            return change
        kept = torch.zeros_like(change)
        newest = kept.narrow(self.stack, self.shape[self.stack] - 1, 1)
        newest.copy_(change.narrow(self.stack, self.shape[self.stack] - 1, 1))
        return kept


def is_counting(shape: tuple[int, ...], dtype: torch.dtype) -> bool:
    """Whether elements may count something out: those of wide integers, and any integer that is alone."""
    return dtype in _COUNTING or not (shape or dtype.is_floating_point)


def layout_of_entry(shape: tuple[int, ...], dtype: torch.dtype, channels: Channels = "auto") -> Layout | None:
    """Tell the layout of an entry of a dict or tuple; None where it is none that could be explained.

    A number that is alone is a vector of one, for the other entries are there to compare it with. Integers that count
    something out are a vector at most.

    Args:
        shape: Its shape, without batch axis.
        dtype: Its element type.
        channels: As for ``layout_of``.
    """
    counting = is_counting(shape, dtype)
    if 0 in shape or len(shape) > (1 if counting else 4):
        return None
    return replace(layout_of(shape or (1,), channels), discrete=counting)


def layout_of(shape: tuple[int, ...], channels: Channels = "auto") -> Layout:
    """Tell the layout of an observation from its shape.

    One axis is a vector, two are height and width. Of three, ``channels="auto"`` takes the smaller of the first and the
    last for the channels, and the first where they are equal. Four are a stack of such images, stacked along the first
    axis.

    Args:
        shape: Shape of one observation, without batch axis.
        channels: ``first`` (C, H, W), ``last`` (H, W, C), ``none`` (no axis of channels: three axes are then frames,
            height and width), or ``auto``.

    Raises:
        SaliencyError: The shape is neither a vector's nor an image's, or ``channels`` is unknown.
    """
    if channels not in ("auto", "first", "last", "none"):
        raise SaliencyError(f"channels={channels!r} is not one of 'auto', 'first', 'last', 'none'")
    if not shape:
        raise SaliencyError("an observation that is a single number has no parts of which one could matter more")
    if 0 in shape or not 1 <= len(shape) <= 4:
        raise SaliencyError(f"an observation of shape {shape} is neither a vector nor an image nor a stack of images")
    if len(shape) == 1:
        return Layout(shape, None)
    if len(shape) == 2:
        return Layout(shape, (0, 1))
    first = len(shape) - 3  # the axis where an image (three axes) begins
    last = channels == "last" or (channels == "auto" and shape[-1] < shape[first])
    axes = (first, first + 1) if last else (first + 1, first + 2)
    if first:
        return Layout(shape, axes, stack=0)
    return Layout(shape, axes, stack=2 if last else 0)
