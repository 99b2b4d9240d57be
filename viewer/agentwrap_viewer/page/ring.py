"""Bounded memories: steps by position, scalars by position, maps by step."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agentwrap_protocol.messages import Message, SaliencyMap, Step

#: What a message takes besides its arrays' bytes: objects, dictionaries, the deque's slots. Measured, rounded up.
OVERHEAD = 2048


def size_of(message: Message) -> int:
    """Return about how many bytes a message keeps in memory."""
    return OVERHEAD + sum(array.nbytes + 256 for array in message.arrays.values())


class Older(Protocol):
    """Where steps go that memory has no room for; see ``spool.Spool``."""

    @property
    def first(self) -> int: ...  # noqa: D102
    @property
    def end(self) -> int: ...  # noqa: D102
    def append(self, position: int, step: Step) -> None: ...  # noqa: D102
    def at(self, position: int) -> Step | None: ...  # noqa: D102
    def position_of(self, step: int) -> int | None: ...  # noqa: D102


class StepRing:
    """The newest steps, each at a position that counts from 0 and never changes.

    Args:
        max_bytes: Bytes to keep in memory. The newest step stays even where it alone is larger.
        max_steps: Steps to keep in memory.
        older: Takes over those that are kept there no more, so that they can still be had; None forgets them.
    """

    def __init__(self, max_bytes: int, max_steps: int, older: Older | None = None) -> None:
        self.max_bytes, self.max_steps = max_bytes, max_steps
        self._older = older
        self.bytes = 0
        self._steps: deque[Step] = deque()
        self._first = 0
        self._position_of: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self._steps)

    @property
    def first(self) -> int:
        """Position of the oldest step that can be had."""
        older = self._older
        return older.first if older is not None and older.end == self._first else self._first

    @property
    def last(self) -> int:
        """Position of the newest step; one less than ``first`` where there is none."""
        return self._first + len(self._steps) - 1

    def append(self, step: Step) -> None:
        """Add the newest step; hand the oldest over until the rest fits."""
        self._steps.append(step)
        self._position_of[step.step] = self.last
        self.bytes += size_of(step)
        while len(self._steps) > 1 and (self.bytes > self.max_bytes or len(self._steps) > self.max_steps):
            oldest = self._steps.popleft()
            self._position_of.pop(oldest.step, None)
            if self._older is not None:
                self._older.append(self._first, oldest)
            self._first += 1
            self.bytes -= size_of(oldest)

    def at(self, position: int) -> Step | None:
        """Return the step at a position, or None where it is not (or no longer) kept."""
        index = position - self._first
        if index < 0 and self._older is not None:
            return self._older.at(position)
        return self._steps[index] if 0 <= index < len(self._steps) else None

    def position_of(self, step: int) -> int | None:
        """Return the position of the env's step of this number, or None."""
        position = self._position_of.get(step)
        return self._older.position_of(step) if position is None and self._older is not None else position


class Series:
    """Scalars of the newest steps, at the same positions as in ``StepRing``. Takes memory as it fills.

    Args:
        length: Steps to keep.
    """

    FIELDS = ("step", "reward", "value", "return", "episode")

    def __init__(self, length: int) -> None:
        self.length = length
        self.count = 0  #: Steps added so far, which is the next position
        self._rows = np.empty((min(length, 1024), len(self.FIELDS)))

    @property
    def first(self) -> int:
        """Position of the oldest entry kept."""
        return max(0, self.count - self.length)

    def append(self, step: int, reward: float, value: float, episode_return: float, episode: int) -> None:
        """Add the newest step's scalars; ``value`` is NaN where the policy has none."""
        if self.count == len(self._rows) < self.length:
            self._rows = np.resize(self._rows, (min(2 * self.count, self.length), len(self.FIELDS)))
        self._rows[self.count % self.length] = (step, reward, value, episode_return, episode)
        self.count += 1

    def since(self, position: int) -> tuple[int, NDArray[np.float64]]:
        """Return (start, rows): all entries kept from ``position`` on, float64 (k, 5) in the order of ``FIELDS``."""
        return self.between(position, self.count)

    def between(self, begin: int, end: int) -> tuple[int, NDArray[np.float64]]:
        """Return (start, rows): the entries kept from position ``begin`` to before ``end``, likewise."""
        start = min(max(begin, self.first), self.count)
        return start, self._rows[np.arange(start, min(max(end, start), self.count)) % self.length]


class MapShelf:
    """For each step its best map: of the newest method and options, the most refined.

    Args:
        max_bytes: Bytes to keep; the maps that arrived first go first.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.newest: SaliencyMap | None = None
        self._maps: OrderedDict[int, SaliencyMap] = OrderedDict()

    def __len__(self) -> int:
        return len(self._maps)

    def get(self, step: int) -> SaliencyMap | None:
        """Return the best map of a step, or None."""
        return self._maps.get(step)

    def put(self, message: SaliencyMap) -> bool:
        """Keep a map if it is better than what there is for its step; return whether it was."""
        known = self._maps.get(message.step)
        if known is not None:
            if _same_kind(known, message) and message.refined < known.refined:
                return False
            self.bytes -= size_of(known)
        self._maps[message.step] = message
        self.bytes += size_of(message)
        while len(self._maps) > 1 and self.bytes > self.max_bytes:
            _, oldest = self._maps.popitem(last=False)
            self.bytes -= size_of(oldest)
        if self.newest is None or message.step >= self.newest.step:
            self.newest = message
        return True


def _same_kind(one: SaliencyMap, other: SaliencyMap) -> bool:
    alike = (one.method, one.options, one.target) == (other.method, other.options, other.target)
    return alike and one.policy_version == other.policy_version
