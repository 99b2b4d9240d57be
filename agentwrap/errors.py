"""What the agent's side raises and warns of.

::

    AgentwrapError
    ├── PolicyTypeError (TypeError)        the policy, or what it returned, is of a kind that is not understood
    ├── UnknownLayerError (ValueError)     ``layers`` names a module that the policy does not have
    ├── EndpointError (ValueError)         the address to stream on is malformed or reaches beyond this machine
    ├── PortTakenError (OSError)           something else listens where the stream should be
    ├── RecordingError (OSError)           a recording cannot be written, or could not be any longer
    ├── MissingExtraError (ImportError)    an optional dependency is missing or too old; the text has the command
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
    "RecordingError",
    "UnknownLayerError",
]


class UnknownLayerError(AgentwrapError, ValueError):
    """``layers`` names a module that the policy does not have. The text names the nearest that it has."""


class EndpointError(AgentwrapError, ValueError):
    """The address to stream on is malformed or reaches beyond this machine."""


class PortTakenError(AgentwrapError, OSError):
    """Something else listens where the stream should be. The text names the port and what to do."""


class RecordingError(AgentwrapError, OSError):
    """A recording cannot be written, or could not be any longer. The text names the file and what stands in the way."""


class MissingExtraError(AgentwrapError, ImportError):
    """An optional dependency is not installed, or too old. The text has the command that installs it."""


class AgentwrapWarning(UserWarning):
    """A part of the instrument failed and was switched off; the agent goes on as if it were alone."""
