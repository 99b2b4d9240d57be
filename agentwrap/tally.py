"""How each of several environments does: returns and lengths of episodes, counted in a few operations for all."""

from __future__ import annotations

import time
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .arrays import Array

#: When a sub-environment whose episode is over begins the next one: with the step after it, which only resets, within
#: the same step, or when the user resets it (``gymnasium.vector.AutoresetMode``).
Autoreset = Literal["NextStep", "SameStep", "Disabled"]


class Tally:
    """Counts what vector environments return. Written by the agent's thread, read by others too.

    Args:
        count: Number of sub-environments, n.
        autoreset: When the next episode begins.

    Attributes:
        episodes: Episodes ended, int64 (n,).
        last: Return of the newest of them, float64 (n,), NaN where there is none.
        running: Return so far of the episode in progress, float64 (n,).
        began: When that began, in seconds of ``time.perf_counter``, float64 (n,).
        autoreset: When the next episode begins.
        resetting: Those that begin anew with the next step, which is none of their steps, (n,), or None.
    """

    def __init__(self, count: int, autoreset: Autoreset) -> None:
        self.episodes = np.zeros(count, np.int64)
        self.last = np.full(count, np.nan)
        self.running = np.zeros(count)
        self.began = np.full(count, time.perf_counter())
        self.resetting: NDArray[np.bool_] | None = None
        self.autoreset = autoreset
        self._ended: Any = ()  # those of ``resetting``, for indexing
        self._steps = 0
        self._first = np.zeros(count, np.int64)  # number of the step with which each episode began

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Steps so far of the episodes in progress, int64 (n,)."""
        return np.maximum(self._steps - self._first, 0)

    def step(self, rewards: Any, terminations: Any, truncations: Any) -> None:
        """Count a step of all, by what it returned, each (n,)."""
        if self.resetting is not None:
            self._restart(self._ended, after=1)
            self.resetting = None
        self._steps += 1
        np.add(self.running, rewards, out=self.running)
        if np.count_nonzero(terminations) or np.count_nonzero(truncations):
            self._end(np.asarray(np.logical_or(terminations, truncations)))

    def _restart(self, which: Any, *, after: int) -> None:
        """Begin new episodes of some; ``after`` so many steps comes their first."""
        self.running[which] = 0.0
        self._first[which] = self._steps + after
        self.began[which] = time.perf_counter()

    def reset(self, mask: NDArray[np.bool_] | None = None) -> None:
        """Take note that the user has reset all, or some."""
        self._restart(slice(None) if mask is None else _few(mask), after=0)
        if mask is None:
            self.resetting = None
        elif self.resetting is not None:
            self.resetting &= ~mask
            self._ended = _few(self.resetting)

    def _end(self, done: NDArray[np.bool_]) -> None:
        which = self._ended = _few(done)
        self.episodes[which] += 1
        self.last[which] = self.running[which]
        if self.autoreset == "NextStep":
            self.resetting = done
        elif self.autoreset == "SameStep":
            self._restart(which, after=0)

    def arrays(self) -> dict[str, Array]:
        """Return the arrays of an ``environments`` message, of this moment."""
        return {
            "episodes": self.episodes.copy(),
            "return": self.last.copy(),
            "running": self.running.copy(),
            "length": self.lengths,
        }

    def pick(self, follow: str) -> int:
        """Return the index of an environment.

        Args:
            follow: ``best`` or ``worst`` (its last episode returned most or least; where none has ended, the one in
                progress counts) or ``newest`` (its episode began last).
        """
        if follow == "newest":
            return int(np.argmax(self.began))
        scores = self.running if np.isnan(self.last).all() else self.last
        if follow == "best":
            return int(np.argmax(np.nan_to_num(scores, nan=-np.inf)))
        return int(np.argmin(np.nan_to_num(scores, nan=np.inf)))


def _few(mask: NDArray[np.bool_]) -> Any:
    """The same as a mask for indexing; where it is about one environment, as a number, in a tenth of the time."""
    which = np.asarray(mask).nonzero()[0]
    return which.item() if len(which) == 1 else which
