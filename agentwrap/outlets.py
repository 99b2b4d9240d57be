"""A stream that is recorded: what goes to viewers, and the same to a file, which takes everything."""

from __future__ import annotations

import weakref
from collections.abc import Callable

from agentwrap_protocol import Message
from agentwrap_protocol.messages import Hello

from .publisher import Publisher
from .recorder import Recorder


class Outlets:
    """Stands where a publisher would: as if somebody watched, and wanted everything.

    Steps are not its business: those that are recorded are not those that are sent.

    Attributes:
        stream: Identity of the stream.
        watched: True.

    Args:
        publisher: The live stream.
        recorder: The recording.
        hello: Bound method that makes the recording's hello message of this moment; held weakly.
    """

    watched = True

    def __init__(self, publisher: Publisher, recorder: Recorder, hello: Callable[[], Hello]) -> None:
        self.stream = publisher.stream
        self._publisher, self._recorder, self._hello = publisher, recorder, weakref.WeakMethod(hello)

    @property
    def error(self) -> Exception | None:
        """First unexpected error of the publisher, or None."""
        return self._publisher.error

    def wants(self, kind: str) -> bool:
        """Whether messages of this kind are taken: all are."""
        return True

    def publish(self, message: Message) -> None:
        """Send a message and record it."""
        self._recorder.put(message)
        self._publisher.publish(message)

    def publish_hello(self) -> None:
        """Send and record that a field of hello has changed."""
        make = self._hello()
        if make is not None:
            self._recorder.put(make())
        self._publisher.publish_hello()
