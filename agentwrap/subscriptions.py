"""Who listens to what, from the messages that an XPUB socket receives."""

from __future__ import annotations

from agentwrap_protocol import KINDS


class Subscriptions:
    """The kinds of message that somebody listens to.

    An XPUB socket with ``XPUB_VERBOSE`` reports every new subscription to a topic, but an end only when its last
    subscriber has gone, also where that one was killed. So a set is right where a count would be wrong.

    Attributes:
        kinds: Kinds that somebody listens to. Replaced as a whole, so that other threads may read it.
    """

    def __init__(self) -> None:
        self.kinds: frozenset[str] = frozenset()
        self._topics: set[bytes] = set()

    def receive(self, message: bytes) -> frozenset[str]:
        r"""Take note of a message and return the kinds that somebody has newly subscribed to.

        Args:
            message: ``b"\x01" + topic`` for a subscription, ``b"\x00" + topic`` for an end; anything else is
                ignored, and so are topics that no kind of message begins with: whoever subscribes to nonsense costs
                no memory here.
        """
        action, topic = message[:1], message[1:]
        meant = frozenset(kind for kind in KINDS if kind.encode().startswith(topic))
        if action == b"\x01" and meant:
            self._topics.add(topic)
        elif action == b"\x00":
            self._topics.discard(topic)
            meant = frozenset()
        else:
            return frozenset()
        self.kinds = frozenset(kind for kind in KINDS if any(map(kind.encode().startswith, self._topics)))
        return meant
