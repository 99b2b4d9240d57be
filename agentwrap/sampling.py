"""Which steps are sent."""

from __future__ import annotations

#: Last steps of episodes that may be sent beside the sampled ones: so many at once, and so many per second.
LAST_STEPS = 10.0


class Sampler:
    """Picks steps, at most ``fps`` per second, evenly where steps come faster.

    The last step of an episode is known as such only when it is over. It may be sent even where it was not picked, so
    that viewers see how episodes end; a token bucket bounds that, so that an environment with thousands of short
    episodes per second does not flood them.

    Args:
        fps: Most picked steps per second.
    """

    def __init__(self, fps: float) -> None:
        self._interval = 1.0 / fps
        self._due = 0.0
        self._tokens, self._refilled = LAST_STEPS, 0.0

    def pick(self, now: float) -> bool:
        """Whether to send the step that begins now (seconds on any clock that runs evenly)."""
        if now < self._due:
            return False
        late = now - self._due
        # on time, the schedule goes on from where it should have been, or the rate would sag by the length of a step
        self._due = self._due + self._interval if late < self._interval else now + self._interval
        return True

    def pick_last(self, now: float) -> bool:
        """Whether to send an episode's last step, which was not picked."""
        self._tokens = min(LAST_STEPS, self._tokens + (now - self._refilled) * LAST_STEPS)
        self._refilled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
