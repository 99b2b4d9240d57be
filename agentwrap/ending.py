"""Ends what a wrapper has begun: when it is closed or forgotten, or the process ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .announce import withdraw
from .policy_feed import PolicyFeed
from .publisher import Publisher
from .viewer_process import end_viewer

if TYPE_CHECKING:
    from .recorder import Recorder


#: Said where the viewer was not ready before its agent was.
TOO_SOON = (
    "agentwrap: the run was over before its viewer had started: env.wait_for_viewer() before the loop waits for it, "
    "record= keeps a run for later"
)


class Ending:
    """Knows nothing of the wrapper, so that this can be collected.

    Attributes:
        announcement: File to remove, or None.
        viewer: Process to end, or None.
        recorder: Recording to end, or None.

    Args:
        publisher: Stream to end.
        feed: Whose hooks to take off.
        quiet: Do not say how the recording went.
    """

    def __init__(self, publisher: Publisher, feed: PolicyFeed, *, quiet: bool) -> None:
        self.announcement: Path | None = None
        self.recorder: Recorder | None = None
        self.viewer: subprocess.Popen[bytes] | None = None
        self._publisher, self._feed, self._quiet, self._pid = publisher, feed, quiet, os.getpid()

    def __call__(self) -> None:
        """End it all; what was begun in a parent process is left alone."""
        self._feed.capture.detach()
        if os.getpid() != self._pid:
            return  # a forked child: the stream is its parent's
        if self.announcement is not None:
            withdraw(self.announcement)
        self._publisher.close()
        if self.recorder is not None:
            summary = self.recorder.close()
            if not self._quiet:
                print(f"agentwrap: {summary}", file=sys.stderr, flush=True)
        if self.viewer is not None:
            if not (self._publisher.was_watched or self._quiet):
                print(TOO_SOON, file=sys.stderr, flush=True)
            end_viewer(self.viewer)
