"""Writes a stream to a file and loses nothing: what is put here is written, or the agent waits until it can be.

The agent's thread appends to a queue and looks at two counters. A daemon thread compresses and writes; it looks into
the queue now and then instead of being woken for each step, and nearly all it does is done by zstd and the system
without the interpreter, so that it takes the processor from the agent where there is only one, but not the interpreter.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import threading
import time
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from agentwrap_protocol import Message
from agentwrap_protocol.messages import Hello, Step, Weights

from . import __version__
from .errors import MissingExtraError, RecordingError
from .placement import Placement

try:
    from agentwrap_protocol.mcap_encoder import SEED, McapEncoder, describe
except ImportError as error:
    text = f'recording needs {error.name}: run `pip install "agentwrap-rl[record]"`'
    raise MissingExtraError(text, name=error.name) from error

log = logging.getLogger("agentwrap")

OnFull = Literal["wait", "drop"]

#: What to do when the disk is slower than the agent.
ON_FULL: tuple[OnFull, ...] = ("wait", "drop")

#: Bytes of arrays that may wait to be written.
WAITING = 64 * 2**20

#: Seconds between two looks into the queue, as long as it is less than half full.
LOOK = 0.05

#: Bytes of weights from which on a recording that ends speaks of them.
MANY_BYTES = 100 * 10**6

#: Seconds after which what was taken is handed to the disk. With a look and the writing it stays below a second.
FLUSH = 0.5

#: What ``fsync`` says of things that are no files: there is nothing to wait for.
_NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


@dataclass(frozen=True)
class RecordingSummary:
    """What became of a recording.

    Attributes:
        path: The file.
        steps: Steps written.
        episodes: Ends of episodes written.
        bytes: Size of the file.
        dropped: Messages left out because the disk was too slow, with ``on_full="drop"``.
        waited_seconds: How long the agent waited for the disk.
        versions: Copies of the policy's weights written.
        weights_bytes: Bytes of these, before they were compressed.
    """

    path: Path
    steps: int
    episodes: int
    bytes: int
    dropped: int
    waited_seconds: float
    versions: int = 0
    weights_bytes: int = 0

    def __str__(self) -> str:
        steps, episodes = _counted(self.steps, "step"), _counted(self.episodes, "episode")
        parts = [f"recorded {steps} and {episodes} to {self.path}, {self.bytes:,} bytes"]
        if self.weights_bytes > max(self.bytes / 2, MANY_BYTES):
            parts.append(
                f"most of it are {_counted(self.versions, 'version')} of the policy's weights: weights_every=60 "
                "(seconds) keeps fewer"
            )
        if self.dropped:
            parts.append(f"{self.dropped:,} messages were dropped because the disk was too slow")
        if self.waited_seconds >= 0.1:
            parts.append(f"the agent waited {self.waited_seconds:.1f} s for the disk")
        return "; ".join(parts)


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


class Recorder:
    """A file that messages are written to, by a thread.

    Attributes:
        path: The file.
        error: What ended the recording before its time, or None.
        dropped: Messages dropped.

    Args:
        path: The file to write.
        on_full: When more waits to be written than there is room for: ``wait``, or ``drop`` steps.
        overwrite: Replace the file if there is one.

    Raises:
        RecordingError: The file exists, or cannot be written.
        ValueError: ``on_full`` is neither.
    """

    def __init__(self, path: str | os.PathLike[str], *, on_full: OnFull = "wait", overwrite: bool = False) -> None:
        if on_full not in ON_FULL:
            raise ValueError(f"on_full must be one of {', '.join(map(repr, ON_FULL))}, not {on_full!r}")
        self.path = Path(path)
        self.error: RecordingError | None = None
        self._waited = 0.0
        self._waits_since: float | None = None
        self.dropped = 0
        self._drops = on_full == "drop"
        self._encoder = McapEncoder(library=f"agentwrap-rl {__version__}")
        self._sequences: defaultdict[str, itertools.count[int]] = defaultdict(itertools.count)
        self._queue: deque[tuple[Callable[[], bytes], int]] = deque()  # what makes the bytes to write, and its size
        self._put_bytes = self._taken_bytes = 0  # one counter for each thread: no lock
        self._wake, self._room = threading.Event(), threading.Event()
        self._closing = False
        self._written = self._weights_bytes = 0
        self._pid = os.getpid()
        self._file = _open(self.path, overwrite)
        self._thread = threading.Thread(target=self._run, name="agentwrap-recorder", daemon=True)
        self._placement = Placement(None)  # until it runs

    def begin(self, hello: Hello, **metadata: str) -> None:
        """Write the beginning of the file, and start.

        Args:
            hello: Who streams.
            metadata: Further entries of the file's metadata (SPEC section 13).

        Raises:
            RecordingError: It cannot be written.
        """
        created = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            self._write(self._encoder.begin(describe(hello, created=created, **metadata)))
        except OSError as error:
            os.close(self._file)
            raise RecordingError(f"{self.path} cannot be written: {error.strerror}") from error
        self._thread.start()
        self._placement = Placement(self._thread.native_id)
        _LIVE.add(self)
        self.put(hello)

    def put(self, message: Message) -> None:
        """Hand a message over; ``seq`` is filled in. Waits while there is no room, unless told to drop."""
        if self.error is not None or self._closing:
            return
        self._placement.keep_away()
        seq = next(self._sequences[message.kind])
        size = sum(array.nbytes for array in message.arrays.values())
        waiting = self._put_bytes - self._taken_bytes
        if waiting > WAITING // 2:
            self._wake.set()
            if waiting > WAITING and not self._has_room(message):
                return
        self._put_bytes += size
        if isinstance(message, Weights):
            self._weights_bytes += size
        self._queue.append((partial(self._encode, message, seq), size))

    def _has_room(self, message: Message) -> bool:
        """Wait for room, or say that there is none. What is no step is dropped only where twice as much waits."""
        if self._drops:
            most = WAITING if isinstance(message, Step) else 2 * WAITING
            too_much = self._put_bytes - self._taken_bytes > most
            self.dropped += too_much
            return not too_much
        self._waits_since = began = time.perf_counter()
        while self._put_bytes - self._taken_bytes > WAITING // 2 and self._thread.is_alive():
            self._room.clear()
            self._room.wait(LOOK)
        self._waits_since = None
        self._waited += time.perf_counter() - began
        return self.error is None

    def seeded(self, episode: int, seed: int) -> None:
        """Note that an episode begins with a reset to this seed."""
        entries = {"episode": str(episode), "seed": str(seed)}
        self._queue.append((partial(self._encoder.metadata, SEED, entries), 0))

    @property
    def waited_seconds(self) -> float:
        """How long ``put`` has waited, also where it still does."""
        since = self._waits_since  # once: the agent's thread changes it
        return self._waited + (time.perf_counter() - since if since is not None else 0.0)

    @property
    def steps(self) -> int:
        """Steps written so far."""
        return self._encoder.counts[Step.kind]

    def close(self) -> RecordingSummary:
        """Write all that waits and end the file; however long that takes. May be called again."""
        if not self._closing:
            self._closing = True
            self._wake.set()
        if self._thread.is_alive() and os.getpid() == self._pid:
            self._thread.join()
        _LIVE.discard(self)
        return self.summary()

    def summary(self) -> RecordingSummary:
        """Say how it goes."""
        return RecordingSummary(
            path=self.path,
            steps=self.steps,
            episodes=self._encoder.counts["episode_end"],
            bytes=self._written,
            dropped=self.dropped,
            waited_seconds=self.waited_seconds,
            versions=self._encoder.counts[Weights.kind],
            weights_bytes=self._weights_bytes,
        )

    def fall_silent(self) -> None:
        """In a forked child: thread and file belong to the parent."""
        self._closing = True

    # What runs in the thread.

    def _run(self) -> None:
        try:
            self._write_until_closed()
        except OSError as error:
            self._fail(f"{error.strerror}", error)
        except Exception as error:
            self._fail(f"{type(error).__name__}: {error}", error)
        finally:
            self._queue.clear()
            self._taken_bytes = self._put_bytes
            self._room.set()
            os.close(self._file)

    def _fail(self, why: str, error: Exception) -> None:
        self.error = RecordingError(
            f"recording to {self.path} has ended after {self._encoder.counts[Step.kind]} steps: {why}. What was "
            f"written until then is kept and can be opened"
        )
        self.error.__cause__ = error

    def _write_until_closed(self) -> None:
        due, synced = time.monotonic() + FLUSH, 0
        while not self._closing:
            self._wake.wait(LOOK)
            self._wake.clear()
            self._write_waiting()
            if time.monotonic() >= due:
                self._write(self._encoder.flush())
                if self._written != synced:
                    self._sync()
                due, synced = time.monotonic() + FLUSH, self._written
        self._write_waiting()
        self._write(self._encoder.finish(self._final()))
        self._sync()

    def _write_waiting(self) -> None:
        while self._queue:
            make, size = self._queue.popleft()
            self._write(make())
            self._taken_bytes += size
            self._room.set()

    def _encode(self, message: Message, seq: int) -> bytes:
        try:
            return self._encoder.add(msgspec.structs.replace(message, seq=seq))
        except (TypeError, OverflowError, UnicodeEncodeError) as error:
            log.warning("agentwrap: a %s message could not be recorded: %s", message.kind, error)
            return b""

    def _final(self) -> Mapping[str, str]:
        steps = self._encoder.counts[Step.kind]
        return {"steps": str(steps), "dropped": str(self.dropped), "waited_seconds": f"{self.waited_seconds:.3f}"}

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            count = os.write(self._file, view)
            self._written += count
            view = view[count:]

    def _sync(self) -> None:
        try:
            os.fsync(self._file)
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise


def _open(path: Path, overwrite: bool) -> int:
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if overwrite else os.O_EXCL) | getattr(os, "O_BINARY", 0)
    try:
        return os.open(path, flags, 0o666)
    except FileExistsError as error:
        if path.is_dir():
            raise RecordingError(f"{path} is a directory: name a file, such as {path / 'run.mcap'}") from error
        raise RecordingError(f"{path} exists already: choose another name, or pass overwrite=True") from error
    except OSError as error:
        raise RecordingError(f"{path} cannot be written: {error.strerror}") from error


#: Recorders of this process that are open. Weakly: one that is forgotten ends with its wrapper.
_LIVE: weakref.WeakSet[Recorder] = weakref.WeakSet()


def _fall_silent_after_fork() -> None:
    for recorder in list(_LIVE):
        recorder.fall_silent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fall_silent_after_fork)
