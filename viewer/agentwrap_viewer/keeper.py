"""Records the stream that the page shows, by ``agentwrap record`` in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from .launch import Child
from .page.keeping import Kept


class StreamKeeper:
    """Records one stream at a time to new files in a directory, on the running asyncio loop.

    The page's own process takes no part in it: what is recorded arrives whole however busy the page is.

    Args:
        directory: Where files are written; by default the current one.
        changed: Called when a recording begins or has ended.
    """

    def __init__(self, directory: Path | None = None, *, changed: Callable[[], None] = lambda: None) -> None:
        self._directory = Path.cwd() if directory is None else directory
        self._changed = changed
        self._child: Child | None = None
        self._task: asyncio.Task[None] | None = None
        self._path = Path()
        self._began = self._ended = 0.0
        self._outcome, self._failed = "", False

    @property
    def kept(self) -> Kept | None:
        """The recording that goes on, or else the last one, or None."""
        if self._task is None:
            return None
        running = self._child is not None
        size = 0
        with contextlib.suppress(OSError):
            size = os.stat(self._path).st_size
        until = time.monotonic() if running else self._ended
        return Kept(str(self._path), until - self._began, size, running, self._outcome, self._failed)

    def begin(self, endpoint: str, name: str) -> None:
        """Record the stream at an endpoint from now on; nothing where one is being recorded already."""
        if self._child is not None:
            return
        self._path, self._began = self._new_path(name), time.monotonic()
        self._outcome, self._failed = "", False
        command = (sys.executable, "-m", "agentwrap_viewer", "record", endpoint, str(self._path), "--attached")
        self._child = Child(command)
        self._task = asyncio.create_task(self._record(self._child), name="record")
        self._changed()

    def end(self) -> None:
        """End the recording that goes on: its last steps are written, then it is closed."""
        if self._child is not None:
            self._child.ask_to_end()

    async def close(self) -> None:
        """End the recording that goes on, and wait until it is closed."""
        self.end()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _record(self, child: Child) -> None:
        said = ""
        try:
            await child.start()
            while line := await child.line():
                said = line
            code = await child.wait()
            self._outcome, self._failed = _plain(child.last_words if code else said), code != 0
        finally:
            await child.stop()
            self._child, self._ended = None, time.monotonic()
            self._changed()

    def _new_path(self, name: str) -> Path:
        """Return the path of a file that is not there yet, named after stream and time."""
        slug = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()[:40] or "run"
        stem = f"{slug}-{datetime.now():%Y%m%d-%H%M%S}"
        for suffix in ("", *(f"-{number}" for number in range(2, 100))):
            path = self._directory / f"{stem}{suffix}.mcap"
            if not path.exists():
                break
        return path


def _plain(said: str) -> str:
    """Return the last line of what a command said, without its name."""
    last = said.strip().rsplit("\n", 1)[-1]
    return re.sub(r"^agentwrap(?: record)?: ", "", last).strip() or "it ended without a word"
