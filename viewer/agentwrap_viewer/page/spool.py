"""Where a running agent's steps go when memory is full: temporary files, from which they are read back by position."""

from __future__ import annotations

import bisect
import os
import shutil
import tempfile
import threading
from array import array
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import platformdirs
import zstandard

from agentwrap_protocol import decode, encode
from agentwrap_protocol.messages import Step
from agentwrap_protocol.packing import pack, unpack

from .ring import size_of

#: Bytes on disk at most, and of one file: the oldest file goes as a whole.
MAX_BYTES, FILE_BYTES = 2 * 2**30, 128 * 2**20

#: Share of what is free on the disk that is taken at most.
SHARE = 0.1

#: Bytes of steps that may wait to be written. Where the disk is slower than that for long, what waits is forgotten.
WAITING_BYTES = 64 * 2**20

#: Bytes of steps that were read back and are kept: going back and forth reads each once.
KEPT_BYTES = 16 * 2**20


@dataclass
class _File:
    """A temporary file: steps one behind the other, each compressed, found by where they end."""

    file: IO[bytes]
    first: int  #: Position of its first step
    ends: array[int] = field(default_factory=lambda: array("Q"))
    numbers: array[int] = field(default_factory=lambda: array("q"))

    @property
    def size(self) -> int:
        return self.ends[-1] if self.ends else 0

    def read(self, position: int) -> bytes:
        index = position - self.first
        begin = self.ends[index - 1] if index else 0
        self.file.seek(begin)
        return self.file.read(self.ends[index] - begin)

    def write(self, data: bytes) -> None:
        self.file.seek(self.size)
        view = memoryview(data)
        while view:
            view = view[self.file.write(view) :]


class Spool:
    """The steps that a ring has forgotten, compressed on disk by a thread of its own, within bounds.

    Its files have no name (or lose it when they are closed): nothing is left behind, however the process ends. They
    lie in the user's cache directory, since the system's temporary one is memory on many machines.

    Args:
        directory: Where its files lie, instead.
        max_bytes: Bytes of all files at most, and at most a tenth of what is free on the disk.
        file_bytes: Bytes of one file, about: so much is forgotten at a time.

    Attributes:
        problem: Why nothing is written any more, or None.
    """

    def __init__(
        self, directory: Path | None = None, *, max_bytes: int = MAX_BYTES, file_bytes: int = FILE_BYTES
    ) -> None:
        self.problem: str | None = None
        self._directory, self._max_bytes, self._file_bytes = directory, max_bytes, file_bytes
        self._files: list[_File] = []
        self._waiting: deque[Step] = deque()
        self._waiting_bytes = 0
        self._next = 0  # position of the first step that waits
        self._kept: OrderedDict[int, Step] = OrderedDict()
        self._kept_bytes = 0
        self._changed = threading.Condition()  # guards all that is above; never held while the disk is waited for
        self._disk = threading.Lock()  # guards the files' positions
        self._closed = False
        self._thread: threading.Thread | None = None
        self._compressor, self._decompressor = zstandard.ZstdCompressor(level=1), zstandard.ZstdDecompressor()

    @property
    def first(self) -> int:
        """Position of the oldest step it has; ``end`` where it has none."""
        return self._files[0].first if self._files else self._next

    @property
    def end(self) -> int:
        """Position after the newest step it has."""
        return self._next + len(self._waiting)

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(each.size for each in self._files)

    def append(self, position: int, step: Step) -> None:
        """Take over a step; one whose position does not follow begins anew."""
        with self._changed:
            if self.problem is not None or self._closed:
                return
            if position != self.end or self._waiting_bytes > WAITING_BYTES:
                self._forget(position)
            self._waiting.append(step)
            self._waiting_bytes += size_of(step)
            self._changed.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_all, name="agentwrap spool", daemon=True)
            self._thread.start()

    def at(self, position: int) -> Step | None:
        """Return the step at a position, or None where it is not (or no longer) here."""
        if position in self._kept:
            self._kept.move_to_end(position)
            return self._kept[position]
        with self._changed:
            if not self.first <= position < self.end:
                return None
            if position >= self._next:
                return self._waiting[position - self._next]
            holds = self._files[bisect.bisect_right(self._files, position, key=lambda each: each.first) - 1]
        try:
            with self._disk:
                part = holds.read(position)
        except (OSError, ValueError):  # a bad disk; or closed meanwhile, to make room
            return None
        message = decode(unpack(self._decompressor.decompress(part)))
        assert isinstance(message, Step)
        self._keep(position, message)
        return message

    def position_of(self, step: int) -> int | None:
        """Return the position of the env's step of this number, or None."""
        with self._changed:
            for each in self._files:
                index = bisect.bisect_left(each.numbers, step)
                if index < len(each.numbers) and each.numbers[index] == step:
                    return each.first + index
            waiting = [waits.step for waits in self._waiting]
        return self._next + waiting.index(step) if step in waiting else None

    def close(self) -> None:
        """Forget everything; its files are gone."""
        with self._changed:
            self._closed = True
            self._forget(0)
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _keep(self, position: int, step: Step) -> None:
        self._kept[position] = step
        self._kept_bytes += size_of(step)
        while len(self._kept) > 1 and self._kept_bytes > KEPT_BYTES:
            self._kept_bytes -= size_of(self._kept.popitem(last=False)[1])

    def _forget(self, following: int) -> None:
        for each in self._files:
            each.file.close()
        self._files.clear()
        self._waiting.clear()
        self._kept.clear()
        self._waiting_bytes = self._kept_bytes = 0
        self._next = following

    # In the thread.

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                step, position = self._waiting[0], self._next
            data = self._compressor.compress(b"".join(pack(encode(step))))
            try:
                newest = self._writable(step, position)
                with self._disk:
                    newest.write(data)
            except ValueError:  # closed meanwhile: everything was forgotten
                continue
            except OSError as error:
                with self._changed:
                    self._forget(self.end)
                    self.problem = f"older steps are not kept: {error.strerror or error}"
                return
            with self._changed:
                if self._is_due(step, position):
                    newest.ends.append(newest.size + len(data))
                    newest.numbers.append(step.step)
                    self._waiting.popleft()
                    self._waiting_bytes -= size_of(step)
                    self._next += 1

    def _is_due(self, step: Step, position: int) -> bool:
        """Whether this step is still the next to be written: nothing was forgotten meanwhile."""
        return bool(self._waiting) and self._waiting[0] is step and self._next == position

    def _writable(self, step: Step, position: int) -> _File:
        """Return the file that a step goes to: the newest, or a new one.

        Raises:
            ValueError: The step was forgotten meanwhile.
        """
        with self._changed:
            newest = self._files[-1] if self._files else None
        if newest is not None and newest.size < self._file_bytes:
            return newest
        place = self._place()
        made = _File(tempfile.TemporaryFile(dir=place, buffering=0), position)  # noqa: SIM115
        most = min(self._max_bytes, int(SHARE * (shutil.disk_usage(place).free + self.size)))
        with self._changed:
            if not self._is_due(step, position):
                made.file.close()
                raise ValueError("forgotten")
            while self._files and self.size + self._file_bytes > most:
                self._files.pop(0).file.close()
            self._files.append(made)
        return made

    def _place(self) -> Path:
        place = platformdirs.user_cache_path("agentwrap") if self._directory is None else self._directory
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError:
            return Path(tempfile.gettempdir())
        return place if os.access(place, os.W_OK) else Path(tempfile.gettempdir())
