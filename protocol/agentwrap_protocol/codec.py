"""Frames to message and back (SPEC sections 2 and 3).

A message is a list of byte strings: its kind, a MessagePack header, then one buffer for each array. The header
describes each array by ``[dtype, shape, index]``, where ``index`` says which of the buffers holds its elements.

MessagePack is read straight into the message's fields: what is unknown is skipped without being stored, sizes are
bounded before anything is built, and the memory that a hostile header costs is a small multiple of its length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
from msgspec import Meta

from .errors import LimitError, ProtocolError, UnknownKindError, VersionError
from .messages import KINDS, MAX_ARRAYS, VERSION, Message
from .spaces import Name

T = TypeVar("T")

#: Element types that arrays may have, by NumPy's little-endian type string.
DTYPES = frozenset({"|b1", "|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8"})

#: Most axes that an array may have.
MAX_AXES = 16

#: Most bytes of a kind's name.
MAX_KIND = 64

#: What a frame may be: anything with the buffer protocol; ``zmq.Frame`` is such a thing too.
Frame = bytes | bytearray | memoryview

#: Their names by type, which costs less than to ask each array's type for its own.
_NAMES = {np.dtype(dtype): dtype for dtype in DTYPES}

_ITEM_SIZES = {dtype: np.dtype(dtype).itemsize for dtype in DTYPES}


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
    arrays: int = MAX_ARRAYS
    array: int = 2**30
    total: int = 2**31


DEFAULT_LIMITS = Limits()


def encode(message: Message) -> list[Frame]:
    """Turn a message into frames. Arrays are not copied where they are C-contiguous and little-endian.

    The buffers of such arrays are views: who changes an array afterwards changes what is sent.

    Raises:
        TypeError: An array has an element type that does not travel (objects, strings, complex numbers), or a field
            holds something that is not plain data.
        OverflowError: An integer has more than 64 bits.
        UnicodeEncodeError: A text has half of a surrogate pair, as file names that are not UTF-8 have.
    """
    buffers: list[Frame] = []
    arrays = {name: _describe(name, array, buffers) for name, array in message.arrays.items()}
    header = _ENCODER.encode({"version": VERSION, **msgspec.structs.asdict(message), "arrays": arrays})
    return [message.kind.encode(), header, *buffers]


def decode(frames: Sequence[Frame], limits: Limits = DEFAULT_LIMITS) -> Message:
    """Turn frames into a message whose arrays are read-only views of the frames.

    The views are not aligned in memory where the frames are not: copy before use where that matters.

    Raises:
        VersionError: The sender speaks another major version.
        UnknownKindError: The sender speaks a newer minor version, and this kind of message is unknown here: skip it.
        LimitError: Something is larger than ``limits`` allows.
        ProtocolError: Anything else that is not a message; the text says what.
    """
    if len(frames) < 2:
        raise ProtocolError(f"a message has at least 2 frames (kind, header), this has {len(frames)}")
    if len(frames) - 2 > limits.arrays:
        raise LimitError(f"{len(frames) - 2} arrays, at most {limits.arrays} are accepted")
    kind_frame, header, *buffers = (_as_bytes(frame) for frame in frames)
    kind = bytes(kind_frame[:MAX_KIND]).decode("ascii", "backslashreplace")
    if header.nbytes > limits.header:
        raise LimitError(f"{kind}: header of {header.nbytes} bytes, at most {limits.header} are accepted")
    minor = _check_version(kind, _read(_VERSION_DECODER, header, kind).version)
    decoder = _MESSAGE_DECODERS.get(kind)
    if decoder is None:
        raise _unknown_kind(kind, minor)
    descriptions = _read(_ARRAYS_DECODER, header, kind).arrays
    message = _read(decoder, header, kind)
    msgspec.structs.force_setattr(message, "arrays", _read_arrays(kind, descriptions, buffers, limits))
    return message


# ── writing ──


def _describe(name: str, array: np.ndarray[Any, Any], buffers: list[Frame]) -> tuple[str, tuple[int, ...], int]:
    """Append the array's buffer to ``buffers`` and return its description."""
    if not isinstance(array, (np.ndarray, np.generic)):
        raise TypeError(f"array {name!r} is a {type(array).__name__}, not a numpy.ndarray")
    dtype = _NAMES.get(array.dtype)
    if dtype is None:
        array, dtype = _to_little_endian(name, array)
    try:
        buffer = array.data.cast("B")
    except (AttributeError, TypeError):  # not C-contiguous; or empty, or on a machine of the other byte order
        buffer = array.reshape(-1).view(np.uint8).data
    buffers.append(buffer)
    return dtype, array.shape, len(buffers) - 1


def _to_little_endian(name: str, array: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], str]:
    dtype = array.dtype.newbyteorder("<")
    if dtype.str not in DTYPES:
        raise TypeError(f"array {name!r} of {array.dtype} does not travel; use one of {', '.join(sorted(DTYPES))}")
    return array.astype(dtype), dtype.str


def _to_plain(value: Any) -> Any:
    """Turn a NumPy scalar in a field (a reward, say) into Python's own; the hook of the encoder."""
    if isinstance(value, np.generic):
        plain = value.item()
        if isinstance(plain, bool | int | float | str):
            return plain
    raise TypeError(f"{type(value).__name__} does not travel in a field; arrays belong in `arrays`")


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_to_plain)


# ── reading ──


class _Version(msgspec.Struct):
    """The one thing to know before anything else of a header means anything."""

    version: tuple[int, int]


_Length = Annotated[int, Meta(ge=0)]
_Description = tuple[str, Annotated[tuple[_Length, ...], Meta(max_length=MAX_AXES)], _Length]


class _Arrays(msgspec.Struct):
    """A header's descriptions of arrays, by name."""

    arrays: Annotated[dict[Name, _Description], Meta(max_length=MAX_ARRAYS)] = {}


_PLACEHOLDER = np.empty(0)


def _no_array(type_: type, value: Any) -> np.ndarray[Any, Any]:
    """Stand in for an array while fields are read; descriptions are read separately, where their form is checked."""
    return _PLACEHOLDER


_VERSION_DECODER = msgspec.msgpack.Decoder(_Version)
_ARRAYS_DECODER = msgspec.msgpack.Decoder(_Arrays)
_MESSAGE_DECODERS: dict[str, msgspec.msgpack.Decoder[Message]] = {
    kind: msgspec.msgpack.Decoder(cls, dec_hook=_no_array) for kind, cls in KINDS.items()
}


def _as_bytes(frame: Frame) -> memoryview:
    view = memoryview(frame)
    return (view if view.format == "B" and view.ndim == 1 else view.cast("B")).toreadonly()


def _read(decoder: msgspec.msgpack.Decoder[T], header: memoryview, kind: str) -> T:
    try:
        return decoder.decode(header)
    except RecursionError:
        raise ProtocolError(f"{kind}: header is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"{kind}: header: {error!s:.400}") from None  # it may quote what came


def _check_version(kind: str, version: tuple[int, int]) -> int:
    """Return the sender's minor version."""
    major, minor = version
    if major != VERSION[0]:
        raise VersionError(
            f"{kind}: the other side speaks protocol {major}.{minor}, this side {VERSION[0]}.{VERSION[1]}: "
            "install matching versions of agentwrap-rl on both sides"
        )
    if minor < 0:
        raise ProtocolError(f"{kind}: {major}.{minor} is not a version")
    return minor


def _unknown_kind(kind: str, minor: int) -> ProtocolError:
    if minor > VERSION[1]:
        return UnknownKindError(
            f"{kind!r} is a kind of message of protocol {VERSION[0]}.{minor}, "
            f"unknown to {VERSION[0]}.{VERSION[1]} spoken here"
        )
    return ProtocolError(f"unknown kind of message {kind!r}; known are {', '.join(KINDS)}")


def _read_arrays(
    kind: str, descriptions: dict[str, _Description], buffers: list[memoryview], limits: Limits
) -> dict[str, np.ndarray[Any, Any]]:
    if len(descriptions) != len(buffers):
        raise ProtocolError(f"{kind}: the header names {len(descriptions)} arrays, but {len(buffers)} buffers came")
    total = sum(buffer.nbytes for buffer in buffers)
    if total > limits.total:
        raise LimitError(f"{kind}: arrays of {total} bytes together, at most {limits.total} are accepted")
    unread: list[memoryview | None] = list(buffers)
    arrays = {}
    for name, (dtype, shape, index) in descriptions.items():
        buffer = unread[index] if index < len(unread) else None
        if buffer is None:
            raise ProtocolError(f"{kind}: array {name!r}: no buffer {index}, or another array has it already")
        unread[index] = None
        size = _check_size(f"{kind}: array {name!r}", dtype, shape, limits)
        if size != buffer.nbytes:
            raise ProtocolError(
                f"{kind}: array {name!r}: {dtype} {shape} takes {size} bytes, its buffer has {buffer.nbytes}"
            )
        if dtype == "|b1" and buffer.nbytes and np.frombuffer(buffer, np.uint8).max() > 1:
            raise ProtocolError(f"{kind}: array {name!r}: a byte of a boolean array is neither 0 nor 1")
        arrays[name] = np.ndarray(shape, dtype, buffer)
    return arrays


def _check_size(what: str, dtype: str, shape: tuple[int, ...], limits: Limits) -> int:
    """Return the bytes that such an array takes."""
    item_size = _ITEM_SIZES.get(dtype)
    if item_size is None:
        raise ProtocolError(f"{what}: element type {dtype!r:.40} is not one of {', '.join(sorted(DTYPES))}")
    size = math.prod(shape) * item_size
    # in an empty array an axis of length 0 counts as 1: NumPy refuses (0, 2**62, 2**62), although it holds nothing
    extent = size or math.prod(length or 1 for length in shape) * item_size
    if extent > limits.array:
        raise LimitError(f"{what}: {dtype} {shape} takes {extent} bytes, at most {limits.array} are accepted")
    return size
