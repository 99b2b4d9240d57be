"""Requests to a stream: read from its ROUTER socket, done, and answered."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping

import zmq

from agentwrap_protocol import Limits, Message, ProtocolError, decode, encode
from agentwrap_protocol import messages as m

from .arrays import Array
from .probing import Answer

#: Least seconds between two answers to requests for the same kind of message.
RESEND = 1.0

#: Bounds on a request: those that ask for the policy's outputs carry observations.
REQUEST_LIMITS = Limits(header=65_536, arrays=256, array=m.MAX_PROBE_BYTES, total=m.MAX_PROBE_BYTES)

#: Requests answered before steps get their turn again.
REQUESTS_AT_ONCE = 64


class Answering:
    """Answers the requests of one stream, in one thread; what the policy computes comes from the agent's.

    Args:
        stream: Identity of the stream.
        socket: A ROUTER socket, the thread's alone.
        resend: Has the newest message of a kind sent again.
        watch: Returns what shows another environment, or None where that is not possible.
        on_probe: Takes a request for the policy's outputs, and what to answer it by, from whatever thread. None where
            the policy is not asked.
        wake: Wakes the thread; called from others.
        warn: Logs a text with its arguments, once for all that is about the same.
    """

    def __init__(
        self,
        stream: str,
        socket: zmq.Socket[bytes],
        *,
        resend: Callable[[str], None],
        watch: Callable[[], Callable[[m.Watch], str | None] | None],
        on_probe: Callable[[m.Probe, Answer], None] | None,
        wake: Callable[[], None],
        warn: Callable[..., None],
    ) -> None:
        self._stream, self._socket = stream, socket
        self._resend, self._watch, self._on_probe, self._wake, self._warn = resend, watch, on_probe, wake, warn
        self._waiting: deque[tuple[list[bytes], m.Reply]] = deque()  # answers, with where they go
        self._sequence = itertools.count()
        self._resend_from: defaultdict[str, float] = defaultdict(float)
        self._reader: int | None = None

    def read(self) -> None:
        """Read requests and do what they ask for; an answer that is there already waits to be sent."""
        self._reader = threading.get_ident()
        with contextlib.suppress(zmq.Again):
            for _ in range(REQUESTS_AT_ONCE):
                identity, *frames = self._socket.recv_multipart(zmq.NOBLOCK)
                envelope = [identity, *frames[:1]] if frames[:1] == [b""] else [identity]  # REQ adds an empty frame
                try:
                    request = decode(frames[len(envelope) - 1 :], REQUEST_LIMITS)
                except ProtocolError as error:
                    self._warn(f"request: {type(error).__name__}", "agentwrap: ignored a request: %s", error)
                    continue
                if isinstance(request, m.Probe):
                    self._ask_policy(request, envelope)
                else:
                    self._waiting.append((envelope, self._reply(request, self._do(request), {})))

    def send(self) -> None:
        """Send the answers that wait."""
        while self._waiting:
            envelope, reply = self._waiting.popleft()
            with contextlib.suppress(zmq.Again):  # who asked takes nothing
                self._socket.send_multipart([*envelope, *encode(reply)], zmq.NOBLOCK)

    def _ask_policy(self, request: m.Probe, envelope: list[bytes]) -> None:
        """Hand a request to the agent's thread, which answers when it gets to it."""

        def answer(arrays: Mapping[str, Array], problem: str | None) -> None:
            self._waiting.append((envelope, self._reply(request, problem, arrays)))
            if threading.get_ident() != self._reader:
                self._wake()

        if request.source != self._stream:
            answer({}, f"this is stream {self._stream}, not {request.source}")
        elif self._on_probe is None:
            answer({}, "this agent's policy is not probed")
        else:
            self._on_probe(request, answer)

    def _do(self, request: Message) -> str | None:
        """Do what a request asks for; return why not, or None."""
        if isinstance(request, m.Resend):
            now = time.monotonic()
            for kind in request.kinds:  # weights are large: what comes sooner is answered by the one before
                if now >= self._resend_from[kind]:
                    self._resend_from[kind] = now + RESEND
                    self._resend(kind)
        elif isinstance(request, m.Watch):
            watch = self._watch()
            return watch(request) if watch is not None else "there is one environment, which is shown"
        elif not isinstance(request, m.Ping):
            return f"an agent answers ping, resend, watch and probe, not {request.kind}"
        return None

    def _reply(self, request: Message, problem: str | None, arrays: Mapping[str, Array]) -> m.Reply:
        return m.Reply(
            stream=self._stream,
            seq=next(self._sequence),
            time=time.time(),
            request=request.seq,
            ok=problem is None,
            problem=problem,
            arrays=dict(arrays),
        )
