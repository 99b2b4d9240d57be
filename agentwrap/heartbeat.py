"""When a stream's heartbeats are due, and what they say."""

from __future__ import annotations

import math
import time
from typing import NamedTuple

from agentwrap_protocol.messages import Heartbeat

#: Seconds between heartbeats.
INTERVAL = 1.0


class Progress(NamedTuple):
    """How far an agent is: ``Heartbeat`` says what each means."""

    step: int
    episode: int
    recorded: int = 0
    recording_wait: float = 0.0


class Heartbeats:
    """One a second from when somebody begins to listen, and one at the end."""

    def __init__(self) -> None:
        self._next = self._last = 0.0
        self._step_at_last = 0
        self._pace = 0.0

    def begin(self, step: int) -> None:
        """The next one is due a second from now, and tells the pace from this step on."""
        self._last = time.monotonic()
        self._next = self._last + INTERVAL
        self._step_at_last = step

    @property
    def due(self) -> bool:
        """Whether the time for the next one has come."""
        return time.monotonic() >= self._next

    @property
    def milliseconds(self) -> int:
        """Milliseconds until it comes."""
        return max(0, math.ceil((self._next - time.monotonic()) * 1000))

    def make(self, stream: str, reached: Progress, *, sent: int, dropped: int) -> Heartbeat:
        """Make the one that is due, or the last of all, and begin to wait for the next.

        Args:
            stream: Identity of the stream.
            reached: How far the agent is.
            sent: Steps sent so far.
            dropped: Steps dropped so far, since those who send were too slow.
        """
        now = time.monotonic()
        if self.due or not self._pace:  # the last of all comes early: its own time may be next to nothing
            self._pace = (reached.step - self._step_at_last) / max(now - self._last, 1e-3)
        beat = Heartbeat(
            stream=stream,
            time=time.time(),
            step=reached.step,
            episode=reached.episode,
            steps_per_second=self._pace,
            sent=sent,
            dropped=dropped,
            recorded=reached.recorded,
            recording_wait=reached.recording_wait,
        )
        self._last, self._next, self._step_at_last = now, now + INTERVAL, reached.step
        return beat
