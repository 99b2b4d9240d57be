"""Figures about a run of the viewer: what ``agentwrap demo --json`` prints and the status line shows."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

from agentwrap_protocol.messages import Heartbeat, SaliencyMap, Step

#: Samples kept for a median. At 30 maps a second these are the last two minutes.
SAMPLES = 4096


class Statistics:
    """Counts and times of the steps and maps of one stream, in bounded memory.

    Args:
        clock: Seconds since the epoch. Latencies compare it with the sender's clock, so they hold on one machine.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.steps_received = 0
        self.steps_missed = 0  #: Step messages that did not arrive
        self.maps = 0
        self.replica_max_abs_diff: float | None = None
        self._map_seconds: deque[float] = deque(maxlen=SAMPLES)
        self._step_to_map: deque[float] = deque(maxlen=SAMPLES)
        self._arrivals: deque[float] = deque(maxlen=SAMPLES)
        self._first: Step | None = None
        self._last: Step | None = None
        self._map_of: int | None = None
        self._heartbeat: Heartbeat | None = None

    def on_step(self, step: Step) -> None:
        """Count a step message."""
        self._first = self._first or step
        self._last = step
        self.steps_received += 1

    def on_heartbeat(self, heartbeat: Heartbeat) -> None:
        """Take over what the agent reports of itself."""
        self._heartbeat = heartbeat

    def on_map(self, message: SaliencyMap) -> None:
        """Count a map: its step the first time, its duration when it replaces a coarser one of the same step."""
        if message.step == self._map_of and self._map_seconds:
            self._map_seconds[-1] = message.seconds
        else:
            self._map_of = message.step
            self.maps += 1
            self._map_seconds.append(message.seconds)
            self._arrivals.append(self._clock())
            if message.step_time:
                self._step_to_map.append(self._clock() - message.step_time)
        if message.replica_max_abs_diff is not None and not message.policy_stale:
            self.replica_max_abs_diff = max(self.replica_max_abs_diff or 0.0, message.replica_max_abs_diff)

    @property
    def dropped(self) -> int:
        """Step messages that the agent dropped or the network lost."""
        return self.steps_missed + (self._heartbeat.dropped if self._heartbeat else 0)

    @property
    def steps_per_s(self) -> float:
        """Steps of the env per second from the first step received to the last."""
        if self._first is None or self._last is None or self._last.time <= self._first.time:
            return 0.0
        return (self._last.step - self._first.step) / (self._last.time - self._first.time)

    @property
    def maps_per_s(self) -> float:
        """Steps that got a map per second, from the first map to the last (of the last 4,096)."""
        if len(self._arrivals) < 2 or self._arrivals[-1] <= self._arrivals[0]:
            return 0.0
        return (len(self._arrivals) - 1) / (self._arrivals[-1] - self._arrivals[0])

    def as_dict(self) -> dict[str, Any]:
        """Return the figures under the names of the ``--json`` output; times in milliseconds, None where unknown."""
        steps = self._heartbeat.step if self._heartbeat else 0
        if self._last is not None:
            steps = max(steps, self._last.step + 1)
        return {
            "steps": steps,
            "maps": self.maps,
            "maps_per_s": round(self.maps_per_s, 2),
            "map_ms_p50": _median_ms(self._map_seconds),
            "step_to_map_ms_p50": _median_ms(self._step_to_map),
            "steps_per_s": round(self.steps_per_s, 2),
            "dropped": self.dropped,
            "replica_max_abs_diff": _finite(self.replica_max_abs_diff),
        }


def _median_ms(seconds: Iterable[float]) -> float | None:
    values = list(seconds)
    return round(1000 * median(values), 2) if values else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
