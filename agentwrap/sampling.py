"""Which steps are sent."""

from __future__ import annotations

import math

#: Share of the steps that may be last steps which were not picked.
LAST_SHARE = 1 / 6

#: Share of the time between two picks by which a step may be picked too early: it was looked at closely for that.
EARLY = 1 / 4


class Sampler:
    """Picks steps, at most ``fps`` per second, evenly where steps come faster.

    The last step of an episode is known as such only when it is over. It may be sent even where it was not picked, in
    place of one that would have been next, so that viewers see how they end. A token bucket holds that to a share of
    all steps: an environment with a thousand short episodes per second would show nothing but ends.

    Looking closely at a step has to begin before the policy is called for it, when nobody knows yet how long that will
    take. So ``soon`` guesses: as long as at most since the pick before the last, for too soon costs little,
    and an agent that takes several steps for each call of its policy pauses once in so many.

    Args:
        fps: Most steps per second.
    """

    __slots__ = (
        "_before",
        "_due",
        "_early",
        "_ended",
        "_interval",
        "_longest",
        "_per_second",
        "_refilled",
        "_tokens",
    )  # close together in memory: ``soon`` is asked in every step

    def __init__(self, fps: float) -> None:
        self._interval = 1.0 / fps
        self._due = 0.0
        self._per_second = fps * LAST_SHARE
        self._tokens, self._refilled = 1.0, 0.0
        self._early = self._interval * EARLY
        self._ended = math.inf
        self._longest = self._before = 0.0  # the longest pauses since the last pick, and between the two before

    def soon(self, began: float, now: float) -> bool:
        """Whether the next step may be one that is picked.

        Args:
            began: When the step that ends now began, in seconds.
            now: Seconds.
        """
        pause = began - self._ended
        if pause > self._longest:
            self._longest = pause
        self._ended = now
        return now + (self._longest if self._longest > self._before else self._before) >= self._due

    def pick(self, now: float, *, ready: bool = True) -> bool:
        """Whether to send the step that begins now (seconds on any clock that runs evenly).

        Args:
            now: Seconds.
            ready: Whether the step was looked at closely. One that was not leaves its turn to the next.
        """
        if not ready or now < self._due - self._early:
            return False
        self._before, self._longest = self._longest, 0.0
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
