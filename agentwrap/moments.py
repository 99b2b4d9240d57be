"""What is seen of the steps that are sent or recorded: the moment before, what the policy computed, the action."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .arrays import Array
from .calls import Seen
from .guard import Guard
from .policy_feed import PolicyFeed
from .publisher import Publisher
from .snapshot import Snapshots, shares_memory

if TYPE_CHECKING:
    from .outlets import Outlets


@dataclass(slots=True)
class Moment:
    """A step that may be sent: which one it is, and what was seen of it. Without arrays it is not sent."""

    step: int
    episode: int
    episode_step: int
    seen: Seen
    sent: bool = False
    recorded: bool = False
    arrays: dict[str, Array] = field(default_factory=dict)
    time: float = field(default_factory=time.time)


class Moments:
    """Sees what there is to see of a step, with or without the environment's being able to tell.

    Args:
        snapshots: Copies of the moment.
        feed: What the policy computes.
        guard: Told of what goes wrong; nothing is raised.
    """

    __slots__ = ("_feed", "_guard", "_shapes", "_shapes_told", "_snapshots")

    def __init__(self, snapshots: Snapshots, feed: PolicyFeed, guard: Guard) -> None:
        self._snapshots, self._feed, self._guard = snapshots, feed, guard
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._shapes_told = False

    def look(self, moment: Moment, observation: Any, action: Any, outlets: Publisher | Outlets) -> None:
        """See all there is to see before a step."""
        self._guard.run("taking snapshots", self._look, moment, observation, action, outlets)

    def look_back(self, moment: Moment, observation: Any, action: Any, now: Any, outlets: Publisher | Outlets) -> None:
        """See what is left to see of a step after it, if its observation's memory was not used again for ``now``."""
        self._guard.run("taking snapshots", self._look_back, moment, observation, action, now, outlets)

    def _look(self, moment: Moment, observation: Any, action: Any, outlets: Publisher | Outlets) -> None:
        source = self._snapshots.frame
        arrays = self._snapshots.take(observation, action)
        if self._snapshots.frame != source:
            outlets.publish_hello()
        self._see_policy(moment, arrays, outlets)

    def _look_back(self, moment: Moment, observation: Any, action: Any, now: Any, outlets: Publisher | Outlets) -> None:
        if not shares_memory(observation, now):
            self._see_policy(moment, self._snapshots.values(observation, action), outlets)

    def _see_policy(self, moment: Moment, arrays: dict[str, Array], outlets: Publisher | Outlets) -> None:
        capture, reading = self._feed.capture, "reading the policy's outputs"
        call = self._guard.run(reading, capture.choose, moment.seen, arrays)
        self._feed.update(call, moment.step, outlets)
        if call is not None:
            seen = self._guard.run(reading, capture.arrays, call) or {}
            self._compare_shapes(seen, outlets)
            # pictures last: what is small in front of them goes to the network with one operation of the system
            arrays = {**seen, **arrays}
        moment.arrays = arrays

    def _compare_shapes(self, seen: dict[str, Array], outlets: Publisher | Outlets) -> None:
        for name, array in seen.items():
            known = self._shapes.setdefault(name, array.shape)
            if known != array.shape and name.startswith("output/") and not self._shapes_told:
                self._shapes_told = True  # of the first: others change with it
                self._feed.tell_why(
                    f"the policy's {name.removeprefix('output/')} had shape {known} and now has {array.shape}: it is "
                    "exported as it was, so maps are no longer of what acts; wrap the environment anew",
                    outlets,
                    about="shapes",
                )
