"""A viewer's end of the sockets, for tests of the agent's side."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

import zmq

from agentwrap_protocol import Message, decode, encode
from agentwrap_protocol.messages import Hello, Reply

M = TypeVar("M", bound=Message)

#: Generous, for a busy machine: nothing waits that long where all is well.
PATIENCE = 60.0


def eventually(condition: Callable[[], Any], *, between: Callable[[], Any] | None = None) -> Any:
    """Wait until a condition holds and return what it returned; ``between`` is called while it does not."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        if between is None:
            time.sleep(0.005)
        else:
            between()
    return found


class Listener:
    """Subscribes to a stream and keeps all that comes.

    Attributes:
        messages: What came so far, in order.
    """

    def __init__(self, endpoint: str, *kinds: str) -> None:
        self.messages: list[Message] = []
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        self._socket.connect(endpoint)
        for kind in kinds or ("",):
            self._socket.subscribe(kind)

    def receive(self) -> list[Message]:
        """Take in what has come, and return all messages so far."""
        while self._socket.poll(0):
            self.messages.append(decode(self._socket.recv_multipart()))
        return self.messages

    def of(self, kind: type[M]) -> list[M]:
        """The messages of a kind that have come so far."""
        return [message for message in self.receive() if isinstance(message, kind)]

    def wait(
        self, kind: type[M], where: Callable[[M], Any] = lambda _: True, *, between: Callable[[], Any] | None = None
    ) -> M:
        """Wait for a message of a kind and return the newest such; ``between`` is called meanwhile."""
        found: list[M] = eventually(lambda: [each for each in self.of(kind) if where(each)], between=between)
        return found[-1]

    def request(self, message: Message) -> Reply:
        """Send a request to the stream's control socket and return the reply."""
        control = self.wait(Hello).control
        assert control is not None
        with self._context.socket(zmq.DEALER) as dealer:
            dealer.linger = 0
            dealer.connect(control)
            dealer.send_multipart(encode(message))
            assert dealer.poll(PATIENCE * 1000)
            reply = decode(dealer.recv_multipart())
        assert isinstance(reply, Reply)
        return reply

    def close(self) -> None:
        self._context.destroy(linger=0)


def requester() -> str:
    return uuid.uuid4().hex
