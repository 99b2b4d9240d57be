"""Writes recordings from messages that are there already: a live stream's, or maps that were computed."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import msgspec

from agentwrap_protocol import Message
from agentwrap_protocol.mcap_encoder import McapEncoder, describe
from agentwrap_protocol.messages import Hello

from .errors import RecordingError

#: Seconds after which what was added is handed to the disk, when more is added.
FLUSH = 0.5


class RecordingWriter:
    """A recording being written, in the caller's thread; a context manager that ends the file.

    Attributes:
        path: The file.
        counts: Messages added, by kind.

    Args:
        path: The file to write.
        hello: Whose stream it is.
        metadata: Further entries of the file's metadata.
        overwrite: Replace the file if there is one.

    Raises:
        RecordingError: The file exists, or cannot be written; also from all methods.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        hello: Hello,
        *,
        metadata: Mapping[str, str] | None = None,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        self._encoder = McapEncoder(library="agentwrap-rl viewer")
        self._renumbered: defaultdict[str, int] = defaultdict(int)
        self._due = time.monotonic() + FLUSH
        try:
            self._file = open(self.path, "wb" if overwrite else "xb", buffering=0)
        except FileExistsError:
            raise RecordingError(f"{self.path} exists already: choose another name, or pass --overwrite") from None
        except OSError as error:
            raise RecordingError(f"{self.path} cannot be written: {error.strerror}") from error
        created = datetime.now(UTC).isoformat(timespec="seconds")
        self._write(self._encoder.begin(describe(hello, created=created, **(metadata or {}))))
        self.add(hello, renumber=True)

    @property
    def counts(self) -> Mapping[str, int]:
        """Messages added, by kind."""
        return self._encoder.counts

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not isinstance(error, RecordingError):
                self.close()
        finally:
            self._file.close()

    def add(self, message: Message, *, renumber: bool = False) -> None:
        """Add a message; with ``renumber``, ``seq`` becomes its number among those of its kind here."""
        if renumber:
            message = msgspec.structs.replace(message, seq=self._renumbered[message.kind])
            self._renumbered[message.kind] += 1
        self._write(self._encoder.add(message))
        self.flush_if_due()

    def add_metadata(self, name: str, entries: Mapping[str, str]) -> None:
        """Add a metadata record (SPEC section 13)."""
        self._write(self._encoder.metadata(name, entries))

    def flush_if_due(self) -> None:
        """Hand what was added to the disk, if the last time is long enough ago."""
        if time.monotonic() >= self._due:
            self.flush()

    def flush(self) -> None:
        """Hand what was added to the disk."""
        self._write(self._encoder.flush())
        self._due = time.monotonic() + FLUSH

    def close(self) -> None:
        """End the file."""
        if not self._file.closed:
            steps = self._encoder.counts["step"]
            self._write(self._encoder.finish({"steps": str(steps), "dropped": "0", "waited_seconds": "0"}))
            self._file.close()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            kept = "What was written until then is kept and can be opened"
            raise RecordingError(f"{self.path} cannot be written on: {error.strerror}. {kept}") from error
