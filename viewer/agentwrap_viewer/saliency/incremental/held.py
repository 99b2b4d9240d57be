"""Memory of their own for what plans keep.

What is kept for long, made in between what comes and goes, tears the heap: of VGG-16's plans each kept 0.7 MB and left
30 MB of the process's memory behind, which no later table fitted into.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence

import torch

#: Bytes that are asked of the system at a time. Pages that nobody writes to take none.
PAGES = 2**20

#: Tensors begin at multiples of so many bytes, a cache line's.
_LINE = 64


class Held:
    """The tensors of one plan; their memory is given back when none of them is used any more.

    Attributes:
        bytes: How much they take, all together.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.bytes = 0
        self._pages: mmap.mmap | None = None
        self._next = 0

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor as it is kept: a copy, or itself where it lies on another device than the processor."""
        if tensor.device.type != "cpu":
            self.bytes += tensor.nbytes
            return tensor
        return self.zeros(tensor.shape, tensor.dtype).copy_(tensor)

    def zeros(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return a tensor of zeros on the processor, which takes memory only where something is written to it."""
        empty = torch.empty(tuple(shape), dtype=dtype, device="meta")
        if not empty.numel():
            return torch.zeros(tuple(shape), dtype=dtype)
        if self._pages is None or self._next + empty.nbytes > len(self._pages):
            self._pages, self._next = mmap.mmap(-1, max(PAGES, empty.nbytes)), 0
        found = torch.frombuffer(self._pages, dtype=dtype, count=empty.numel(), offset=self._next).view(empty.shape)
        self._next += -(-empty.nbytes // _LINE) * _LINE
        self.bytes += empty.nbytes
        return found
