"""What a session tells about the stream it follows (SPEC section 7). One immutable type for each event."""

from __future__ import annotations

import msgspec

from .messages import Bye, Explainer, Hello, Message, PolicyGraph, Weights


class Event(msgspec.Struct, frozen=True, eq=False):
    """What all events are."""


class StreamStarted(Event, frozen=True, eq=False):
    """A stream is known from now on.

    Attributes:
        introduction: The message that introduced it: ``Hello`` of an agent, ``Explainer`` of an explainer.
        dropped: Messages that came before it and were dropped, because nothing was known about their stream.
    """

    introduction: Hello | Explainer
    dropped: int = 0


class StreamReplaced(Event, frozen=True, eq=False):
    """Another stream has taken the place of the one that was followed: the sender was started anew.

    Attributes:
        introduction: The message that introduced the new stream.
        previous: Identity of the stream before.
        dropped: As in ``StreamStarted``.
    """

    introduction: Hello | Explainer
    previous: str
    dropped: int = 0


class StreamUpdated(Event, frozen=True, eq=False):
    """The agent's ``hello`` says something new, for example that the policy was exported."""

    hello: Hello


class StreamEnded(Event, frozen=True, eq=False):
    """The sender said goodbye. What still arrives of this stream is ignored."""

    bye: Bye


class Silent(Event, frozen=True, eq=False):
    """Nothing was received for ``seconds``. Told once, until ``Resumed``."""

    seconds: float


class Resumed(Event, frozen=True, eq=False):
    """A stream that was silent is heard again."""


class Gap(Event, frozen=True, eq=False):
    """``missing`` messages of this kind were sent and not received, just before the one that follows this event."""

    kind: str
    missing: int


class MessageReceived(Event, frozen=True, eq=False):
    """A message to look at: any kind but ``hello``, ``policy_graph``, ``weights`` and ``bye``, which have their own."""

    message: Message


class GraphReceived(Event, frozen=True, eq=False):
    """The policy's graph: the first, or one that differs from the one before."""

    graph: PolicyGraph


class WeightsReceived(Event, frozen=True, eq=False):
    """Weights that are newer than those before."""

    weights: Weights


class GraphMissing(Event, frozen=True, eq=False):
    """The agent has sent a graph and it has not arrived: ask for it with ``Resend``."""


class WeightsMissing(Event, frozen=True, eq=False):
    """The agent has sent weights that have not arrived: ask for them with ``Resend``.

    Attributes:
        policy_version: Version of the weights that are missing, at least.
        held: Version of the newest weights that did arrive; 0 for none.
    """

    policy_version: int
    held: int
