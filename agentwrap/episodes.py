"""The episodes that ended so far, for viewers that join late."""

from __future__ import annotations

import math
import threading
from collections import deque

import numpy as np

from .arrays import Array

#: Episodes kept.
KEPT = 1000


class EpisodeLog:
    """The newest episodes. Written by the agent's thread, read by the publisher's."""

    def __init__(self) -> None:
        self._episodes: deque[tuple[int, float, int]] = deque(maxlen=KEPT)
        self._lock = threading.Lock()

    def add(self, number: int, episode_return: float, length: int) -> None:
        """Append an episode."""
        with self._lock:
            self._episodes.append((number, episode_return, length))

    @property
    def newest_return(self) -> float:
        """Return of the newest episode, NaN where none has ended."""
        with self._lock:
            return self._episodes[-1][1] if self._episodes else math.nan

    def arrays(self) -> dict[str, Array]:
        """Return the arrays of a hello message: ``episodes/number``, ``episodes/return``, ``episodes/length``."""
        with self._lock:
            episodes = list(self._episodes)
        numbers, returns, lengths = zip(*episodes, strict=True) if episodes else ((), (), ())
        return {
            "episodes/number": np.array(numbers, np.int64),
            "episodes/return": np.array(returns, np.float64),
            "episodes/length": np.array(lengths, np.int64),
        }
