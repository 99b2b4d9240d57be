"""The agentwrap protocol: bytes in, bytes out. See ``protocol/SPEC.md``, which is normative."""

from . import events, graph, messages, spaces
from .announcement import Announcement
from .codec import DEFAULT_LIMITS, Limits, decode, encode
from .errors import GraphError, LimitError, ProtocolError, UnknownKindError, VersionError
from .messages import KINDS, VERSION, Message
from .session import Session

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
    "Session",
    "UnknownKindError",
    "VersionError",
    "decode",
    "encode",
    "events",
    "graph",
    "messages",
    "spaces",
]
