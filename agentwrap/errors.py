"""What the agent's side raises and warns of.

::

    AgentwrapError
    ├── PolicyTypeError (TypeError)        the policy, or what it returned, is of a kind that is not understood
    ├── UnknownLayerError (ValueError)     ``layers`` names a module that the policy does not have
    ├── EndpointError (ValueError)         the address to stream on is malformed or reaches beyond this machine
    ├── PortTakenError (OSError)           something else listens where the stream should be
    ├── MissingExtraError (ImportError)    an optional dependency is not installed; the text has the command
    └── ExportError (RuntimeError)         the policy's computation cannot be written as plain data

    AgentwrapWarning (UserWarning)         a part of the instrument failed and was switched off; the agent goes on
"""

from agentwrap_export.errors import AgentwrapError, ExportError, PolicyTypeError

__all__ = [
    "AgentwrapError",
    "AgentwrapWarning",
    "EndpointError",
    "ExportError",
    "MissingExtraError",
    "PolicyTypeError",
    "PortTakenError",
    "UnknownLayerError",
]


class UnknownLayerError(AgentwrapError, ValueError):
    """``layers`` names a module that the policy does not have. The text names the nearest that it has."""


class EndpointError(AgentwrapError, ValueError):
    """The address to stream on is malformed or reaches beyond this machine."""


class PortTakenError(AgentwrapError, OSError):
    """Something else listens where the stream should be. The text names the port and what to do."""


class MissingExtraError(AgentwrapError, ImportError):
    """An optional dependency is not installed. The text has the command that installs it."""


class AgentwrapWarning(UserWarning):
    """A part of the instrument failed and was switched off; the agent goes on as if it were alone."""
