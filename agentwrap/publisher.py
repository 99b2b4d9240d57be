"""One XPUB socket for the stream, one ROUTER for requests, and a thread that minds them.

What reads sockets or may wait (subscriptions, requests, the large messages about a policy) happens in a daemon thread
of the publisher's own. A step is encoded and handed to ZeroMQ, whose own thread has no use for the interpreter, by the
agent's thread itself wherever the socket is free: waking a Python thread to do it costs the agent more than doing it,
for the two then take the interpreter from each other. Where the socket is not free, the message goes into a bounded
queue and to the thread.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import socket
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

import msgspec
import zmq

from agentwrap_protocol import Message, encode
from agentwrap_protocol import messages as m

from . import endpoint as endpoints
from .answering import REQUEST_LIMITS, REQUESTS_AT_ONCE, Answering
from .heartbeat import INTERVAL, Heartbeats, Progress
from .outbox import Outbox
from .placement import Placement, network_thread, threads
from .probing import Answer
from .subscriptions import Subscriptions

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("agentwrap")

#: Messages that wait for one slow subscriber before further ones are dropped for it.
HIGH_WATER_MARK = 256

#: A subscriber that takes nothing at all for so long is disconnected, in seconds: what waits for it is memory.
STALLED = 10.0

#: How long closing waits for messages on their way, in seconds.
LINGER = 0.25

#: Seconds between the last message and the end of the sockets where somebody listens. ZeroMQ aborts the process when a
#: subscriber leaves at the very moment in which its socket is closed in the middle of a message (libzmq #3442).
SETTLE = 0.05

#: Seconds in which the agent's thread looks once for new subscriptions, and whether it has come to another processor:
#: both are calls of the system or nearly, and a tenth of what a step that is sent costs the agent.
LOOK_EVERY = 0.1

#: Frames of fewer bytes are copied when they are sent. Those that are not must be released again by a Python thread of
#: PyZMQ's, and that competes with the agent for the interpreter: a picture is copied in a fraction of the time.
COPIED = 2**20

#: Flags of ZeroMQ as plain numbers: operations on PyZMQ's own run Python's, in every step that is sent.
_NOBLOCK, _MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
_EVENTS, _POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)

#: Kinds that every new subscriber gets at once, in this order.
RETAINED = (m.Hello.kind, m.PolicyGraph.kind, m.Weights.kind)


class Publisher:
    """Publishes a stream and answers requests, from a daemon thread.

    Attributes:
        stream: Identity of the stream.
        endpoint: Where the stream is, for subscribers.
        control: Where requests go.
        watched: True while somebody subscribes to steps. A plain attribute: reading it is all that an unwatched step
            costs.
        was_watched: Whether somebody ever has.
        error: First unexpected error in the thread, or None.

    Args:
        stream: 32 hexadecimal digits.
        endpoint: See ``agentwrap.endpoint.bind``.
        hello: Bound method that makes the hello message of this moment, given ``control``; called in the publisher's
            thread and held weakly, so that a forgotten wrapper can be collected.
        progress: Bound method that says how far the agent is; as ``hello``.
        environments: Bound method that says how the stream's environments do; likewise. None where that is not told.
        watch: Bound method that shows another of them, and returns what stands in the way or None; likewise.
        on_probe: Takes a request for the policy's outputs, and what to answer it by, from whatever thread; called in
            the publisher's thread. None where the policy is not asked.

    Raises:
        EndpointError: The endpoint is malformed or reaches beyond this machine.
        PortTakenError: Something else listens there.
    """

    def __init__(
        self,
        stream: str,
        endpoint: str | None,
        *,
        hello: Callable[[str], m.Hello],
        progress: Callable[[], Progress],
        environments: Callable[[], m.Environments] | None = None,
        watch: Callable[[m.Watch], str | None] | None = None,
        on_probe: Callable[[m.Probe, Answer], None] | None = None,
    ) -> None:
        self.stream = stream
        self.watched = self.was_watched = False
        self.error: Exception | None = None
        self._hello, self._progress = weakref.WeakMethod(hello), weakref.WeakMethod(progress)
        self._environments = _weak(environments)
        self._outbox = Outbox()
        self._using_xpub = (
            threading.Lock()
        )  # whoever touches that socket holds it; the agent's thread never waits for it
        self._subscriptions = Subscriptions()
        self._sequences: defaultdict[str, itertools.count[int]] = defaultdict(itertools.count)
        self._retained: dict[str, Message] = {}
        self._due: set[str] = set()  # retained kinds to publish again; the thread's alone
        self._hello_changed = False
        self._sent_steps = 0
        self._next_look = 0.0  # of the agent's thread
        self._heartbeats = Heartbeats()
        self._logged: set[str] = set()
        self._closed = False
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._open_sockets(endpoint)
        except BaseException:
            self._context.destroy(linger=0)
            raise
        self._answering = Answering(
            stream,
            self._router,
            resend=self._due.add,
            watch=_weak(watch),
            on_probe=on_probe,
            wake=self._wake,
            warn=self._log_once,
        )
        self._thread = threading.Thread(target=self._run, name="agentwrap-publisher", daemon=True)
        self._thread.start()
        _LIVE.add(self)

    def _open_sockets(self, endpoint: str | None) -> None:
        before = threads()
        self._xpub, self._router = self._context.socket(zmq.XPUB), self._context.socket(zmq.ROUTER)
        self._network = Placement(partial(network_thread, threads() - before))
        for each in (self._xpub, self._router):
            each.setsockopt(zmq.LINGER, int(LINGER * 1000))
            each.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
            each.setsockopt(zmq.RCVHWM, 4 * REQUESTS_AT_ONCE)
            each.setsockopt(zmq.HEARTBEAT_IVL, int(STALLED * 200))
            each.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(STALLED * 1000))
        self._xpub.setsockopt(zmq.MAXMSGSIZE, REQUEST_LIMITS.header)
        self._router.setsockopt(zmq.MAXMSGSIZE, REQUEST_LIMITS.array)
        self._xpub.setsockopt(zmq.XPUB_VERBOSE, 1)  # reports every subscription, not only a topic's first: late joiners
        self.endpoint = endpoints.bind(self._xpub, endpoint)
        self.control = endpoints.bind_beside(self._router, self.endpoint)
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)

    # What the agent's thread calls.

    def wants(self, kind: str) -> bool:
        """Whether somebody subscribes to messages of this kind."""
        return kind in self._subscriptions.kinds and not self._closed

    def publish(self, message: Message) -> None:
        """Hand a message over; ``seq`` is filled in here. Never waits for the network, never raises because of it."""
        if self._closed:
            return
        if message.kind not in RETAINED:  # numbered before it can be dropped, so that the gap shows
            message = self._numbered(message)
            if self._send_at_once(message):
                return
        self._outbox.put(message)
        self._wake()

    def publish_hello(self) -> None:
        """Have hello made and sent again: a field has changed."""
        if not self._closed:
            self._hello_changed = True
            self._wake()

    def close(self, reason: str = "closed") -> None:
        """Say bye, send what waits, end the thread. Takes at most about a second; may be called again."""
        if self._closed:
            return
        beat = self._heartbeat() if self.wants(m.Heartbeat.kind) else None
        if beat is not None:  # how far the agent came: its last steps need not be among those that were sent
            self.publish(beat)
        self.publish(m.Bye(stream=self.stream, time=time.time(), reason=reason))
        self._closed = True
        self.watched = False
        self._wake()
        if threading.current_thread() is not self._thread:  # the garbage collector runs finalizers in any thread
            self._thread.join(timeout=1.0)
        _LIVE.discard(self)

    def fall_silent(self) -> None:
        """In a forked child: thread and sockets belong to the parent."""
        self._closed = True
        self.watched = False

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: the thread is awake anyway; closed: there is nobody to wake
            self._wake_writer.send(b"!")

    def _send_at_once(self, message: Message) -> bool:
        """Send a message from the agent's thread, if the socket is free and nothing waits that comes before it."""
        if not self._using_xpub.acquire(blocking=False):
            return False
        try:
            if self._closed or self._hello_changed or self._outbox:
                return False
            looks = (now := time.monotonic()) >= self._next_look
            if looks:
                self._next_look = now + LOOK_EVERY
                self._network.keep_away()
            self._guarded(f"send {message.kind}", self._send, message)
            if looks:
                self._guarded("look for subscriptions", self._notice_subscriptions)
            return True
        finally:
            self._using_xpub.release()

    def _notice_subscriptions(self) -> None:
        # using a socket takes away the signal by which the thread would have noticed; where nobody looks after the last
        # use, because the agent pauses, the thread does within a heartbeat
        if self._xpub.getsockopt(_EVENTS) & _POLLIN:  # type: ignore[operator]  # typed as for all options
            self._wake()

    # What runs in the thread.

    def _run(self) -> None:
        poller = zmq.Poller()
        # of a socket that two threads use, only the descriptor may be polled; it tells that the socket is worth a look
        for each in (self._xpub.getsockopt(zmq.FD), self._router, self._wake_reader):
            poller.register(each, zmq.POLLIN)
        try:
            while not self._closed:
                poller.poll(self._longest_wait())
                self._clear_wake()
                self._guarded("answer requests", self._answering.read)
                self._guarded("answer requests", self._answering.send)
                with self._using_xpub:
                    self._guarded("read subscriptions", self._read_subscriptions)
                    self._guarded("send what is due", self._send_due)
                    self._send_waiting()
                    self._guarded("send a heartbeat", self._beat)
                    self._guarded("look for subscriptions", self._notice_subscriptions)
            with self._using_xpub:
                self._send_waiting()
            if self._subscriptions.kinds:
                time.sleep(SETTLE)
        finally:
            self._closed = True
            with self._using_xpub:
                self._wake_reader.close()
                self._wake_writer.close()
                self._context.destroy(linger=int(LINGER * 1000))

    def _guarded(self, what: str, work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Do some work. Nothing ends the thread: what goes wrong is logged, once for each sort of error."""
        try:
            work(*args, **kwargs)
        except Exception as error:
            self.error = self.error or error
            self._log_once(f"{what}: {type(error).__name__}", "agentwrap: could not %s: %s", what, error)

    def _log_once(self, about: str, text: str, *args: object) -> None:
        if about not in self._logged:
            self._logged.add(about)
            log.warning(text, *args)

    def _clear_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_reader.recv(4096)

    def _read_subscriptions(self) -> None:
        had_heartbeat = self._is_beating
        with contextlib.suppress(zmq.Again):
            while True:
                new = self._subscriptions.receive(b"".join(self._xpub.recv_multipart(zmq.NOBLOCK)))
                if new:
                    self._due.update(new.intersection(RETAINED), [m.Hello.kind])
        self.watched = self.wants(m.Step.kind)
        self.was_watched = self.was_watched or self.watched
        if self._is_beating and not had_heartbeat:
            self._start_beating()

    def _send_due(self) -> None:
        if self._hello_changed:
            self._hello_changed = False  # before it is made: a change from now on needs another
            self._due.add(m.Hello.kind)
        for kind in RETAINED:
            if kind in self._due:
                self._due.discard(kind)
                message = self._make_hello() if kind == m.Hello.kind else self._retained.get(kind)
                if message is not None:
                    self._send(self._numbered(message))

    def _make_hello(self) -> m.Hello | None:
        make = self._hello()
        return make(self.control) if make is not None else None

    def _send_waiting(self) -> None:
        while (message := self._outbox.take()) is not None:
            if message.kind in RETAINED:  # the thread's to number, since it sends them again on its own
                message = self._retained[message.kind] = self._numbered(message)
            self._guarded(f"send {message.kind}", self._send, message)

    def _send(self, message: Message) -> None:
        self._sent_steps += isinstance(message, m.Step)
        *frames, last = encode(message)
        send = self._xpub.send
        try:
            try:
                for frame in frames:
                    send(frame, _MORE, len(frame) < COPIED)
            finally:  # also where Ctrl-C comes in between: the next message must not become the rest of this one
                send(last, _NOBLOCK, len(last) < COPIED)
        except zmq.Again:
            pass

    def _numbered(self, message: Message) -> Message:
        return msgspec.structs.replace(message, seq=next(self._sequences[message.kind]))

    @property
    def _is_beating(self) -> bool:
        return self.wants(m.Heartbeat.kind) or self.wants(m.Environments.kind)

    def _longest_wait(self) -> int | None:
        """Milliseconds until there may be something to do that nothing tells of; None where there is nobody."""
        if self._is_beating:
            return self._heartbeats.milliseconds
        return int(INTERVAL * 1000) if self._subscriptions.kinds else None

    def _start_beating(self) -> None:
        progress = self._progress()
        self._heartbeats.begin(progress().step if progress is not None else 0)

    def _beat(self) -> None:
        beat = self._heartbeat() if self._is_beating and self._heartbeats.due else None
        if beat is None:
            return
        if self.wants(m.Heartbeat.kind):
            self._send(self._numbered(beat))
        environments = self._environments()
        if environments is not None and self.wants(m.Environments.kind):
            self._send(self._numbered(environments()))

    def _heartbeat(self) -> m.Heartbeat | None:
        progress = self._progress()
        if progress is None:
            return None
        sent, dropped = self._sent_steps, self._outbox.dropped_steps
        return self._heartbeats.make(self.stream, progress(), sent=sent, dropped=dropped)


def _weak(method: Callable[P, R] | None) -> Callable[[], Callable[P, R] | None]:
    return weakref.WeakMethod(method) if method is not None else _none


def _none() -> None:
    return None


#: Publishers of this process that are open.
_LIVE: set[Publisher] = set()


def _fall_silent_after_fork() -> None:
    # they stay in the set, so that a child never tries to close what is its parent's
    for publisher in _LIVE:
        publisher.fall_silent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fall_silent_after_fork)
