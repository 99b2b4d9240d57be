"""``agentwrap record [ENDPOINT] run.mcap``: writes a live stream to a file, as much of it as is sent."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

from agentwrap_viewer.launch import LaunchError, check_endpoint

from .arguments import add_endpoint, need
from .errors import NEEDED

if TYPE_CHECKING:
    from agentwrap_protocol import events as ev
    from agentwrap_viewer.recording.writer import RecordingWriter

HELP = "record a running agent's stream"

DESCRIPTION = (
    "Write a running agent's stream to a file until it ends, or Ctrl-C. That is what viewers see: at most so many "
    "steps per second. InterpretWrapper(…, record=FILE) in the agent's own program records every step."
)

#: What is subscribed to; the introduction first (SPEC section 7).
KINDS = ("hello", "policy_graph", "weights", "step", "episode_end", "heartbeat", "bye")

#: Milliseconds between two looks at the clock.
TICK = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``agentwrap record``."""
    add_endpoint(parser)
    parser.add_argument("recording", metavar="FILE", help="the file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if there is one")
    parser.add_argument("--attached", action="store_true", help=argparse.SUPPRESS)  # end when standard input closes
    parser.add_argument("--steps", type=int, metavar="N", help="end after so many steps")


def run(arguments: argparse.Namespace) -> int:
    """Record until the stream ends, Ctrl-C or SIGTERM; returns the exit status.

    Raises:
        LaunchError: There is no stream, or the file cannot be written.
    """
    need((*NEEDED, "zmq"))
    from agentwrap_viewer.recording import RecordingError

    endpoint = arguments.endpoint or _newest()
    check_endpoint(endpoint)
    if os.path.lexists(arguments.recording) and not arguments.overwrite:
        raise LaunchError(f"{arguments.recording} exists already: choose another name, or pass --overwrite")
    stop = _Stop(attached=arguments.attached)
    try:
        with _Follower(endpoint) as follower:
            print(f"agentwrap record: waiting for {endpoint}  (Ctrl-C ends it)", flush=True)
            recorded = follower.record(arguments.recording, stop, overwrite=arguments.overwrite, steps=arguments.steps)
    except RecordingError as error:
        raise LaunchError(str(error)) from error
    if recorded is None:
        raise LaunchError(f"nothing was heard of {endpoint}")
    print(f"agentwrap record: {recorded}", flush=True)
    return 0


def _newest() -> str:
    from agentwrap_viewer.page.discovery import live_streams

    found = live_streams()
    if not found:
        raise LaunchError("no agent streams on this machine: start one, or name its ENDPOINT")
    return found[0].endpoint


class _Stop:
    """Becomes true with Ctrl-C or SIGTERM; where ``attached`` also when whoever started this is gone."""

    def __init__(self, *, attached: bool) -> None:
        self._asked = False
        if attached:
            threading.Thread(target=self._watch_input, daemon=True).start()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, *_: object) -> None:
        self._asked = True

    def _watch_input(self) -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        self._asked = True

    def __bool__(self) -> bool:
        return self._asked


class _Follower:
    """Follows one stream and writes it."""

    def __init__(self, endpoint: str) -> None:
        import zmq

        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, 0)  # nothing is lost here: what the disk does not take waits in memory
        for kind in KINDS:  # before it connects: they arrive together, and no step comes whose goodbye does not
            self._socket.subscribe(kind)
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise LaunchError(f"{endpoint!r} cannot be connected to: {error}") from error
        self._writer: RecordingWriter | None = None
        self._lost = 0

    def __enter__(self) -> _Follower:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

    def record(self, path: str, stop: _Stop, *, overwrite: bool, steps: int | None) -> str | None:
        """Write until told to stop, or the stream has ended; return how it went, None where nothing came."""
        from agentwrap_protocol import ProtocolError, decode
        from agentwrap_protocol.session import Session

        session = Session(KINDS)
        try:
            while not stop and session.state != "ended":
                if self._socket.poll(TICK):
                    try:
                        events = session.receive(decode(self._socket.recv_multipart()))
                    except ProtocolError:
                        continue
                    for event in events:
                        if not self._take(event, path, overwrite):
                            return self._end("the agent was started anew")
                elif self._writer is not None:
                    self._writer.flush_if_due()
                session.advance(time.monotonic())
                if steps is not None and self._writer is not None and self._writer.counts["step"] >= steps:
                    break
            return self._end("the stream ended" if session.state == "ended" else "")
        finally:
            if self._writer is not None:
                self._writer.__exit__(None, None, None)

    def _take(self, event: ev.Event, path: str, overwrite: bool) -> bool:
        """Write what an event brings; False where another stream begins."""
        from agentwrap_protocol import events as ev
        from agentwrap_protocol.messages import EpisodeEnd, Hello, Step
        from agentwrap_viewer.recording.writer import RecordingWriter

        match event:
            case ev.StreamStarted(Hello() as hello):
                self._writer = RecordingWriter(path, hello, overwrite=overwrite)
            case ev.StreamReplaced():
                return False
            case ev.StreamUpdated(message) | ev.GraphReceived(message) | ev.WeightsReceived(message):
                if self._writer is not None:
                    self._writer.add(message, renumber=True)
            case ev.MessageReceived(message) if isinstance(message, Step | EpisodeEnd) and self._writer is not None:
                self._writer.add(message)
            case ev.Gap("step", missing):
                self._lost += missing
        return True

    def _end(self, why: str) -> str | None:
        if self._writer is None:
            return None
        counts = self._writer.counts
        parts = [f"{counts['step']:,} steps and {counts['episode_end']:,} episodes are in {self._writer.path}"]
        if self._lost:
            parts.append(f"{self._lost:,} steps were sent but did not arrive")
        return "; ".join([*parts, why] if why else parts)
