"""Sockets and loop of the explainer."""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Callable

import msgspec
import zmq

from agentwrap_protocol import Limits, ProtocolError, VersionError, decode, encode
from agentwrap_protocol.endpoint import parse_endpoint
from agentwrap_protocol.messages import Bye, Configure, Evaluate, Explain, Explainer, Message, Ping, Reply, Resend
from agentwrap_viewer.recording import Recording
from agentwrap_viewer.saliency import SaliencyError

from .engine import KINDS, Engine
from .recorded import RecordedEngine
from .settings import Settings

log = logging.getLogger(__name__)

#: Seconds between two status messages while nothing changes.
BEAT = 1.0

#: Milliseconds that the loop sleeps at most while there is nothing to compute.
IDLE_MS = 50

#: Messages of the agent that may wait in the socket, and those handled before it is computed on.
HIGH_WATER_MARK = 64
BATCH = 128

#: Most bytes of a reply of the agent, which holds outputs of its policy.
MAX_REPLY = 2**26

#: What is accepted as a request: `explain` carries an observation.
REQUEST_LIMITS = Limits(header=2**20, arrays=256, array=2**26, total=2**27)
MAX_MESSAGE = 2**30

#: Seconds that a goodbye may take.
LINGER_MS = 500


class Service:
    """The explainer's sockets: one subscription to the agent, one publication, one for requests.

    Args:
        source: Endpoint of the agent's stream, or None until a request names one.
        device: Where to compute.
        settings: How to begin.
        recording: Explain steps of this recording, each with the policy that made it, instead of an agent's.

    Attributes:
        publish: Endpoint of the explainer's own stream.
        control: Endpoint for requests.

    Raises:
        SaliencyError: The source is not an endpoint.
    """

    def __init__(
        self,
        source: str | None = None,
        *,
        device: str = "cpu",
        settings: Settings | None = None,
        recording: Recording | None = None,
    ) -> None:
        self._stream = uuid.uuid4().hex
        self._agent: zmq.Socket[bytes] | None = None
        self._agent_control: zmq.Socket[bytes] | None = None
        self._agent_at = ""  # where that is connected to
        self._source: str | None = None
        self._engine = (
            Engine(self._stream, time.monotonic, device=device, settings=settings)
            if recording is None
            else RecordedEngine(recording, self._stream, time.monotonic, device=device, settings=settings)
        )
        self._requests = itertools.count()  # those to the agent
        self._garbage = 0
        self._sequences: defaultdict[str, itertools.count[int]] = defaultdict(itertools.count)
        self._logged: set[str] = set()
        self._told: object = None
        self._next_beat = 0.0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._open_sockets()
            if source is not None:
                self._switch(self._subscribe(source), source)
        except BaseException:
            self._context.destroy(linger=0)
            raise

    def _open_sockets(self) -> None:
        self._xpub, self._router = self._context.socket(zmq.XPUB), self._context.socket(zmq.ROUTER)
        self._xpub.setsockopt(zmq.XPUB_VERBOSE, 1)  # each new subscriber is told the state
        for each in (self._xpub, self._router):
            each.setsockopt(zmq.LINGER, LINGER_MS)
            each.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
            each.setsockopt(zmq.RCVHWM, HIGH_WATER_MARK)
            each.setsockopt(zmq.MAXMSGSIZE, REQUEST_LIMITS.array)
            each.bind("tcp://127.0.0.1:*")
        self.publish, self.control = (each.getsockopt_string(zmq.LAST_ENDPOINT) for each in (self._xpub, self._router))

    # ── loop ──

    def run(self, over: Callable[[], bool]) -> None:
        """Serve until ``over`` says so, then say goodbye and close the sockets."""
        try:
            while not over():
                self._wait()
                self._guarded(self._read_subscriptions)
                self._guarded(self._read_agent)
                self._guarded(self._read_replies)
                self._guarded(self._read_requests)
                message = self._engine.work()
                if message is not None:
                    self._send(message)
                self._guarded(self._ask_for_missing)
                self._guarded(self._ask_policy)
                self._tell()
            self._send(Bye(stream=self._stream, reason="the explainer was ended"))
        finally:
            self._context.destroy(linger=LINGER_MS)

    def _wait(self) -> None:
        """Sleep until something arrives; not at all while there is something to compute."""
        if self._engine.busy:
            return
        poller = zmq.Poller()
        for each in (self._xpub, self._router, self._agent, self._agent_control):
            if each is not None:
                poller.register(each, zmq.POLLIN)
        poller.poll(IDLE_MS)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Nothing that arrives ends the explainer."""
        try:
            work()
        except zmq.ContextTerminated:
            raise
        except Exception as error:
            self._log_once(f"{work.__name__}: {type(error).__name__}", "%s: %s", work.__name__, error)

    def _log_once(self, about: str, text: str, *args: object) -> None:
        if about not in self._logged and len(self._logged) < 1000:
            self._logged.add(about)
            log.warning(text, *args)

    # ── the agent ──

    def _subscribe(self, source: str) -> zmq.Socket[bytes]:
        """Return a socket that is subscribed to an agent.

        Raises:
            SaliencyError: The source is not an endpoint.
        """
        try:
            parse_endpoint(source)
        except ValueError as error:
            raise SaliencyError(f"source {error}") from None
        socket = self._context.socket(zmq.SUB)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVHWM, HIGH_WATER_MARK)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)
        socket.setsockopt(zmq.RECONNECT_IVL, 100)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        for kind in KINDS:
            socket.subscribe(kind.encode())
        try:
            socket.connect(source)
        except zmq.ZMQError as error:
            socket.close()
            raise SaliencyError(f"source {source!r} cannot be connected to: {error}") from None
        return socket

    def _switch(self, socket: zmq.Socket[bytes], source: str) -> None:
        """Follow another agent from now on."""
        for old in (self._agent, self._agent_control):
            if old is not None:
                old.close()
        self._agent, self._agent_control, self._source = socket, None, source
        self._engine.follow_anew()

    def _read_agent(self) -> None:
        for _ in range(BATCH):
            if self._agent is None:
                return
            try:
                frames = self._agent.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            try:
                message = decode([frame.buffer for frame in frames])
            except VersionError as error:
                self._engine.foreign = str(error)
                self._log_once("version", "%s: %s", self._source, error)
            except ProtocolError as error:
                self._garbage += 1
                self._log_once(f"agent: {type(error).__name__}", "dropped what is no message: %s", error)
            else:
                if message.kind in KINDS:
                    self._engine.receive(message)

    def _ask_for_missing(self) -> None:
        if not self._engine.resend:
            return
        kinds = tuple(kind for kind in ("policy_graph", "weights") if kind in self._engine.resend)
        self._engine.resend.clear()
        self._request(Resend(stream=self._stream, kinds=kinds))

    def _ask_policy(self) -> None:
        """Ask the agent what its policy computes, where it is one that has to be asked."""
        question = self._engine.question()
        if question is not None:
            number = self._request(question)
            if number is not None:
                self._engine.asked(number)

    def _request(self, request: Message) -> int | None:
        """Send a request to the agent; return its number, None where it could not be sent."""
        hello = self._engine.hello
        if hello is None or hello.control is None or not self._near(hello.control):
            return None
        if self._agent_control is not None and self._agent_at != hello.control:  # it was started anew
            self._agent_control.close()
            self._agent_control = None
        if self._agent_control is None:
            self._agent_control, self._agent_at = self._context.socket(zmq.DEALER), hello.control
            self._agent_control.setsockopt(zmq.LINGER, 0)
            self._agent_control.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
            self._agent_control.setsockopt(zmq.RCVHWM, HIGH_WATER_MARK)
            self._agent_control.setsockopt(zmq.MAXMSGSIZE, MAX_REPLY)
            self._agent_control.connect(hello.control)
        request = msgspec.structs.replace(request, seq=next(self._requests), time=time.time())
        try:
            self._agent_control.send_multipart(encode(request), zmq.NOBLOCK)
        except zmq.Again:
            return None
        return request.seq

    def _read_replies(self) -> None:
        for _ in range(BATCH):
            if self._agent_control is None:
                return
            try:
                reply = decode(self._agent_control.recv_multipart(zmq.NOBLOCK), REQUEST_LIMITS)
            except zmq.Again:
                return
            except ProtocolError as error:
                self._garbage += 1
                self._log_once(f"reply: {type(error).__name__}", "dropped what is no reply: %s", error)
            else:
                if isinstance(reply, Reply):
                    self._engine.answered(reply)

    def _near(self, control: str) -> bool:
        """Whether an endpoint that a stream names is on this machine, or where the stream itself is."""
        try:
            place = parse_endpoint(control).place
        except ValueError:
            return False
        near = {"", "127.0.0.1", "[::1]", "localhost"}
        return place in near or (self._source is not None and place == parse_endpoint(self._source).place)

    # ── requests ──

    def _read_requests(self) -> None:
        for _ in range(BATCH):
            try:
                identity, *frames = self._router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                request = decode(frames, REQUEST_LIMITS)
            except ProtocolError as error:
                self._garbage += 1
                self._log_once(f"request: {type(error).__name__}", "ignored what is no request: %s", error)
                continue
            problem = self._answer(request)
            reply = Reply(stream=self._stream, request=request.seq, ok=problem is None, problem=problem)
            with contextlib.suppress(zmq.ZMQError):  # who asked has gone
                self._router.send_multipart([identity, *encode(self._numbered(reply))], zmq.NOBLOCK)

    def _answer(self, request: Message) -> str | None:
        """Do what is asked for; return why it is not possible, or None."""
        try:
            match request:
                case Ping():
                    pass
                case Explain():
                    self._engine.explain(request)
                case Evaluate():
                    self._engine.evaluate(request)
                case Configure():
                    self._configure(request)
                case _:
                    raise SaliencyError(
                        f"an explainer answers ping, configure, explain and evaluate, not {request.kind}"
                    )
        except SaliencyError as error:
            return str(error)
        return None

    def _configure(self, request: Configure) -> None:
        if request.source is None or request.source == self._source:
            self._engine.configure(request)
            return
        socket = self._subscribe(request.source)
        try:
            self._engine.configure(request, anew=True)
        except SaliencyError:
            socket.close()
            raise
        self._switch(socket, request.source)

    # ── the explainer's own stream ──

    def _read_subscriptions(self) -> None:
        with contextlib.suppress(zmq.Again):
            while True:
                subscription = b"".join(self._xpub.recv_multipart(zmq.NOBLOCK))
                if subscription[:1] == b"\x01" and Explainer.kind.encode().startswith(subscription[1:]):
                    self._told = None

    def _tell(self) -> None:
        """Publish the state if it has changed or a second is over."""
        now = time.monotonic()
        due = now >= self._next_beat
        if due:
            self._engine.advance()
        essence = self._engine.essence
        if not due and essence == self._told:
            return
        self._told = essence
        self._next_beat = now + BEAT
        self._send(Explainer(stream=self._stream, control=self.control, **self._engine.status()))

    def _send(self, message: Message) -> None:
        with contextlib.suppress(zmq.Again):
            self._xpub.send_multipart(encode(self._numbered(message)), zmq.NOBLOCK, copy=False)

    def _numbered(self, message: Message) -> Message:
        number = next(self._sequences[message.kind])
        return msgspec.structs.replace(message, seq=number, time=time.time())
