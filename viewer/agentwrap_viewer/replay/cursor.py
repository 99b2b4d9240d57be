"""Which step of a recording a tab shows: one held still, or one played at a speed, perhaps over and over."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from agentwrap_protocol.messages import SaliencyMap, Step
from agentwrap_viewer.page.cursor import MAP_LIFE, Cursor

from .store import RecordedStore

#: Steps before the one shown of which the newest map is drawn while none of its own is there.
BACK = 120


class ReplayCursor(Cursor):
    """A tab's place in a recording: paused at its first step at the beginning.

    Args:
        store: The recording.
        clock: Monotonic seconds, for playing.

    Attributes:
        loop: First and last position of the range that is played over and over, or None.
        version: Version of the policy that steps are explained with; None for each step's own.
    """

    speeds: ClassVar[tuple[float, ...]] = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)

    def __init__(self, store: RecordedStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._recorded = store
        self.version: int | None = None
        super().__init__(store, clock=clock)
        self.go(0)

    def live(self) -> None:
        """Show the last step; where the recording is followed, go on with those that come."""
        self.go(self._recorded.steps.last)
        if self._recorded.follows and self.loop is None:
            super().play(1.0)

    def play(self, speed: float | None = None) -> None:
        """Go on from the step shown, at a speed; from the beginning where that is the last one.

        Raises:
            ValueError: The speed is not one of ``speeds``.
        """
        first, last = self._range
        if self.mode != "playing" and self.position >= last and not self._recorded.follows:
            self.go(first)
        super().play(speed)

    def repeat(self, first: int, last: int) -> None:
        """Play a range over and over from now on.

        Raises:
            ValueError: It holds fewer than two steps.
        """
        first, last = max(first, 0), min(last, self._recorded.steps.last)
        if first >= last:
            raise ValueError(f"steps {first} to {last} are no range")
        self.loop = (first, last)
        if not first <= self.position <= last:
            playing = self.mode == "playing"
            self.go(first)
            if playing:
                self.play()

    def repeat_not(self) -> None:
        """Play on beyond the range."""
        self.loop = None

    def choose_version(self, version: int | None) -> None:
        """Explain steps with a version of the policy from now on, with each step's own for None.

        Raises:
            ValueError: The recording does not have it.
        """
        if version is not None and version not in self._recorded.recording.versions:
            raise ValueError(f"version {version} was not recorded")
        self.version = version
        if self._held is not None:
            self._hold(self._held)

    def map_by(self, step: Step, version: int | None) -> SaliencyMap | None:
        """Return the map of a step by a version of the policy; while the view moves else the newest before it."""
        own = self._recorded.map_of(step.step, version)
        return own if own is not None or self.mode == "paused" else self._earlier_map(step, version)

    def wait(self) -> float | None:
        """Return the seconds until the next step is to be shown, or None where only news can change the view."""
        position = self.position
        if self.mode != "playing" or (position == self._recorded.steps.last and self._recorded.follows):
            return None
        return max(0.002, self._until(position) / self.speed - self._played)

    @property
    def _range(self) -> tuple[int, int]:
        return self.loop or (0, self._recorded.steps.last)

    @property
    def _played(self) -> float:
        """Seconds since the anchor."""
        return self._clock() - self._anchor[1]

    def _until(self, position: int) -> float:
        """Seconds of the recording from the anchor until what follows a position is due."""
        times = self._recorded.columns.clock
        if position + 1 < len(times):
            return float(times[position + 1]) - self._anchor[0]
        return float(times[position]) - self._anchor[0] + self._last_period

    @property
    def _last_period(self) -> float:
        times = self._recorded.columns.clock
        return float(times[-1] - times[-2]) if len(times) > 1 else 0.0

    def _advance(self) -> None:
        first, last = self._range
        if self._position <= last:
            reached = self._anchor[0] + self._played * self.speed
            over = self._played * self.speed >= self._until(last)
            shown = int(np.searchsorted(self._recorded.columns.clock, reached, side="right")) - 1
            self._position = min(max(shown, self._position), last)
        else:
            over = True  # beyond the range, by hand
        if not over or (self.loop is None and self._recorded.follows):
            return
        if self.loop is None:
            self.mode = "paused"
        else:
            self._position = first
            self._drop_anchor()

    def _drop_anchor(self) -> None:
        self._anchor = (float(self._recorded.columns.clock[self._position]), self._clock())

    def _map_of(self, step: Step) -> SaliencyMap | None:
        return self._recorded.map_of(step.step, self.version)

    def _earlier_map(self, step: Step, version: int | None = None) -> SaliencyMap | None:
        columns, position = self._recorded.columns, self._position
        version = self.version if version is None else version
        for earlier in range(position - 1, max(position - BACK, 0) - 1, -1):
            if columns.episode[earlier] != step.episode or columns.clock[position] - columns.clock[earlier] > MAP_LIFE:
                return None
            known = self._recorded.map_of(int(columns.step[earlier]), version)
            if known is not None:
                return known
        return None
