"""What is known of all steps of a recording at once: which they are, when they are shown, and their scalars in short.

Kept are thirty-two bytes for each step, read from the recording's index. Steps themselves are read elsewhere.
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
        shown: float32 (n,) each: their scalars by name, those of ``SHOWN``.
        overview: These in short.
    """

    step: NDArray[np.int64]
    episode: NDArray[np.int32]
    clock: Floats
    shown: dict[str, NDArray[np.float32]]
    overview: Overview

    @classmethod
    def of(cls, recording: Recording, known: Columns | None = None) -> Columns:
        """Read them.

        Args:
            recording: The recording.
            known: What was read of it when it had fewer steps: only those that came since are read.

        Raises:
            RecordingError: The recording's index cannot be read.
        """
        first, count = 0 if known is None else len(known.step), len(recording.steps)
        step, episode = np.empty(count - first, np.int64), np.empty(count - first, np.int32)
        shown = {name: np.empty(count - first, np.float32) for name in SHOWN}
        for begin, end in _parts(first, count):
            rows = slice(begin - first, end - first)
            step[rows] = recording.array("step", begin, end)
            episode[rows] = recording.array("episode", begin, end)
            for name, part in scalars(recording, begin, end).items():
                shown[name][rows] = part
        clock = _clock(recording, first, 0.0 if known is None else float(known.clock[-1]))
        if known is not None:
            step, episode = np.concatenate([known.step, step]), np.concatenate([known.episode, episode])
            clock = np.concatenate([known.clock, clock])
            shown = {name: np.concatenate([known.shown[name], part]) for name, part in shown.items()}
        return cls(step, episode, clock, shown, _overview(episode, shown))

    def position_of(self, step: int) -> int:
        """Return the position of a step by its number, of the next one recorded where it was not; or the last."""
        return min(int(np.searchsorted(self.step, step)), len(self.step) - 1)

    def start_of(self, episode: int) -> int:
        """Return the position at which an episode begins; of the next one recorded, or the last, likewise."""
        start = min(int(np.searchsorted(self.episode, episode)), len(self.episode) - 1)
        return int(np.searchsorted(self.episode, self.episode[start]))


def _clock(recording: Recording, first: int, before: float) -> Floats:
    """Return when the steps from ``first`` on are shown, given when the one before them is."""
    overlap, count = max(first - 1, 0), len(recording.steps)
    times = np.empty(count - overlap)
    for begin, end in _parts(overlap, count):
        times[begin - overlap : end - overlap] = recording.array("time", begin, end)
    hello = recording.hello
    return before + playing_times(times, fps=hello.fps if hello is not None else 60.0)[first - overlap :]


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


def _parts(first: int, count: int) -> Iterator[tuple[int, int]]:
    for begin in range(first, count, PART):
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
