"""Frames to message and back (SPEC sections 2 and 3).

A message is a list of byte strings: its kind, a MessagePack header, then one buffer for each array, in the order in which the
header names them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import msgspec
import numpy as np

from .errors import LimitError, ProtocolError, VersionError
from .messages import KINDS, VERSION, Message

#: Element types that arrays may have, by NumPy's little-endian type string.
DTYPES = frozenset({"|b1", "|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8"})

Frame = bytes | bytearray | memoryview


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on what is accepted.

    Attributes:
        header: Bytes of a header.
        arrays: Number of arrays in a message.
        array: Bytes of one array.
        total: Bytes of all arrays of a message together.
    """

    header: int = 8 * 2**20
    arrays: int = 4096
    array: int = 2**30
    total: int = 2**31


DEFAULT_LIMITS = Limits()


def encode(message: Message) -> list[Frame]:
    """Turn a message into frames. Arrays are not copied where they are contiguous and little-endian.

    Raises:
        TypeError: An array has an element type that does not travel (objects, strings, complex numbers).
    """
    buffers: list[Frame] = []

    def externalise(value: Any) -> Any:
        if not isinstance(value, np.ndarray | np.generic):
            raise TypeError(f"{type(value).__name__} does not travel in a {message.kind} message")
        dtype = value.dtype.newbyteorder("<")
        if dtype.str not in DTYPES:
            raise TypeError(f"an array of {value.dtype} does not travel; use one of {', '.join(sorted(DTYPES))}")
        # reshape keeps what ascontiguousarray would turn into (1,): the empty shape
        contiguous = np.ascontiguousarray(value, dtype=dtype).reshape(value.shape)
        buffers.append(contiguous.reshape(-1).view(np.uint8).data)
        return [dtype.str, list(value.shape)]

    body = msgspec.to_builtins(message, enc_hook=externalise)
    header: bytes = msgpack.packb({"version": list(VERSION), **body})
    return [message.kind.encode(), header, *buffers]


def decode(frames: Sequence[Frame], limits: Limits = DEFAULT_LIMITS) -> Message:
    """Turn frames into a message whose arrays are read-only views of the frames.

    Raises:
        VersionError: The sender speaks another major version.
        LimitError: Something is larger than ``limits`` allows.
        ProtocolError: Anything else that is not a message; the text says what.
    """
    if len(frames) < 2:
        raise ProtocolError(f"a message has at least 2 frames (kind, header), this has {len(frames)}")
    kind = bytes(frames[0][:64]).decode("ascii", "replace")
    header = _header(frames[1], kind, limits)
    _check_version(header.pop("version", None))
    message_type = KINDS.get(kind)
    if message_type is None:
        raise ProtocolError(f"unknown kind of message {kind!r}; known are {', '.join(KINDS)}")
    reader = _ArrayReader(frames[2:], limits)
    try:
        message = msgspec.convert(header, message_type, dec_hook=reader.read)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ProtocolError(f"{kind}: {error}") from None
    reader.check_all_read(kind)
    return message


def _header(frame: Frame, kind: str, limits: Limits) -> dict[str, Any]:
    if len(frame) > limits.header:
        raise LimitError(f"{kind!r}: header of {len(frame)} bytes, at most {limits.header} are accepted")
    try:
        header = msgpack.unpackb(frame, raw=False, strict_map_key=True)
    except (ValueError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise ProtocolError(f"{kind!r}: header is not MessagePack ({type(error).__name__}: {error})") from None
    if not isinstance(header, dict):
        raise ProtocolError(f"{kind!r}: header is a {type(header).__name__}, not a map")
    return header


def _check_version(version: Any) -> None:
    if not (isinstance(version, list) and len(version) == 2 and all(type(part) is int for part in version)):
        raise ProtocolError(f"header has no version [major, minor] but {version!r:.80}")
    if version[0] != VERSION[0]:
        raise VersionError(
            f"the other side speaks protocol {version[0]}.{version[1]}, this side {VERSION[0]}.{VERSION[1]}: "
            "install matching versions of agentwrap-rl on both sides"
        )


class _ArrayReader:
    """Hands out a message's buffers in order as arrays; the hook for ``msgspec.convert``."""

    def __init__(self, buffers: Sequence[Frame], limits: Limits) -> None:
        self._buffers, self._limits, self._next = buffers, limits, 0
        if len(buffers) > limits.arrays:
            raise LimitError(f"{len(buffers)} arrays, at most {limits.arrays} are accepted")
        total = sum(len(buffer) for buffer in buffers)
        if total > limits.total:
            raise LimitError(f"arrays of {total} bytes together, at most {limits.total} are accepted")

    def read(self, wanted: type, value: Any) -> Any:
        if not (isinstance(value, list) and len(value) == 2):
            raise msgspec.ValidationError("an array is described by [dtype, shape]")
        dtype, shape = value
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise msgspec.ValidationError(f"element type {dtype!r:.40} is not one of {', '.join(sorted(DTYPES))}")
        if not (isinstance(shape, list) and len(shape) <= 16 and all(type(n) is int and n >= 0 for n in shape)):
            raise msgspec.ValidationError(f"{shape!r:.80} is not a shape")
        if self._next >= len(self._buffers):
            raise msgspec.ValidationError(f"header names more arrays than there are buffers ({len(self._buffers)})")
        buffer = self._buffers[self._next]
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size > self._limits.array:
            raise msgspec.ValidationError(f"array of {size} bytes, at most {self._limits.array} are accepted")
        if size != len(buffer):
            raise msgspec.ValidationError(f"{dtype} {tuple(shape)} takes {size} bytes, its buffer has {len(buffer)}")
        self._next += 1
        array = np.frombuffer(buffer, dtype=dtype).reshape(shape)
        array.flags.writeable = False
        return array

    def check_all_read(self, kind: str) -> None:
        if self._next != len(self._buffers):
            raise ProtocolError(f"{kind}: {len(self._buffers)} buffers, the header names {self._next}")
