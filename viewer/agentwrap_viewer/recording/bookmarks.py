"""A user's own marks in a recording, in a file beside it that people can read and write too.

``run.mcap.bookmarks.json`` is one JSON object, ``{"stream": "…", "bookmarks": [{"step": 88, "note": "crash"}]}``, of
which ``stream``, the identity of what was recorded, may be left out. The recording itself is never written to.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from .errors import RecordingError

#: Bookmarks in a file at most, characters of a note, and bytes of a file that is read.
MOST, LONGEST_NOTE, MOST_BYTES = 10_000, 500, 16 * 2**20

SUFFIX = ".bookmarks.json"


class Bookmark(msgspec.Struct, frozen=True, order=True):
    """A step that the user marked.

    Attributes:
        step: Its number.
        note: What the user says of it; may be empty.
    """

    step: Annotated[int, Meta(ge=0, le=2**62)]
    note: Annotated[str, Meta(max_length=LONGEST_NOTE)] = ""


class _File(msgspec.Struct):
    """What is in the file."""

    bookmarks: Annotated[list[Bookmark], Meta(max_length=MOST)]
    stream: str = ""


class Bookmarks:
    """The bookmarks of one recording. Their file is read whenever it is asked: others may have written it meanwhile.

    Args:
        recording: The recording's file.
        stream: Identity of the stream that was recorded.

    Attributes:
        path: Their file, which need not exist.
    """

    def __init__(self, recording: str | os.PathLike[str], *, stream: str = "") -> None:
        self.path = Path(recording).with_name(Path(recording).name + SUFFIX)
        self._stream = stream

    @property
    def all(self) -> list[Bookmark]:
        """The bookmarks, in the order of steps.

        Raises:
            RecordingError: The file cannot be read, holds no bookmarks, or those of another recording.
        """
        return [Bookmark(step, note) for step, note in sorted(self._read().items())]

    def add(self, step: int, note: str = "") -> None:
        """Mark a step, or give its mark another note.

        Raises:
            RecordingError: The step or the note is out of bounds, there are too many, or the file cannot be read or
                written; then nothing has changed.
        """
        note = note.strip()
        if not 0 <= step <= 2**62:
            raise RecordingError(f"{step} is no number of a step")
        if len(note) > LONGEST_NOTE:
            raise RecordingError(f"the note has {len(note):,} characters; a bookmark holds {LONGEST_NOTE:,}")
        notes = self._read()
        if len(notes) >= MOST and step not in notes:
            raise RecordingError(f"{self.path} holds {MOST:,} bookmarks, which is as many as it may: remove some")
        self._write({**notes, step: note})

    def remove(self, step: int) -> None:
        """Take a step's mark away, if it has one.

        Raises:
            RecordingError: The file cannot be read or written; then nothing has changed.
        """
        notes = self._read()
        if step in notes:
            self._write({key: note for key, note in notes.items() if key != step})

    def _read(self) -> dict[int, str]:
        try:
            with open(self.path, "rb") as file:
                data = file.read(MOST_BYTES + 1)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise RecordingError(f"{self.path} cannot be read: {error.strerror}") from error
        try:
            stream, bookmarks = parse(data)
        except ValueError as error:
            raise RecordingError(f"{self.path} holds no bookmarks: {error}. Mend it, or move it away") from error
        if stream and self._stream and stream != self._stream:
            raise RecordingError(f"{self.path} holds bookmarks of another recording. Move it away")
        return {each.step: each.note for each in bookmarks}

    def _write(self, notes: dict[int, str]) -> None:
        """Write the file at once: who reads it sees all of the old one or all of the new one."""
        bookmarks = [{"step": step, "note": note} for step, note in sorted(notes.items())]
        text = json.dumps({"stream": self._stream, "bookmarks": bookmarks}, indent=1, ensure_ascii=False) + "\n"
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        try:
            try:
                with open(part, "wb") as file:
                    file.write(text.encode(errors="replace"))  # halves of characters are no text
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(part, self.path)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            raise RecordingError(f"{self.path} cannot be written: {error.strerror or error}") from error


def parse(data: bytes) -> tuple[str, list[Bookmark]]:
    """Read the text of a file of bookmarks; return the stream's identity ("" where none is said) and the bookmarks.

    Raises:
        ValueError: It is none; the text says where it is not.
    """
    if len(data) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
    try:
        found = msgspec.json.decode(data, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    return found.stream, found.bookmarks
