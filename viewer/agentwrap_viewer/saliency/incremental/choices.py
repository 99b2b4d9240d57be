"""Choices between ways that give the same numbers, made by measuring both on first use."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import torch
import torch.nn.functional as F

from .costs import fastest

#: Most multiply-adds of what is measured (a tenth of a millisecond or two), and most windows.
_MOST_MULTIPLY_ADDS, _MOST_WINDOWS = 2**23, 16


@dataclass(frozen=True)
class Convolution:
    """A convolution of windows; equal to others whose windows differ.

    Those of two plans differ by a pixel or two. To measure each of them took longer than it gave, and the weights made
    for it left holes in the heap, half a gigabyte on VGG-16.

    Attributes:
        device: Where.
        threads: torch's threads.
        of: The numbers that are multiplied.
        weight: The weight's shape (O, C, h, w).
        stride: Of the convolution.
        dilation: Likewise.
        window: Height and width of what one window reads.
    """

    device: torch.device
    threads: int
    of: torch.dtype
    weight: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    window: tuple[int, int] = field(compare=False)


@cache
def channels_last(layer: Convolution) -> bool:
    """Whether windows of a convolution are computed faster with channels last, as tables have them, than turned.

    Measured once for each convolution of a process, by the first windows it is asked about: what lies in a table is
    given to it as it is, or turned, and the result turned back.
    """
    device, of, stride, dilation = layer.device, layer.of, layer.stride, layer.dilation
    out, channels, *kernel = layer.weight
    sides = [
        (length - apart * (taps - 1) - 1) // step + 1
        for length, apart, taps, step in zip(layer.window, dilation, kernel, stride, strict=True)
    ]
    each = out * channels * kernel[0] * kernel[1] * sides[0] * sides[1]
    count = max(1, min(_MOST_WINDOWS, _MOST_MULTIPLY_ADDS // each))
    last = torch.randn(count, *layer.window, channels, device=device).to(of).permute(0, 3, 1, 2)
    by_pixel = torch.randn(layer.weight, device=device).to(of).contiguous(memory_format=torch.channels_last)
    by_channel = by_pixel.contiguous()
    rows = torch.empty(count * sides[0] * sides[1], out, device=device)

    def straight() -> None:
        found = F.conv2d(last, by_pixel, None, stride, 0, dilation)
        rows.copy_(found.permute(0, 2, 3, 1).reshape(-1, out))

    def turned() -> None:
        found = F.conv2d(last.contiguous(), by_channel, None, stride, 0, dilation)
        rows.copy_(found.permute(0, 2, 3, 1).reshape(-1, out))

    return fastest([straight, turned], device) == 0
