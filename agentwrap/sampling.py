"""Which steps are sent."""

from __future__ import annotations

import math
from collections import deque

#: Share of the steps that may be last steps which were not picked.
LAST_SHARE = 1 / 6

#: Steps by which ``soon`` guesses. An agent that takes several for each call of its policy pauses once in so many.
REMEMBERED = 8


class Sampler:
    """Picks steps, at most ``fps`` per second, evenly where steps come faster.

    The last step of an episode is known as such only when it is over. It may be sent even where it was not picked, in
    place of one that would have been next, so that viewers see how they end. A token bucket holds that to a share of
    all steps: an environment with a thousand short episodes per second would show nothing but ends.

    Looking closely at a step has to begin before the policy is called for it, when nobody knows yet how long that will
    take. So ``soon`` guesses: as long as at most in the last few steps, for too soon costs little.

    Args:
        fps: Most steps per second.
    """

    def __init__(self, fps: float) -> None:
        self._interval = 1.0 / fps
        self._due = 0.0
        self._per_second = fps * LAST_SHARE
        self._tokens, self._refilled = 1.0, 0.0
        self._ended, self._pauses = math.inf, deque([0.0], maxlen=REMEMBERED)

    def soon(self, now: float) -> bool:
        """Whether the next step may be one that is picked, when one ends now."""
        self._ended = now
        return now + max(self._pauses) >= self._due

    def pick(self, now: float, *, ready: bool = True) -> bool:
        """Whether to send the step that begins now (seconds on any clock that runs evenly).

        Args:
            now: Seconds.
            ready: Whether the step was looked at closely. One that was not leaves its turn to the next.
        """
        self._pauses.append(now - self._ended)
        if now < self._due or not ready:
            return False
        late = now - self._due
        # on time, the schedule goes on from where it should have been, or the rate would sag by the length of a step
        self._due = self._due + self._interval if late < self._interval else now + self._interval
        return True

    def pick_last(self, now: float) -> bool:
        """Whether to send an episode's last step, which was not picked."""
        most = max(1.0, self._per_second)
        self._tokens = min(most, self._tokens + (now - self._refilled) * self._per_second)
        self._refilled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        self._due = max(self._due, now) + self._interval
        return True
