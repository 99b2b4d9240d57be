"""An MCAP file by position: its records, and the messages in its chunks (https://mcap.dev/spec).

Only whole records count. So a file that was cut off, one that is still being written and one that was ended properly
are read alike; the summary at the end of the last saves looking for chunks. Nothing is trusted: lengths are compared
with the file before anything is reserved by them, chunks are checked by their CRC.
"""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard
from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import Channel, Header, Metadata, MetadataIndex

from agentwrap_protocol import Message, ProtocolError, UnknownKindError, decode
from agentwrap_protocol.mcap_encoder import ENCODING, MAGIC
from agentwrap_protocol.packing import unpack

from .errors import RecordingError

#: Most bytes of a record, and of a chunk's messages (SPEC section 13).
MOST_BYTES = 2**31 + 64 * 2**20

#: Bytes of chunks, uncompressed, that are kept: going back and forth between steps reads each once.
KEPT_BYTES = 32 * 2**20

#: Records of other kinds are not read, so these are small; a larger one is skipped.
_MOST_SMALL = 2**24

_RECORD = struct.Struct("<BQ")  # opcode, length
_CHUNK = struct.Struct("<QQQII")  # start, end, uncompressed size, CRC, length of the compression's name
_CHUNK_INDEX = struct.Struct("<QQQQI")  # start, end, position, length, bytes of a map from channels to positions
_MESSAGE = struct.Struct("<BQHIQQ")  # opcode, length; channel, sequence, log time, publish time
_FOOTER = 9 + 20 + len(MAGIC)


@dataclass(frozen=True)
class Place:
    """Where a message lies: its chunk in the file, its record in the uncompressed chunk."""

    chunk: int
    offset: int


@dataclass
class Found:
    """What a look through the records found.

    Attributes:
        chunks: Where chunks begin, and which topics they hold as far as that is said beside them.
        end: Where the last whole record ends.
        complete: Whether the file was ended.
    """

    chunks: list[tuple[int, frozenset[str]]]
    end: int
    complete: bool


class Container:
    """An open MCAP file.

    Attributes:
        path: The file.
        metadata: Metadata records so far: name and entries, in order.

    Raises:
        RecordingError: It cannot be read, is no MCAP file, or one of another program.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.metadata: list[tuple[str, dict[str, str]]] = []
        self._topics: dict[int, str] = {}
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.RLock()
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=2**31)
        try:
            self._file = open(self.path, "rb", buffering=0)
        except OSError as error:
            raise RecordingError(f"{self.path} cannot be read: {error.strerror}") from error
        try:
            self._check_beginning()
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """Bytes of the file now."""
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._kept.clear()

    def _check_beginning(self) -> None:
        beginning = self._read(0, len(MAGIC))
        if not beginning:
            raise RecordingError(f"{self.path} is empty: nothing was recorded, or nothing yet")
        if beginning != MAGIC:
            raise RecordingError(f"{self.path} is not a recording: it does not begin as an MCAP file does")
        for opcode, begin, length in self._records(len(MAGIC), self.size):
            header = _parsed(Header, self._read_small(begin, length)) if opcode == Opcode.HEADER else None
            if header is None or header.profile != ENCODING:
                profile = "none" if header is None else repr(header.profile[:40])
                raise RecordingError(
                    f"{self.path} is an MCAP file, but not a recording of agentwrap (profile {profile})"
                )
            return

    # Records.

    def look_through(self) -> Found:
        """Find the chunks of the file, by its summary where it has one, else record by record."""
        try:
            found = self._look_through_summary()
        except struct.error:  # a summary that is not one
            found = None
        return found or self.look_on(len(MAGIC))

    def look_on(self, position: int) -> Found:
        """Find the chunks from a position on, where a record begins."""
        chunks: list[tuple[int, list[int]]] = []
        end, complete = position, False
        for opcode, begin, length in self._records(position, self.size):
            if opcode == Opcode.CHUNK:
                chunks.append((begin - _RECORD.size, []))
            elif opcode == Opcode.MESSAGE_INDEX and chunks and length >= 2:
                (channel,) = struct.unpack("<H", self._read(begin, 2))
                chunks[-1][1].append(channel)
            elif opcode == Opcode.DATA_END:
                complete = True
            elif opcode == Opcode.FOOTER:
                end = begin + length + len(MAGIC)
                break
            elif not complete:
                self._note(opcode, self._read_small(begin, length))
            end = begin + length
        return Found(self._with_topics(chunks), end, complete)

    def _look_through_summary(self) -> Found | None:
        size = self.size
        tail = self._read(max(size - _FOOTER, 0), _FOOTER)
        if len(tail) < _FOOTER or not tail.endswith(MAGIC) or tail[0] != Opcode.FOOTER:
            return None
        start, _, crc = struct.unpack_from("<QQI", tail, _RECORD.size)
        end = size - _FOOTER
        if not len(MAGIC) < start < end or end - start > MOST_BYTES:
            return None
        if crc and zlib.crc32(tail[: -len(MAGIC) - 4], zlib.crc32(self._read(start, end - start))) != crc:
            return None
        chunks: list[tuple[int, list[int]]] = []
        for opcode, body in _records_in(self._read(start, end - start)):
            if opcode == Opcode.CHUNK_INDEX:
                _, _, position, _, size = _CHUNK_INDEX.unpack_from(body)
                chunks.append((position, list(struct.unpack_from("<" + "H8x" * (size // 10), body, _CHUNK_INDEX.size))))
            elif opcode == Opcode.METADATA_INDEX:
                place = _parsed(MetadataIndex, body)
                if place is not None and place.offset + place.length <= start:
                    data = self._read_small(place.offset + _RECORD.size, place.length - _RECORD.size)
                    self._note(Opcode.METADATA, data)
            else:
                self._note(opcode, body)
        return Found(self._with_topics(chunks), size, complete=True)

    def _with_topics(self, chunks: list[tuple[int, list[int]]]) -> list[tuple[int, frozenset[str]]]:
        """Name channels. There are few different sets of them, and perhaps very many chunks."""
        sets: dict[tuple[int, ...], frozenset[str]] = {}
        found = []
        for position, channels in chunks:
            key = tuple(channels)
            if key not in sets:
                sets[key] = frozenset(self._topics.get(channel, "") for channel in key)
            found.append((position, sets[key]))
        return found

    def _records(self, position: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield opcode, beginning and length of each whole record."""
        while position + _RECORD.size <= end:
            head = self._read(position, _RECORD.size)
            if len(head) < _RECORD.size:
                return
            opcode, length = _RECORD.unpack(head)
            position += _RECORD.size
            if length > min(end - position, MOST_BYTES):
                return
            yield opcode, position, length
            position += length

    def _note(self, opcode: int, data: bytes | memoryview) -> None:
        if opcode == Opcode.CHANNEL:
            channel = _parsed(Channel, data)
            if channel is not None and channel.message_encoding == ENCODING:
                self._topics[channel.id] = channel.topic
        elif opcode == Opcode.METADATA:
            metadata = _parsed(Metadata, data)
            if metadata is not None:
                self.metadata.append((metadata.name, metadata.metadata))

    def _read_small(self, begin: int, length: int) -> bytes:
        return self._read(begin, length) if 0 <= length <= _MOST_SMALL else b""

    # Chunks.

    def messages(self, chunk: int) -> Iterator[tuple[int, str, memoryview]]:
        """Yield the messages of a chunk: where their record begins, their topic, their packed frames.

        Raises:
            RecordingError: The chunk is damaged.
        """
        data = memoryview(self._chunk(chunk))
        offset = 0
        while offset + _RECORD.size <= len(data):
            opcode, length = _RECORD.unpack_from(data, offset)
            if opcode == Opcode.MESSAGE and length >= _MESSAGE.size - _RECORD.size:
                channel = _MESSAGE.unpack_from(data, offset)[2]
                if channel in self._topics:
                    yield offset, self._topics[channel], data[offset + _MESSAGE.size : offset + _RECORD.size + length]
            offset += _RECORD.size + length

    def message(self, place: Place) -> Message:
        """Return a message. Its arrays are views of its own copy of the bytes, not of the chunk.

        Raises:
            RecordingError: There is none, or it is damaged.
        """
        data = memoryview(self._chunk(place.chunk))
        if place.offset + _MESSAGE.size > len(data):
            raise RecordingError(f"{self.path}: the index points beyond the chunk at byte {place.chunk}")
        opcode, length, *_ = _MESSAGE.unpack_from(data, place.offset)
        end = place.offset + _RECORD.size + length
        if opcode != Opcode.MESSAGE or end > len(data):
            raise RecordingError(f"{self.path}: the index is wrong about the chunk at byte {place.chunk}")
        return self.decoded(bytes(data[place.offset + _MESSAGE.size : end]))

    def decoded(self, payload: bytes | memoryview) -> Message:
        """Return the message that packed frames are.

        Raises:
            UnknownKindError: A newer minor version of the protocol knows it.
            RecordingError: They are none.
        """
        try:
            return decode(unpack(payload))
        except UnknownKindError:
            raise
        except ProtocolError as error:
            raise RecordingError(f"{self.path}: a message cannot be read: {error}") from error

    def _chunk(self, position: int) -> bytes:
        with self._lock:
            if position in self._kept:
                self._kept.move_to_end(position)
                return self._kept[position]
            data = self._kept[position] = self._read_chunk(position)
            while len(self._kept) > 1 and sum(map(len, self._kept.values())) > KEPT_BYTES:
                self._kept.popitem(last=False)
            return data

    def _read_chunk(self, position: int) -> bytes:
        head = self._read(position, _RECORD.size + _CHUNK.size)
        if len(head) < _RECORD.size + _CHUNK.size or head[0] != Opcode.CHUNK:
            raise RecordingError(f"{self.path}: there is no chunk at byte {position}")
        length = _RECORD.unpack_from(head)[1]
        if length > min(self.size - position - _RECORD.size, MOST_BYTES):
            raise RecordingError(f"{self.path}: the chunk at byte {position} is cut off")
        body = self._read(position + _RECORD.size, length)
        _, _, size, crc, name = _CHUNK.unpack_from(body)
        begin = _CHUNK.size + name + 8
        if begin > length or size > MOST_BYTES:
            raise RecordingError(f"{self.path}: the chunk at byte {position} is damaged")
        data = self._decompressed(position, body[_CHUNK.size : _CHUNK.size + name], body[begin:], size)
        if len(data) != size or (crc and zlib.crc32(data) != crc):
            raise RecordingError(f"{self.path}: the chunk at byte {position} is damaged: its checksum is wrong")
        return data

    def _decompressed(self, position: int, compression: bytes, data: bytes, size: int) -> bytes:
        if compression == b"":
            return data
        if compression != b"zstd":
            name = compression[:20].decode("ascii", "replace")
            raise RecordingError(f"{self.path}: chunks compressed with {name} cannot be read, only zstd")
        try:
            return self._decompressor.decompress(data, max_output_size=size)
        except zstandard.ZstdError as error:
            raise RecordingError(f"{self.path}: the chunk at byte {position} is damaged: {error}") from error

    def _read(self, position: int, length: int) -> bytes:
        """Read so many bytes, fewer at the end of the file."""
        with self._lock:
            self._file.seek(position)
            parts = []
            while length > 0 and (part := self._file.read(length)):
                parts.append(part)
                length -= len(part)
            return b"".join(parts)


def _records_in(data: bytes) -> Iterator[tuple[int, memoryview]]:
    """Yield opcode and contents of each whole record."""
    view, position = memoryview(data), 0
    while position + _RECORD.size <= len(view):
        opcode, length = _RECORD.unpack_from(view, position)
        position += _RECORD.size
        if length > len(view) - position:
            return
        yield opcode, view[position : position + length]
        position += length


def _parsed(kind: Any, data: bytes | memoryview) -> Any:
    """Read a small record; None where it is not what it says."""
    try:
        return kind.read(ReadDataStream(io.BytesIO(data)))
    except Exception:  # what the mcap package raises of bytes that are no such record is not specified
        return None
