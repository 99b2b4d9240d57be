"""What the page's process and that of the map tell each other, over the pipes between them.

Each piece is a header, ``<IBI``: bytes that follow it, kind, number of the tab; then those bytes. To the map: protocol
messages as recordings hold them, and what tabs do. From the map: what a tab is to be sent, laid out as in
``page/packet.py``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from agentwrap_protocol import encode
from agentwrap_protocol.messages import Message
from agentwrap_protocol.packing import pack

HEADER = struct.Struct("<IBI")

#: Bytes of a piece at most.
MAX_BYTES = 2**30


class Kind(IntEnum):
    """What a piece is."""

    MESSAGE = 0  #: to the map: a protocol message
    OPENED = 1  #: a tab looks at the map from now on
    COMMAND = 2  #: a tab asks for something
    CLOSED = 3  #: it looks no more
    DATA = 4  #: from the map: to be sent to the tab


def piece(kind: Kind, tab: int = 0, body: bytes = b"") -> bytes:
    """Return a piece's bytes."""
    return HEADER.pack(len(body), kind, tab) + body


def message_piece(message: Message) -> bytes:
    """Return a protocol message as a piece."""
    return piece(Kind.MESSAGE, body=b"".join(pack(encode(message))))


class Command(msgspec.Struct, frozen=True, tag_field="do"):
    """What a tab asks for, as a JSON object with ``do``."""


Number = Annotated[int, Meta(ge=0, le=2**62)]


class Got(Command, frozen=True, tag="got"):
    """The oldest message with points has been taken in."""


class Choose(Command, frozen=True, tag="choose"):
    """Lay other latents out, or in another way; for all tabs."""

    layer: Annotated[str, Meta(max_length=256)] | None = None
    method: Literal["tsne", "pca"] | None = None


class Select(Command, frozen=True, tag="select"):
    """Which steps lie within a polygon, given in the map's coordinates."""

    polygon: Annotated[list[tuple[float, float]], Meta(min_length=3, max_length=512)]


class Like(Command, frozen=True, tag="like"):
    """Which steps have latents like that of a step."""

    step: Number


class Frame(Command, frozen=True, tag="frame"):
    """The frame of a step; answered by the page."""

    step: Number


class Mean(Command, frozen=True, tag="mean"):
    """The mean of some steps' frames and maps; answered by the page. No steps: of none any more."""

    steps: Annotated[list[Number], Meta(max_length=256)]


COMMANDS = msgspec.json.Decoder(Got | Choose | Select | Like | Frame | Mean)

#: Bytes of the longest command.
MAX_COMMAND = 65_536


def spread(steps: Sequence[int], count: int) -> list[int]:
    """Return at most ``count`` of them, evenly spread."""
    if len(steps) <= count:
        return list(steps)
    return [steps[index * len(steps) // count] for index in range(count)]
