"""The frames of a message as one string of bytes, as recordings hold them (SPEC section 13).

::

    count                       unsigned 64-bit integer, little-endian: number of frames
    length × count              likewise: bytes of each frame
    frame, frame, …             each begins at a multiple of 8; gaps before them are zeros
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from .codec import Frame
from .errors import LimitError, ProtocolError
from .messages import MAX_ARRAYS

#: Frames begin at multiples of this many bytes, so that arrays can be used where they lie.
ALIGNMENT = 8

_MOST_FRAMES = MAX_ARRAYS + 2
_ZEROS = bytes(ALIGNMENT)


def pack(frames: Sequence[Frame]) -> list[Frame]:
    """Return byte strings that, one after the other, are the packed message. Frames are not copied.

    Args:
        frames: What ``encode`` returns: kind, header, buffers.
    """
    lengths = [memoryview(frame).nbytes for frame in frames]
    pieces: list[Frame] = [struct.pack(f"<{1 + len(frames)}Q", len(frames), *lengths)]
    for index, (frame, length) in enumerate(zip(frames, lengths, strict=True)):
        pieces.append(frame)
        gap = -length % ALIGNMENT
        if gap and index + 1 < len(frames):
            pieces.append(_ZEROS[:gap])
    return pieces


def unpack(payload: Frame) -> list[memoryview]:
    """Return the frames of a packed message, as views of it.

    Raises:
        LimitError: There are more frames than a message has.
        ProtocolError: The bytes are not a packed message; the text says what is wrong.
    """
    view = memoryview(payload).cast("B")
    if view.nbytes < ALIGNMENT:
        raise ProtocolError(f"a packed message has at least {ALIGNMENT} bytes, this has {view.nbytes}")
    (count,) = struct.unpack_from("<Q", view)
    if count > _MOST_FRAMES:
        raise LimitError(f"a packed message of {count} frames, at most {_MOST_FRAMES} are accepted")
    position = ALIGNMENT * (1 + count)
    if position > view.nbytes:
        raise ProtocolError(f"a packed message of {count} frames has at least {position} bytes, this has {view.nbytes}")
    frames: list[memoryview] = []
    for length in struct.unpack_from(f"<{count}Q", view, ALIGNMENT):
        begin = position + -position % ALIGNMENT
        if length > view.nbytes - begin:
            raise ProtocolError(f"frame {len(frames)} of a packed message, {length} bytes, reaches beyond its end")
        if view[position:begin] != _ZEROS[: begin - position]:
            raise ProtocolError(f"the gap before frame {len(frames)} of a packed message is not zeros")
        frames.append(view[begin : begin + length])
        position = begin + length
    if position != view.nbytes:
        raise ProtocolError(f"{view.nbytes - position} bytes too many after the last frame of a packed message")
    return frames
