"""Which step a tab shows: the newest, one held still, or one played back from the ring."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar, Literal

from agentwrap_protocol.messages import SaliencyMap, Step

from .store import Store

Mode = Literal["live", "paused", "playing"]

#: Speeds of the view relative to the agent's, slowest first. Faster than 1 catches up with the agent.
SPEEDS = (0.1, 0.25, 0.5, 1.0, 2.0)

#: Steps that may come at once and be shown one after the other all the same; of more a live view shows the newest.
BURST = 3

#: Seconds of the agent's time after which a map no longer says anything about the step shown.
MAP_LIFE = 2.0

#: Seconds of the agent's time that a live view waits for the first map of an episode: where episodes are a few steps
#: long, steps without any would be most of what it shows.
PATIENCE = 0.25

#: Seconds of the agent's time that playing waits for one step at most: not for as long as the export of a policy took.
LONGEST = 1.0


class Cursor:
    """A tab's place in the store. Moving it never holds up the agent, nor another tab.

    While paused it keeps the step shown and that step's map itself, so that they stay when the store forgets them.

    Args:
        store: Where the steps are.
        clock: Monotonic seconds, for playing.

    Attributes:
        mode: ``live``, ``paused`` or ``playing``.
        speed: Speed of playing, relative to the agent's.
        follow: In ``live`` mode, show the ``newest`` step, or the newest that is ``mapped``.
        picture: Array ``observation/…`` that is shown, where an observation has several pictures; None for the first.
        loop: First and last position of the range that is played over and over; None, which it always is here.
        speeds: What ``speed`` may be, slowest first.
    """

    speeds: ClassVar[tuple[float, ...]] = SPEEDS

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._generation = store.generation
        self._position = -1
        self._held: Step | None = None
        self._held_map: SaliencyMap | None = None
        self._anchor = (0.0, 0.0)
        self._behind = 0
        self.mode: Mode = "live"
        self.speed = 1.0
        self.follow: Literal["newest", "mapped"] = "newest"
        self.picture: str | None = None
        self.loop: tuple[int, int] | None = None

    def turn(self) -> None:
        """Go on to what the tab is shown next: call it before each message to the tab."""
        news = self._store.steps.last - self._position
        burst = self._position >= 0 and 1 < news <= BURST and self._generation == self._store.generation
        self._behind = news - 1 if burst and self.follow == "newest" else 0

    @property
    def position(self) -> int:
        """Position of the step shown, before the ring's first where only this tab still has it; -1 where none is."""
        steps = self._store.steps
        if self._generation != self._store.generation:
            self._generation = self._store.generation
            self.live()
        if not len(steps):
            return -1
        if self._held is not None:
            return self._position
        if self.mode == "live":
            self._position = self._live_position()
        elif self.mode == "playing":
            self._advance()
        self._position = min(max(self._position, steps.first), steps.last)
        if self.mode == "paused":
            self._hold(steps.at(self._position))
        return self._position

    def step(self) -> Step | None:
        """Return the step shown, or None while there is none."""
        position = self.position
        return self._held if self._held is not None else self._store.steps.at(position)

    @property
    def kept(self) -> bool:
        """Whether the store still has the step shown; false where only this tab has, and there is no going back."""
        return self.position >= self._store.steps.first

    def saliency_map(self, step: Step) -> SaliencyMap | None:
        """Return the map to draw over ``step``: its own; while the view moves else the newest recent one before it."""
        if step is self._held:
            self._held_map = self._map_of(step) or self._held_map
            return self._held_map
        return self._map_of(step) if self.mode == "paused" else self._map_over(step)

    def _map_over(self, step: Step) -> SaliencyMap | None:
        return self._map_of(step) or self._earlier_map(step)

    def _map_of(self, step: Step) -> SaliencyMap | None:
        return self._store.maps.get(step.step)

    def _earlier_map(self, step: Step) -> SaliencyMap | None:
        """Return the newest map of an earlier step of the episode that still says something about this one."""
        position = self._store.steps.position_of(step.step)
        while position is not None and position > self._store.steps.first:
            position -= 1
            earlier = self._store.steps.at(position)
            if earlier is None or earlier.episode != step.episode or step.time - earlier.time > MAP_LIFE:
                return None
            known = self._store.maps.get(earlier.step)
            if known is not None:
                return known
        return None

    def live(self) -> None:
        """Show the newest step from now on."""
        self._hold(None)
        self.mode = "live"
        self.speed = 1.0
        self._behind = 0

    def pause(self) -> None:
        """Hold the step shown, also when the store forgets it."""
        self._position = self.position
        self.mode = "paused"
        if self._held is None:
            self._hold(self._store.steps.at(self._position))

    def play(self, speed: float | None = None) -> None:
        """Go on from the step shown, at a speed; from the first that is kept where the last of an agent is shown.

        Raises:
            ValueError: The speed is not one of ``speeds``.
        """
        speed = self._checked(self.speed if speed is None else speed)
        if self.mode == "live" and self._store.over:
            self.go(self._store.steps.first)
        self._position = self.position
        self._hold(None)
        self.mode, self.speed = "playing", speed
        self._drop_anchor()

    def set_speed(self, speed: float) -> None:
        """Play at a speed from now on; where paused, from when it is played.

        Raises:
            ValueError: The speed is not one of ``speeds``.
        """
        if self.mode == "paused":
            self.speed = self._checked(speed)
        else:
            self.play(speed)

    def move(self, count: int) -> None:
        """Pause, ``count`` steps further (back where negative)."""
        self.pause()
        self.go(self._position + count)

    def go(self, position: int) -> None:
        """Show the step at a position of the ring, or the nearest that is still kept, and hold it."""
        self._hold(None)
        self.mode = "paused"
        self._position = position
        self._position = self.position

    def wait(self) -> float | None:
        """Return the seconds until the next step is to be shown, or None where only news can change the view."""
        if self.mode == "live" and self._behind:
            return 0.0
        if self.mode != "playing":
            return None
        following = self._store.steps.at(self.position + 1)
        if following is None:
            return None
        due, began = self._anchor
        at = following.time - self._too_long(following)
        return max(0.002, (at - due) / self.speed - (self._clock() - began))

    def _hold(self, step: Step | None) -> None:
        self._held = step
        self._held_map = self._map_of(step) if step is not None else None

    def _live_position(self) -> int:
        newest = self._store.newest
        mapped = self._store.maps.newest
        if self.follow == "mapped" and mapped is not None and newest is not None:
            position = self._store.steps.position_of(mapped.step)
            if position is not None and newest.time - mapped.step_time <= MAP_LIFE:
                return position
        return self._with_map(self._store.steps.last - self._behind)

    def _with_map(self, position: int) -> int:
        """Return a step's position; where it has no map yet and one before had, for a moment the last one's shown."""
        step, mapped = self._store.steps.at(position), self._store.maps.newest
        if step is None or mapped is None or self._store.over or self._map_over(step) is not None:
            return position
        last = self._store.steps.position_of(mapped.step)
        if last is None or step.time - mapped.step_time > PATIENCE:
            return position
        self._behind = 0
        return min(max(last, self._position), position)

    def _advance(self) -> None:
        steps = self._store.steps
        if self._position < steps.first:
            self._position = steps.first
            self._drop_anchor()
        due, began = self._anchor
        shown_until = due + (self._clock() - began) * self.speed
        while (following := steps.at(self._position + 1)) is not None:
            skipped = self._too_long(following)
            if following.time - skipped > shown_until:
                break
            self._position += 1
            shown_until += skipped
            self._anchor = self._anchor[0] + skipped, began
        if self._position == steps.last and (self.speed > 1 or self._store.over):
            self.live()

    def _too_long(self, following: Step) -> float:
        """Seconds of the pause before the step that follows which are not waited for."""
        step = self._store.steps.at(self._position)
        return 0.0 if step is None else max(0.0, following.time - step.time - LONGEST)

    def _drop_anchor(self) -> None:
        step = self._store.steps.at(self._position)
        self._anchor = (step.time if step else 0.0, self._clock())

    def _checked(self, speed: float) -> float:
        if speed not in self.speeds:
            raise ValueError(f"speed {speed!r} is not one of {', '.join(map(str, self.speeds))}")
        return speed
