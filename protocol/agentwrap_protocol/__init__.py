"""The agentwrap protocol: bytes in, bytes out. See ``protocol/SPEC.md``, which is normative."""

from . import graph, messages, spaces
from .announcement import Announcement
from .codec import DEFAULT_LIMITS, Limits, decode, encode
from .errors import GraphError, LimitError, ProtocolError, VersionError
from .messages import KINDS, VERSION, Message

__all__ = [
    "DEFAULT_LIMITS",
    "KINDS",
    "VERSION",
    "Announcement",
    "GraphError",
    "LimitError",
    "Limits",
    "Message",
    "ProtocolError",
    "VersionError",
    "decode",
    "encode",
    "graph",
    "messages",
    "spaces",
]
