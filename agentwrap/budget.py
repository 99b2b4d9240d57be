"""How much of the agent's time may be spent for others, and in pieces of what size."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Seconds that a piece of work should take at most: it is what one step is held up by.
PIECE = 0.005


class Budget:
    """So many milliseconds of each second. What is not used is saved, up to a second's worth.

    Args:
        ms_per_s: How many.
        clock: Returns seconds, only going forward.
    """

    def __init__(self, ms_per_s: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self.most = self._rate = ms_per_s / 1000
        self._clock, self._since, self._left = clock, clock(), 0.0

    @property
    def left(self) -> float:
        """Seconds that may be spent now; below 0 where more was spent than there was."""
        now = self._clock()
        self._left = min(self._left + (now - self._since) * self._rate, self.most)
        self._since = now
        return self._left

    def spend(self, seconds: float) -> None:
        """Note what was spent."""
        self._left -= seconds


class Pace:
    """How many rows to give to a policy at a time: the largest power of two that it computes within ``PIECE``.

    Always the same few sizes, for some policies are compiled anew for each. The first call of a size does not count for
    that reason.

    Args:
        most: Most rows.
    """

    def __init__(self, most: int) -> None:
        self.rows = 1
        self._most, self._met = most, set[int]()
        self._fastest: dict[int, float] = {}

    @property
    def expected(self) -> float:
        """Seconds that the next piece will take, as far as that is known; else 0."""
        return self._fastest.get(self.rows, 2 * self._fastest.get(self.rows // 2, 0.0))

    @property
    def single(self) -> float | None:
        """Seconds for a single row, None until it is known."""
        return self._fastest.get(1)

    def took(self, rows: int, seconds: float) -> None:
        """Learn from a piece of so many rows."""
        if rows not in self._met:
            self._met.add(rows)
            return
        fastest = self._fastest[rows] = min(seconds, self._fastest.get(rows, seconds))
        if rows != self.rows:
            return
        if fastest > PIECE:
            self.rows = max(rows // 2, 1)
        elif 2 * rows <= self._most and 2 * fastest <= PIECE and self._fastest.get(2 * rows, 0.0) <= PIECE:
            self.rows = 2 * rows
