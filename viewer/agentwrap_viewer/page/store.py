"""Everything the page has received, within bounds."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from agentwrap_protocol import events as ev
from agentwrap_protocol.messages import Bye, EpisodeEnd, Explainer, Heartbeat, Hello, Message, SaliencyMap, Step
from agentwrap_protocol.session import Session

from .episodes import EpisodeLog
from .marks import Marks
from .pin import Pin
from .ring import MapShelf, Series, StepRing
from .spool import Spool
from .statistics import Statistics

#: What the page wants of an agent. Not the policy's weights and graph: those are the explainer's business.
FROM_AGENT = tuple(kind.kind for kind in (Hello, Step, EpisodeEnd, Heartbeat, Bye))

#: Seconds for which it is said that an agent has waited for its disk.
HELD_UP = 30.0

#: Versions of the policy's weights of which it is known since when they have acted.
VERSIONS = 4096


class Store:
    """What was received of one stream, and what the explainer made of it.

    A new stream identity (the agent was restarted, or another was chosen) empties it. Not for use from several threads.

    Args:
        ring_bytes: Bytes of recent steps to keep in memory.
        map_bytes: Bytes of saliency maps to keep.
        max_steps: Steps to keep in memory.
        max_scalars: Steps whose scalars are kept.
        older: Makes where steps go that memory has no room for; None forgets them.
        clock: Monotonic seconds; tells how long an agent has been silent.

    Attributes:
        generation: Changes whenever the store was emptied for another stream.
        version: Grows with every ``notify``.
        announced: Whether the stream's agent is announced as a running process; None where it never was (it may run on
            another machine).
        others: Endpoint and name of each further agent that runs on this machine, the newest first.
        replaced: Name of the agent that streamed from the same address before, where that was another one; else None.
        older: Steps that memory has no room for, or None.
        pin: The step that is pinned, for all tabs, or None.
        problem: What keeps messages from being understood (another protocol version), or None.
        without_maps: Why there never will be any, or None.
    """

    def __init__(
        self,
        *,
        ring_bytes: int = 96 * 2**20,
        map_bytes: int = 64 * 2**20,
        max_steps: int = 18_000,
        max_scalars: int = 500_000,
        older: Callable[[], Spool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bounds = (ring_bytes, map_bytes, max_steps, max_scalars)
        self._make_older = older
        self.older: Spool | None = None
        self._clock = clock
        self._listeners: list[Callable[[], None]] = []
        self.version = 0
        self.generation = 0
        self.rejected = 0  #: Messages that were not valid
        self.explainer: Explainer | None = None
        self.explainer_alive: bool | None = None  #: None: there is none; False: it ended and is being restarted
        self.explainer_problem: str | None = None
        self.explainer_restarts = 0
        self.without_maps: str | None = None
        self.others: tuple[tuple[str, str], ...] = ()
        self.clear()

    def _forget(self) -> None:
        ring_bytes, map_bytes, max_steps, max_scalars = self._bounds
        self.close()
        self.older = self._make_older() if self._make_older is not None else None
        self.hello: Hello | None = None
        self.replaced: str | None = None
        self.heartbeat: Heartbeat | None = None
        self.bye: Bye | None = None
        self._held_up = -math.inf
        self._versions: dict[int, float] = {}
        self.problem: str | None = None
        self.steps = StepRing(ring_bytes, max_steps, self.older)
        self.series = Series(max_scalars)
        self.maps = MapShelf(map_bytes)
        self.episodes = EpisodeLog()
        self.marks = Marks()
        self.pin: Pin | None = None
        self._statistics = Statistics()

    def clear(self) -> None:
        """Forget the stream, because another is to be followed."""
        self._session = Session(FROM_AGENT)
        self.last_heard: float | None = None
        self.announced: bool | None = None
        self._forget()
        self.generation += 1
        self.notify()

    def close(self) -> None:
        """Let go of what is kept on disk."""
        if self.older is not None:
            self.older.close()

    def advance(self) -> None:
        """Let time pass: call it about once a second. A stream that is not heard becomes silent."""
        if self._session.advance(self._clock()):
            self.notify()

    @property
    def stream(self) -> str | None:
        """Identity of the stream, or None before its first message."""
        return self._session.stream

    def add(self, message: Message) -> None:
        """Take in one message of the agent or the explainer. Call ``notify`` after the last of a batch."""
        if isinstance(message, SaliencyMap):
            self._add_map(message)
        elif isinstance(message, Explainer):
            self.explainer = message
            if self.pin is not None:
                self.pin.use(message.method, message.options, message.target)
        else:
            self._add_from_agent(message)

    def _add_from_agent(self, message: Message) -> None:
        events = self._session.receive(message)
        if events:
            self.last_heard = self._clock()
            self.problem = None
        for event in events:
            self._take(event)

    def _take(self, event: ev.Event) -> None:
        match event:
            case ev.StreamStarted(introduction) | ev.StreamUpdated(introduction):
                self._introduce(introduction)
            case ev.StreamReplaced(introduction):
                before = self.hello
                self._forget()
                self.generation += 1
                self._introduce(introduction)
                if before is not None and self.hello is not None and before.name != self.hello.name:
                    self.replaced = before.name
            case ev.StreamEnded(bye):
                self.bye = bye
            case ev.Gap("step", missing):
                self._statistics.steps_missed += missing
            case ev.MessageReceived(message):
                self._take_message(message)

    def _introduce(self, introduction: Hello | Explainer) -> None:
        if isinstance(introduction, Hello):
            self.hello = introduction
            self._add_episodes_of(introduction)

    def _take_message(self, message: Message) -> None:
        match message:
            case Step():
                self._add_step(message)
            case EpisodeEnd():
                self.episodes.add(message.episode, message.episode_return, message.length)
            case Heartbeat():
                if self.heartbeat is not None and message.recording_wait > self.heartbeat.recording_wait:
                    self._held_up = self._clock()
                self.heartbeat = message
                self._statistics.on_heartbeat(message)

    def _add_step(self, step: Step) -> None:
        newest = self.newest
        if newest is not None and step.step <= newest.step:
            return  # positions follow the env's steps; a repetition would break that
        self.steps.append(step)
        reward = float(np.sum(step.arrays.get("rewards", step.reward)))
        self.series.append(step.step, reward, value_of(step), step.episode_return, step.episode)
        self._statistics.on_step(step)
        if step.policy_version not in self._versions:
            self._versions[step.policy_version] = step.time
            if len(self._versions) > VERSIONS:
                del self._versions[next(iter(self._versions))]

    def _add_map(self, message: SaliencyMap) -> None:
        if message.source != self.stream or self._is_for_pin_alone(message):
            return
        if self.maps.put(message):
            self._statistics.on_map(message)

    def _is_for_pin_alone(self, message: SaliencyMap) -> bool:
        """Show a map with the pin if it is of that step; whether the step itself has one, by an older version."""
        if self.pin is None or not self.pin.take(message):
            return False
        known = self.maps.get(message.step)
        return known is not None and known.policy_version < message.policy_version

    def make_pin(self, step: Step) -> None:
        """Pin a step, instead of the one that was pinned before."""
        self.pin = self._pin_of(step)
        if self.explainer is not None:
            self.pin.use(self.explainer.method, self.explainer.options, self.explainer.target)
        known = self.maps.get(step.step)
        if known is not None:
            self.pin.take(known)

    def _pin_of(self, step: Step) -> Pin:
        return Pin(step)

    def _add_episodes_of(self, hello: Hello) -> None:
        columns = [hello.arrays.get(f"episodes/{name}") for name in ("number", "return", "length")]
        if any(column is None for column in columns):
            return
        for number, episode_return, length in zip(*columns, strict=False):
            self.episodes.add(int(number), float(episode_return), int(length))

    @property
    def newest(self) -> Step | None:
        """The newest step, or None."""
        return self.steps.at(self.steps.last)

    @property
    def title(self) -> str | None:
        """What is shown, for people: the stream's name."""
        return self.hello.name if self.hello is not None else None

    @property
    def notes(self) -> list[str]:
        """What is not as it should be with what is shown, for people."""
        return [self.older.problem] if self.older is not None and self.older.problem else []

    def version_began(self, version: int) -> float | None:
        """Return when the first step was made with a version of the policy's weights, in its agent's time, or None."""
        return self._versions.get(version)

    def name_of_version(self, version: int) -> str:
        """Return what a version of the policy's weights is called, for people."""
        return f"v{version}"

    @property
    def held_up(self) -> bool:
        """Whether the agent has waited for the disk that it records to in the last half minute."""
        return self._clock() - self._held_up < HELD_UP

    @property
    def silent_for(self) -> float:
        """Seconds since the agent was last heard; 0 before its first message."""
        return 0.0 if self.last_heard is None else self._clock() - self.last_heard

    @property
    def connection(self) -> str:
        """``incompatible``, ``waiting`` (never heard), ``ended`` (it said bye), ``silent``, ``gone`` or ``connected``.

        An agent is gone that is silent and whose process, once announced, no longer runs.
        """
        if self.problem is not None:
            return "incompatible"
        if self._session.state == "silent" and self.announced is False:
            return "gone"
        return "connected" if self._session.state == "live" else self._session.state

    @property
    def over(self) -> bool:
        """Whether the agent has ended, with a goodbye or without: of this stream no further step comes."""
        return self.connection in ("ended", "gone")

    def statistics(self) -> dict[str, Any]:
        """Return the run's figures so far: see ``Statistics.as_dict``."""
        return self._statistics.as_dict()

    @property
    def dropped(self) -> int:
        """Step messages that the agent dropped or the network lost."""
        return self._statistics.dropped

    def notify(self) -> None:
        """Tell everyone who listens that something changed."""
        self.version += 1
        for listener in tuple(self._listeners):
            listener()

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` at every ``notify``; the function returned ends that."""
        self._listeners.append(listener)

        def stop() -> None:
            with contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return stop


def value_of(step: Step) -> float:
    """Return the policy's value of the state: V(s), else the largest Q-value, else NaN."""
    if "output/value" in step.arrays:
        value = np.asarray(step.arrays["output/value"], dtype=np.float64)
        return float(value.reshape(-1)[0]) if value.size else float("nan")
    q_values = step.arrays.get("output/q_values")
    return float(np.max(q_values)) if q_values is not None and q_values.size else float("nan")
