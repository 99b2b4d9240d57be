"""What is known of all steps of a recording at once: which they are, when they are shown, and their scalars in short.

Kept are twenty bytes for each step, read from the recording's index in one pass. Steps themselves are read elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentwrap_viewer.recording import Recording
from agentwrap_viewer.recording.scalars import rewards, scalars, values

Floats = NDArray[np.float64]

#: Seconds that playing waits for one step at most: a training run's pauses between two episodes are not waited for.
LONGEST = 1.0

#: Columns of the overview at most: more than a screen is wide.
WIDTH = 2048

#: Steps read at a time: eight indexes of a recording.
PART = 8192

#: What the overview shows, and the charts, in the order of ``page.ring.Series.FIELDS``.
SHOWN = ("reward", "value", "entropy")


@dataclass(frozen=True)
class Overview:
    """Scalars of all steps, reduced to columns.

    Attributes:
        columns: By name, float32 (k, 2): least and largest value of each column's steps, NaN where there is none.
        borders: int64 (m,): positions at which episodes begin, at most as many as there are columns.
        episodes: int64 (m,): numbers of the episodes that begin there.
    """

    columns: dict[str, NDArray[np.float32]]
    borders: NDArray[np.int64]
    episodes: NDArray[np.int64]


@dataclass(frozen=True)
class Columns:
    """All steps of a recording, by their position in it.

    Attributes:
        step: int64 (n,): their numbers, growing.
        episode: int32 (n,): their episodes.
        clock: float64 (n,): seconds from the first until each is shown when played at speed 1: as they were recorded,
            but no faster than the stream's ``fps`` and without long pauses.
        overview: Their scalars in short.
    """

    step: NDArray[np.int64]
    episode: NDArray[np.int32]
    clock: Floats
    overview: Overview

    @classmethod
    def of(cls, recording: Recording) -> Columns:
        """Read them.

        Raises:
            RecordingError: The recording's index cannot be read.
        """
        count = len(recording.steps)
        step, episode, time = np.empty(count, np.int64), np.empty(count, np.int32), np.empty(count)
        shown = {name: np.empty(count, np.float32) for name in SHOWN}
        for begin, end in _parts(count):
            step[begin:end] = recording.array("step", begin, end)
            episode[begin:end] = recording.array("episode", begin, end)
            time[begin:end] = recording.array("time", begin, end)
            for name, part in scalars(recording, begin, end).items():
                shown[name][begin:end] = part
        hello = recording.hello
        clock = playing_times(time, fps=hello.fps if hello is not None else 60.0)
        return cls(step, episode, clock, _overview(episode, shown))

    def position_of(self, step: int) -> int:
        """Return the position of a step by its number, of the next one recorded where it was not; or the last."""
        return min(int(np.searchsorted(self.step, step)), len(self.step) - 1)

    def start_of(self, episode: int) -> int:
        """Return the position at which an episode begins; of the next one recorded, or the last, likewise."""
        start = min(int(np.searchsorted(self.episode, episode)), len(self.episode) - 1)
        return int(np.searchsorted(self.episode, self.episode[start]))


def playing_times(times: Floats, *, fps: float) -> Floats:
    """Return when steps are shown at speed 1, in seconds from the first.

    Args:
        times: float64 (n,): when they were made.
        fps: Most steps per second.
    """
    if not len(times):
        return np.empty(0)
    between = np.nan_to_num(np.diff(times), nan=0.0)
    return np.concatenate([[0.0], np.cumsum(np.clip(between, min(1 / fps, LONGEST), LONGEST))])


def _overview(episode: NDArray[np.int32], shown: dict[str, NDArray[np.float32]]) -> Overview:
    borders = np.flatnonzero(np.diff(episode, prepend=episode[:1] - 1)).astype(np.int64)
    borders = borders[:: max(1, -(-len(borders) // WIDTH))]
    columns = {name: reduced(values) for name, values in shown.items() if np.isfinite(values).any()}
    return Overview(columns, borders, episode[borders].astype(np.int64))


def reduced(values: NDArray[np.float32], width: int = WIDTH) -> NDArray[np.float32]:
    """Return least and largest finite value in each of at most ``width`` equal parts, (k, 2); NaN where none is."""
    count = min(len(values), width)
    begins = np.arange(count) * len(values) // count
    finite = np.where(np.isfinite(values), values, np.nan)
    return np.stack([np.fmin.reduceat(finite, begins), np.fmax.reduceat(finite, begins)], axis=1)


def _parts(count: int) -> Iterator[tuple[int, int]]:
    for begin in range(0, count, PART):
        yield begin, min(begin + PART, count)


def series(recording: Recording, begin: int, end: int) -> NDArray[Any]:
    """Return what the charts draw of some steps: float64 (end - begin, 5) in the order of ``Series.FIELDS``."""
    found = (
        recording.array("step", begin, end),
        rewards(recording, begin, end),
        values(recording, begin, end),
        recording.array("episode_return", begin, end),
        recording.array("episode", begin, end),
    )
    return np.stack([np.asarray(column, np.float64) for column in found], axis=1)
