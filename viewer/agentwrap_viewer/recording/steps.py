"""The steps of a recording as a sequence, read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import overload

from agentwrap_protocol.messages import Step


class Steps(Sequence[Step]):
    """Steps in order: ``steps[i]``, ``steps[-1]``, ``len(steps)``, loops; a slice is another such sequence.

    Args:
        read: Returns the step at an index from 0.
        indices: Which of the recording's steps these are.
    """

    def __init__(self, read: Callable[[int], Step], indices: range) -> None:
        self._read, self.indices = read, indices

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Step: ...
    @overload
    def __getitem__(self, index: slice) -> Steps: ...
    def __getitem__(self, index: int | slice) -> Step | Steps:
        if isinstance(index, slice):
            return Steps(self._read, self.indices[index])
        if not -len(self) <= index < len(self):
            raise IndexError(f"there is no step at {index:,}: there are {len(self):,}, counted from 0")
        return self._read(self.indices[index])

    def __iter__(self) -> Iterator[Step]:
        return (self._read(index) for index in self.indices)

    def __repr__(self) -> str:
        return f"<{len(self):,} steps>"
