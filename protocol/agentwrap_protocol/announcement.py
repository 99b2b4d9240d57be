"""The small file by which a live stream is found on its machine (SPEC section 9).

Each live stream leaves ``<stream>.json`` in the user's runtime directory and removes it when it ends. A reader skips
and may remove files whose process is gone.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import msgspec
import platformdirs
from msgspec import Meta

from .errors import LimitError, ProtocolError
from .messages import StreamId, Text

MAX_BYTES = 65_536


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says.

    Attributes:
        stream: The stream's identity, as in ``Message.stream``.
        endpoint: Where to subscribe, e.g. ``tcp://127.0.0.1:5590``.
        name: The stream's name for people.
        env_id: The environment's id.
        pid: Process that streams.
        started: Seconds since the epoch.
        version: Protocol version, major and minor.
    """

    stream: StreamId
    endpoint: Annotated[str, Meta(max_length=4096)]
    name: Text
    env_id: Text
    pid: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    started: float
    version: tuple[int, int]


def directory() -> Path:
    """Return the directory that holds the announcements of this user's streams. It need not exist yet.

    Raises:
        PermissionError: The place for it, in a shared temporary directory, belongs to another user.
    """
    with warnings.catch_warnings():
        # where the desktop sets no XDG_RUNTIME_DIR, platformdirs warns and falls back: nothing a user need act on
        warnings.simplefilter("ignore")
        return Path(platformdirs.user_runtime_dir("agentwrap", appauthor=False)) / "streams"


def encode_announcement(announcement: Announcement) -> bytes:
    """Return the file's content."""
    return msgspec.json.encode(announcement)


def decode_announcement(content: bytes) -> Announcement:
    """Read a file's content.

    Raises:
        LimitError: It is longer than ``MAX_BYTES``.
        ProtocolError: It is not an announcement; the text says why.
    """
    if len(content) > MAX_BYTES:
        raise LimitError(f"announcement of {len(content)} bytes, at most {MAX_BYTES} are accepted")
    try:
        return msgspec.json.decode(content, type=Announcement)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"announcement: {error!s:.400}") from None
