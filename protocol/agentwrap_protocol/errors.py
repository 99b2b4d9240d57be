"""What can go wrong when bytes come in.

::

    ProtocolError               the bytes are not a valid message; the text says what was wrong
    ├── VersionError            the other side speaks another major version
    ├── UnknownKindError        a newer minor version has a kind of message that this one does not know: skip it
    ├── LimitError              something is larger than this side accepts
    └── GraphError              a policy graph is malformed or uses an operator that is not allowed
"""


class ProtocolError(ValueError):
    """Bytes from outside are not a valid message. The text names what was wrong."""


class VersionError(ProtocolError):
    """The sender speaks another major version of the protocol."""


class UnknownKindError(ProtocolError):
    """The sender speaks a newer minor version, and this kind of message is unknown here: a receiver skips it."""


class LimitError(ProtocolError):
    """A size exceeds the bound that this side accepts."""


class GraphError(ProtocolError):
    """A policy graph is malformed, inconsistent, or uses an operator that is not allowed."""
