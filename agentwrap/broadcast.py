"""Where a stream goes: to the sockets, to a file where it is recorded, to the directory where viewers look for it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from agentwrap_protocol import VERSION, Announcement
from agentwrap_protocol.messages import Environments, Hello, Watch

from .announce import announce
from .ending import Ending
from .guard import Guard
from .heartbeat import Progress
from .identity import Identity
from .policy_feed import PolicyFeed
from .publisher import Publisher
from .viewer_process import start_viewer

if TYPE_CHECKING:
    from .outlets import Outlets
    from .recorder import OnFull, Recorder


class Broadcast:
    """Begins everything by which a stream reaches others; ``ending`` ends it all.

    Attributes:
        publisher: The sockets.
        outlets: Where messages go that are for all: the publisher, with a recording both.
        recorder: The recording, or None.
        endpoint: Where the stream is.
        ending: Ends what was begun.

    Args:
        stream: Identity of the stream.
        identity: Who streams.
        feed: Whose hooks are taken off at the end.
        guard: Told of what goes wrong.
        endpoint: See ``agentwrap.endpoint.bind``.
        hello: Bound method that makes the hello message of this moment, given the endpoint for requests or None; held
            weakly.
        progress: Bound method that says how far the agent is; likewise.
        environments: Bound method that says how the stream's environments do; likewise.
        watch: Bound method that shows another of them, and returns what stands in the way or None; likewise.
        quiet: Print nothing.

    Raises:
        EndpointError: The endpoint is malformed or reaches beyond this machine.
        PortTakenError: Something else listens there.
    """

    def __init__(
        self,
        stream: str,
        identity: Identity,
        *,
        feed: PolicyFeed,
        guard: Guard,
        endpoint: str | None,
        hello: Callable[[str | None], Hello],
        progress: Callable[[], Progress],
        environments: Callable[[], Environments],
        watch: Callable[[Watch], str | None],
        quiet: bool,
    ) -> None:
        self.recorder: Recorder | None = None
        self.publisher = Publisher(
            stream,
            endpoint,
            hello=hello,
            progress=progress,
            environments=environments,
            watch=watch,
            on_probe=feed.probing.ask,
        )
        self.outlets: Publisher | Outlets = self.publisher
        self.endpoint = self.publisher.endpoint
        self.ending = Ending(self.publisher, feed, quiet=quiet)
        self._stream, self._identity, self._guard, self._quiet = stream, identity, guard, quiet

    def record(
        self,
        path: str | os.PathLike[str],
        hello: Callable[[], Hello],
        *,
        record_every: int,
        on_full: OnFull,
        overwrite: bool,
    ) -> None:
        """Record the stream too.

        Args:
            path: The file.
            hello: Bound method that makes the recording's hello message; held weakly.
            record_every: Recorded is one step in so many.
            on_full: See ``Recorder``.
            overwrite: Likewise.

        Raises:
            RecordingError: The file exists already, or cannot be written.
            MissingExtraError: What recording needs is not installed.
        """
        from .outlets import Outlets
        from .recorder import Recorder

        self.recorder = self.ending.recorder = Recorder(path, on_full=on_full, overwrite=overwrite)
        self.recorder.begin(hello(), record_every=str(record_every))
        self.outlets = Outlets(self.publisher, self.recorder, hello)

    def open(self, *, view: bool) -> None:
        """Let viewers find the stream, or start one.

        Raises:
            MissingExtraError: ``view`` without the viewer installed.
        """
        self.ending.announcement = self._guard.run("announcing the stream", self._announce)
        self.ending.viewer = start_viewer(self.endpoint) if view else None
        if not self._quiet:
            look = "the viewer starts" if view else 'run "agentwrap view" to look'
            name = self._identity.name
            print(f"agentwrap: streaming {name} on {self.endpoint} - {look}", file=sys.stderr, flush=True)

    def stop_recording(self, error: Exception) -> None:
        """Go on without: the file is kept as far as it was written."""
        self.outlets = self.publisher
        self._guard.switch_off("recording", error)

    def wait_for(self, kind: str, timeout: float) -> bool:
        """Wait until somebody subscribes to messages of a kind; returns whether somebody has.

        Args:
            kind: Kind of message.
            timeout: Most seconds to wait.
        """
        deadline = time.monotonic() + timeout
        while not self.publisher.wants(kind):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _announce(self) -> Path:
        return announce(
            Announcement(
                stream=self._stream,
                endpoint=self.endpoint,
                name=self._identity.name,
                env_id=self._identity.env_id,
                pid=os.getpid(),
                started=time.time(),
                version=VERSION,
            )
        )
