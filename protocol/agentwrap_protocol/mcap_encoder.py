"""Messages to the bytes of an MCAP file (SPEC section 13; https://mcap.dev/spec). Bytes out: no file, thread or clock.

The ``mcap`` package defines the records; its own writer has no choice of level. Here a chunk is gathered as a list of
frames, and joined, summed and compressed when it is full: three calls that do not need the interpreter. Compressing
each frame as it came made a recording thread and the agent's take it from each other more often.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections import defaultdict
from collections.abc import Mapping

import msgspec
import zstandard
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Channel,
    Chunk,
    ChunkIndex,
    DataEnd,
    Footer,
    Header,
    McapRecord,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
    SummaryOffset,
)

from .codec import Frame, encode
from .messages import VERSION, Hello, Index, Message
from .packing import pack
from .recording_index import IndexBuilder

MAGIC = b"\x89MCAP0\r\n"

#: Profile, encoding of messages and of schemas; schemas are named after it.
ENCODING = "agentwrap"

#: Metadata that a recording begins with; what is known of seeds; what it ends with.
METADATA, SEED, SUMMARY = "agentwrap", "agentwrap.seed", "agentwrap.summary"

#: Metadata that names the file which holds a version's weights.
BESIDE = "agentwrap.weights"

#: Bytes of a chunk before compression. Smaller ones compress worse (1 MiB: 10 % more), larger ones take longer to seek.
CHUNK_BYTES = 4 * 2**20

#: zstd at level 1; a window as wide as a chunk saves 3 % where observations stack frames.
_COMPRESSION = zstandard.ZstdCompressionParameters.from_level(1, window_log=22)

#: Times before 1970 and from here on are none: nanoseconds have 64 bits.
_LATEST = 2**64 / 1e9 - 1

_MESSAGE = struct.Struct("<BQHIQQ")  # opcode, length; channel, sequence, log time, publish time
_HEAD = 9  # bytes of opcode and length


class McapEncoder:
    """Turns messages into the bytes of a recording, to be written to a file in order.

    Arrays are not copied: they must not be changed until their chunk has been returned.

    Attributes:
        position: Bytes returned so far; whatever is written ends at a whole record here.
        counts: Messages so far, by kind.

    Args:
        library: Name and version of the program that writes.
        chunk_bytes: Bytes of a chunk before compression.
    """

    def __init__(self, *, library: str, chunk_bytes: int = CHUNK_BYTES) -> None:
        self.position = 0
        self.counts: defaultdict[str, int] = defaultdict(int)
        self._library, self._chunk_bytes = library, chunk_bytes
        self._crc = 0  # of everything returned so far
        self._compressor = zstandard.ZstdCompressor(compression_params=_COMPRESSION)
        self._chunk: _OpenChunk | None = None
        self._channels: dict[str, int] = {}  # kind → number, in order
        self._described = IndexBuilder()
        self._newest: Message | None = None
        self._chunk_indexes = bytearray()  # serialised: a long recording has many
        self._chunks = 0
        self._metadata_indexes: list[MetadataIndex] = []
        self._times: tuple[int, int] | None = None

    def begin(self, metadata: Mapping[str, str]) -> bytes:
        """Return the beginning of the file, with the metadata that describes it."""
        header = _bytes_of(Header(profile=ENCODING, library=self._library))
        return self._returned(MAGIC + header) + self.metadata(METADATA, metadata)

    def metadata(self, name: str, entries: Mapping[str, str]) -> bytes:
        """Return a metadata record, after the chunk in progress."""
        before = self.flush()
        record = _bytes_of(Metadata(name=name, metadata=dict(entries)))
        self._metadata_indexes.append(MetadataIndex(offset=self.position, length=len(record), name=name))
        return before + self._returned(record)

    def add(self, message: Message) -> bytes:
        """Take a message and return what is ready: nothing, or whole chunks.

        Raises:
            TypeError, OverflowError, UnicodeEncodeError: As ``encode``; the message is left out.
        """
        pieces = pack(encode(message))
        size = sum(memoryview(piece).nbytes for piece in pieces)
        before = b""
        if self._chunk is not None and self._chunk.size + size > self._chunk_bytes:
            before = self.flush()
        return before + self._add(message, pieces, size)

    def _add(self, message: Message, pieces: list[Frame], size: int) -> bytes:
        before = self._channel_records(message.kind)
        if self._chunk is None:
            self._chunk = _OpenChunk(self._compressor)
        chunk, channel = self._chunk, self._channels[message.kind]
        time = _nanoseconds(message.time)
        self._described.add(message, self.position, chunk.size)
        self._newest = message
        chunk.add(channel, message.seq % 2**32, time, pieces, size)
        self.counts[message.kind] += 1
        first, last = self._times or (time, time)
        self._times = min(first, time), max(last, time)
        return before + (self.flush() if chunk.size >= self._chunk_bytes else b"")

    def _channel_records(self, kind: str) -> bytes:
        """Return schema and channel where this is the first message of its kind. They stand before the chunk."""
        if kind in self._channels:
            return b""
        before = self._end_chunk()
        self._channels[kind] = number = len(self._channels) + 1
        return before + self._returned(_bytes_of(_schema(kind, number)) + _bytes_of(_channel(kind, number)))

    def flush(self) -> bytes:
        """End the chunk in progress and return it; and an index, where one is due."""
        chunk = self._end_chunk()
        return chunk + self._index() if self._described.due else chunk

    def _index(self) -> bytes:
        arrays = self._described.take()
        if self._newest is None or not arrays:
            return b""
        newest, seq = self._newest, self.counts[Index.kind]
        index = Index(stream=newest.stream, seq=seq, time=newest.time, arrays=arrays)
        pieces = pack(encode(index))
        return self._add(index, pieces, sum(memoryview(piece).nbytes for piece in pieces)) + self._end_chunk()

    def _end_chunk(self) -> bytes:
        chunk, self._chunk = self._chunk, None
        if chunk is None:
            return b""
        record = _bytes_of(chunk.record())
        indexes, offsets = chunk.message_indexes(self.position + len(record))
        index = ChunkIndex(
            message_start_time=chunk.start,
            message_end_time=chunk.end,
            chunk_start_offset=self.position,
            chunk_length=len(record),
            message_index_offsets=offsets,
            message_index_length=len(indexes),
            compression="zstd",
            compressed_size=chunk.compressed_size,
            uncompressed_size=chunk.size,
        )
        self._chunk_indexes += _bytes_of(index)
        self._chunks += 1
        return self._returned(record + indexes)

    def finish(self, summary: Mapping[str, str] | None = None) -> bytes:
        """Return the end of the file: what waits, the last index, MCAP's summary and footer."""
        data = self.flush() + self._index()
        if summary is not None:
            data += self.metadata(SUMMARY, summary)
        data += self._returned(_bytes_of(DataEnd(data_section_crc=self._crc)))
        return data + self._summary()

    def _summary(self) -> bytes:
        groups = {
            Opcode.SCHEMA: b"".join(_bytes_of(_schema(*each)) for each in self._channels.items()),
            Opcode.CHANNEL: b"".join(_bytes_of(_channel(*each)) for each in self._channels.items()),
            Opcode.STATISTICS: _bytes_of(self._statistics()),
            Opcode.CHUNK_INDEX: bytes(self._chunk_indexes),
            Opcode.METADATA_INDEX: b"".join(map(_bytes_of, self._metadata_indexes)),
        }
        start, body, offsets = self.position, b"", b""
        for opcode, group in groups.items():
            if group:
                offset = SummaryOffset(group_opcode=opcode, group_start=start + len(body), group_length=len(group))
                offsets += _bytes_of(offset)
            body += group
        footer = Footer(summary_start=start, summary_offset_start=start + len(body), summary_crc=0)
        body += offsets
        footer.summary_crc = zlib.crc32(_bytes_of(footer)[:-4], zlib.crc32(body))
        return self._returned(body + _bytes_of(footer) + MAGIC)

    def _statistics(self) -> Statistics:
        first, last = self._times or (0, 0)
        counts = {number: self.counts[kind] for kind, number in self._channels.items()}
        return Statistics(
            message_count=sum(counts.values()),
            schema_count=len(counts),
            channel_count=len(counts),
            attachment_count=0,
            metadata_count=len(self._metadata_indexes),
            chunk_count=self._chunks,
            message_start_time=first,
            message_end_time=last,
            channel_message_counts=counts,
        )

    def _returned(self, data: bytes) -> bytes:
        self.position += len(data)
        self._crc = zlib.crc32(data, self._crc)
        return data


class _OpenChunk:
    """A chunk that messages are added to. Holds their frames as they are until it is ended."""

    def __init__(self, compressor: zstandard.ZstdCompressor) -> None:
        self.size = self.compressed_size = 0
        self.start, self.end = 2**64 - 1, 0
        self._compressor = compressor
        self._pieces: list[Frame] = []
        self._entries: defaultdict[int, list[int]] = defaultdict(list)  # by channel: time, offset, time, offset, …

    def add(self, channel: int, sequence: int, time: int, pieces: list[Frame], size: int) -> None:
        """Append a message record of ``size`` bytes of data."""
        self._entries[channel] += (time, self.size)
        self.start, self.end = min(self.start, time), max(self.end, time)
        length = _MESSAGE.size - _HEAD + size
        self._pieces.append(_MESSAGE.pack(Opcode.MESSAGE, length, channel, sequence, time, time))
        self._pieces += pieces
        self.size += _MESSAGE.size + size

    def record(self) -> Chunk:
        """End it and return its record."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        compressed = self._compressor.compress(data)
        self.compressed_size = len(compressed)
        return Chunk(
            compression="zstd",
            data=compressed,
            message_start_time=self.start,
            message_end_time=self.end,
            uncompressed_crc=zlib.crc32(data),
            uncompressed_size=self.size,
        )

    def message_indexes(self, position: int) -> tuple[bytes, dict[int, int]]:
        """Return the records of its message indexes, and by channel where in the file each begins."""
        data, offsets = bytearray(), {}
        for channel, entries in self._entries.items():
            offsets[channel] = position + len(data)
            body = struct.pack(f"<HI{len(entries)}Q", channel, 8 * len(entries), *entries)
            data += struct.pack("<BQ", Opcode.MESSAGE_INDEX, len(body)) + body
        return bytes(data), offsets


def describe(hello: Hello, **more: str) -> dict[str, str]:
    """Return the metadata that a recording of this stream begins with.

    Args:
        hello: Who streams.
        more: Further entries.
    """
    return {
        "protocol": f"{VERSION[0]}.{VERSION[1]}",
        "stream": hello.stream,
        "name": hello.name,
        "env_id": hello.env_id,
        "observation_space": msgspec.json.encode(hello.observation_space).decode(),
        "action_space": msgspec.json.encode(hello.action_space).decode(),
        "software": json.dumps(hello.software),
        **more,
    }


def _schema(kind: str, number: int) -> Schema:
    return Schema(id=number, name=f"{ENCODING}.{kind}", encoding=ENCODING, data=b"%d.%d" % VERSION)


def _channel(kind: str, number: int) -> Channel:
    return Channel(id=number, topic=kind, message_encoding=ENCODING, metadata={}, schema_id=number)


def _bytes_of(record: McapRecord) -> bytes:
    builder = RecordBuilder()
    record.write(builder)
    return bytes(builder.end())  # type: ignore[no-untyped-call]


def _nanoseconds(time: float) -> int:
    return int(time * 1e9) if 0 <= time < _LATEST else 0
