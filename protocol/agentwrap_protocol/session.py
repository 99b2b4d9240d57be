"""Following a stream: messages in, events out (SPEC section 7).

A session owns no socket, thread or clock: whoever has them calls ``receive`` with each message and ``advance`` with
the time.

::

                introduction                nothing heard for `silence`
    waiting ───────────────────► live ◄─────────────────────────────────► silent
       │ anything else:           │ │            any message                 │
       └ dropped, counted         │ └──────────────── bye ─────────────┐     │ bye
                                  │ introduction of another stream     ▼     ▼
                                  └──► live, with that stream ◄─────── ended ┘

The introduction of a stream is its ``hello`` (an agent's) or its ``explainer`` message (an explainer's).
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Collection
from typing import Literal

import msgspec

from . import events as ev
from .messages import KINDS, Bye, Explainer, Hello, Message, PolicyGraph, Step, Weights

#: Seconds without any message after which a stream counts as silent: five heartbeats.
SILENCE = 5.0

#: Seconds that a graph or weights may be missing before they are reported, and reported again.
PATIENCE = 2.0

#: Streams that are remembered as past, so that what is left of them is ignored.
_PAST = 64

State = Literal["waiting", "live", "silent", "ended"]


class Session:
    """Follows whatever stream one publisher sends, across restarts.

    Nothing that arrives raises, in whatever order: late and repeated messages, and those of streams that have ended or
    were replaced, are ignored and counted in ``ignored``. What a session keeps is bounded: no message but the
    introduction.

    Args:
        kinds: Kinds that are subscribed to; all where None. A graph or weights that are not are not missed.
        silence: Seconds without any message after which the stream counts as silent.
        patience: Seconds that a graph or weights may be missing before they are reported, and reported again.

    Attributes:
        state: Where the picture above stands.
        introduction: What the stream said about itself, newest; None while waiting.
        policy_version: Version of the newest weights received; 0 for none.
        ignored: Messages that were late, repeated, or of a past stream.
    """

    def __init__(
        self, kinds: Collection[str] | None = None, *, silence: float = SILENCE, patience: float = PATIENCE
    ) -> None:
        self._kinds = frozenset(KINDS if kinds is None else kinds)
        self._silence, self._patience = silence, patience
        self._past: deque[str] = deque(maxlen=_PAST)
        self.state: State = "waiting"
        self.introduction: Hello | Explainer | None = None
        self.ignored = 0
        self._dropped = 0
        self._heard = False
        self._heard_at: float | None = None
        self._forget()

    def _forget(self) -> None:
        """Forget what belonged to the stream before."""
        self.policy_version = 0
        self._newest: dict[str, int] = {}  # kind → seq
        self._graph = b""  # digest
        self._wanted_version = 0
        self._missing_since: float | None = None

    @property
    def stream(self) -> str | None:
        """Identity of the stream that is followed, or was last; None while waiting."""
        return None if self.introduction is None else self.introduction.stream

    # ── messages ──

    def receive(self, message: Message) -> list[ev.Event]:
        """Take a message, in the order of arrival, and return what it means."""
        if message.stream in self._past:
            self.ignored += 1
            return []
        if message.stream != self.stream:
            return self._receive_of_other_stream(message)
        newest = self._newest.get(message.kind)
        if newest is not None and message.seq <= newest:
            self.ignored += 1
            return []
        return [*self._resume(), *self._count(message, newest), *self._interpret(message)]

    def _receive_of_other_stream(self, message: Message) -> list[ev.Event]:
        if not isinstance(message, Hello | Explainer):
            self._dropped += 1
            return []
        previous, dropped = self.stream, self._dropped
        if previous is not None and previous not in self._past:
            self._past.append(previous)
        self._forget()
        self.state, self.introduction, self._dropped, self._heard = "live", message, 0, True
        self._newest[message.kind] = message.seq
        started: ev.Event
        if previous is None:
            started = ev.StreamStarted(message, dropped)
        else:
            started = ev.StreamReplaced(message, previous, dropped)
        return [started, ev.MessageReceived(message)] if isinstance(message, Explainer) else [started]

    def _resume(self) -> list[ev.Event]:
        self._heard = True
        if self.state != "silent":
            return []
        self.state = "live"
        return [ev.Resumed()]

    def _count(self, message: Message, newest: int | None) -> list[ev.Event]:
        """Note the message's number. What came before the first of its kind was not missed: we joined later."""
        self._newest[message.kind] = message.seq
        if newest is None or message.seq == newest + 1:
            return []
        return [ev.Gap(message.kind, message.seq - newest - 1)]

    def _interpret(self, message: Message) -> list[ev.Event]:
        match message:
            case Hello():
                return self._update(message)
            case PolicyGraph():
                return self._take_graph(message)
            case Weights():
                return self._take_weights(message)
            case Bye():
                self.state = "ended"
                self._past.append(message.stream)
                return [ev.StreamEnded(message)]
            case Explainer():
                self.introduction = message
            case Step():
                return [ev.MessageReceived(message), *self._note_version(message.policy_version)]
        return [ev.MessageReceived(message)]

    def _update(self, hello: Hello) -> list[ev.Event]:
        before, self.introduction = self.introduction, hello
        if isinstance(before, Hello) and _says(before) == _says(hello):
            return []
        return [ev.StreamUpdated(hello)]

    def _take_graph(self, message: PolicyGraph) -> list[ev.Event]:
        digest = _digest(message)
        if digest == self._graph:
            return []
        self._graph = digest
        return [ev.GraphReceived(message)]

    def _take_weights(self, message: Weights) -> list[ev.Event]:
        if message.policy_version <= self.policy_version:
            return []
        self.policy_version = message.policy_version
        return [ev.WeightsReceived(message)]

    def _note_version(self, version: int) -> list[ev.Event]:
        """Note which weights a step was taken with.

        Weights are sent before the first step taken with them, so that they are lost where that step comes first.
        Somebody who has just joined has none yet: for them it is ``advance`` that tells, after a while.
        """
        is_new = version > self._wanted_version and not self._without_weights
        self._wanted_version = max(self._wanted_version, version)
        if is_new and 0 < self.policy_version < version and Weights.kind in self._kinds:
            return [ev.WeightsMissing(version, self.policy_version)]
        return []

    @property
    def _without_weights(self) -> bool:
        """Whether the agent has said that the policy's computation does not travel, nor do its weights then."""
        return isinstance(self.introduction, Hello) and self.introduction.policy.graph == "failed"

    def _missing(self) -> list[ev.Event]:
        """What the agent has sent and has not arrived."""
        hello = self.introduction
        exported = isinstance(hello, Hello) and hello.policy.graph == "exported"
        events: list[ev.Event] = []
        if exported and not self._graph and PolicyGraph.kind in self._kinds:
            events.append(ev.GraphMissing())
        wanted = max(self._wanted_version, int(exported))
        if self._without_weights:
            return events
        if wanted > self.policy_version and Weights.kind in self._kinds:
            events.append(ev.WeightsMissing(wanted, self.policy_version))
        return events

    # ── time ──

    def advance(self, now: float) -> list[ev.Event]:
        """Tell what time it is and return what that means. Call it about once a second.

        Args:
            now: Seconds on any clock that only goes forward, e.g. ``time.monotonic()``.
        """
        if self.state not in ("live", "silent"):
            return []
        return [*self._check_silence(now), *self._check_losses(now)]

    def _check_silence(self, now: float) -> list[ev.Event]:
        if self._heard or self._heard_at is None:
            self._heard, self._heard_at = False, now
        seconds = now - self._heard_at
        if self.state == "silent" or seconds < self._silence:
            return []
        self.state = "silent"
        return [ev.Silent(seconds)]

    def _check_losses(self, now: float) -> list[ev.Event]:
        missing = [] if self.state == "silent" else self._missing()
        if not missing or self._missing_since is None:
            self._missing_since = now if missing else None
            return []
        if now - self._missing_since < self._patience:
            return []
        self._missing_since = now
        return missing


def _says(hello: Hello) -> bytes:
    """What a ``hello`` says about the stream, apart from the episodes so far."""
    fields = msgspec.structs.asdict(hello)
    return msgspec.msgpack.encode({k: v for k, v in fields.items() if k not in ("seq", "time", "arrays")})


def _digest(message: PolicyGraph) -> bytes:
    """Digest of a graph and its constants: equal for the same graph sent again."""
    digest = hashlib.blake2b(msgspec.msgpack.encode(message.graph))
    for name, array in sorted(message.arrays.items()):
        digest.update(msgspec.msgpack.encode((name, array.dtype.str, array.shape)))
        digest.update(array.tobytes())
    return digest.digest()
