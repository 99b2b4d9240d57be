"""The bar at the bottom over a recording: what happened in it from end to end, and the controls of playing it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agentwrap_viewer.page.marks import LONGEST_TEXT, Marks
from agentwrap_viewer.page.view import View

from .element import Element


class TimelineElement(Element):
    """Draws the timeline and the bar, and listens for the keys: space, arrows, Home, End, Page up and down."""

    _module = "timeline"


class Overview(Protocol):
    """Scalars of all steps of a recording, reduced to columns.

    Attributes:
        columns: By name, float32 (k, 2): least and largest value in each of k equal parts.
        borders: int64 (m,): positions at which episodes begin.
        episodes: int64 (m,): their numbers.
    """

    @property
    def columns(self) -> dict[str, NDArray[np.float32]]: ...  # noqa: D102
    @property
    def borders(self) -> NDArray[np.int64]: ...  # noqa: D102
    @property
    def episodes(self) -> NDArray[np.int64]: ...  # noqa: D102


class Columns(Protocol):
    """What is known of all steps of a recording, by their position.

    Attributes:
        step: int64 (n,): their numbers.
        episode: int32 (n,): their episodes.
        clock: float64 (n,): seconds from the first until each is shown when played at speed 1.
        overview: Their scalars in short.
    """

    @property
    def step(self) -> NDArray[np.int64]: ...  # noqa: D102
    @property
    def episode(self) -> NDArray[np.int32]: ...  # noqa: D102
    @property
    def clock(self) -> NDArray[np.float64]: ...  # noqa: D102
    @property
    def overview(self) -> Overview: ...  # noqa: D102


class Timeline:
    """Source of the timeline for one tab: sent once, and again where the recording has grown.

    Args:
        columns: Returns what it shows.
    """

    name = "timeline"

    def __init__(self, columns: Callable[[], Columns]) -> None:
        self._columns, self._sent = columns, 0

    def update(self, view: View) -> dict[str, Any] | None:
        """Return ``lanes`` of ``name`` and ``values`` float32 (k, 2), episodes' ``borders`` and ``episodes``."""
        columns = self._columns()
        if len(columns.step) == self._sent and not view.fresh:
            return None
        self._sent, overview = len(columns.step), columns.overview
        return {
            "count": self._sent,
            "lanes": [{"name": name, "values": view.packet.array(values)} for name, values in overview.columns.items()],
            "borders": overview.borders.tolist(),
            "episodes": overview.episodes.tolist(),
        }


class Marked:
    """Source of the timeline's marks for one tab: sent anew when they have changed.

    Args:
        marks: What is marked.
        position_of: Returns the position of a step by its number.
    """

    name = "marks"

    def __init__(self, marks: Marks, position_of: Callable[[int], int]) -> None:
        self._marks, self._position_of = marks, position_of
        self._version = -1

    def update(self, view: View) -> dict[str, Any] | None:
        """Return ``items`` of ``position``, ``step``, ``kind`` and ``text``, in the order of steps."""
        if self._marks.version == self._version and not view.fresh:
            return None
        self._version = self._marks.version
        return {
            "items": [
                {
                    "position": self._position_of(mark.step),
                    "step": mark.step,
                    "kind": mark.kind,
                    "text": mark.text[:LONGEST_TEXT],
                }
                for mark in self._marks.all
            ]
        }


class Playback:
    """Source of the bar for one tab.

    Args:
        columns: Returns what is known of the steps.
        stream: Identity of the stream that was recorded, by which a tab that is loaded anew knows its place again.
    """

    name = "transport"

    def __init__(self, columns: Callable[[], Columns], stream: str | None) -> None:
        self._columns, self._stream = columns, stream

    def update(self, view: View) -> dict[str, Any]:
        """Return mode, speed, the step shown and where it is, in steps and in seconds, and the range repeated."""
        cursor, step, columns = view.cursor, view.step, self._columns()
        position = cursor.position
        return {
            "mode": cursor.mode,
            "speed": cursor.speed,
            "speeds": list(cursor.speeds),
            "follow": cursor.follow,
            "step": step.step if step is not None else None,
            "episode": step.episode if step is not None else None,
            "position": position,
            "first": 0,
            "last": len(columns.clock) - 1,
            "last_step": int(columns.step[-1]),
            "last_episode": int(columns.episode[-1]),
            "seconds": float(columns.clock[position]),
            "duration": float(columns.clock[-1]),
            "loop": cursor.loop,
            "stream": self._stream,
        }
