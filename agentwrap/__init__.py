"""See why a reinforcement-learning agent acts, while it acts: wrap its environment, run ``agentwrap view``."""

__version__ = "0.1.0"

from .errors import (
    AgentwrapError,
    AgentwrapWarning,
    EndpointError,
    ExportError,
    MissingExtraError,
    PolicyTypeError,
    PortTakenError,
    RecordingError,
    UnknownLayerError,
)
from .vector import InterpretVectorWrapper
from .wrapper import InterpretWrapper

__all__ = [
    "AgentwrapError",
    "AgentwrapWarning",
    "EndpointError",
    "ExportError",
    "InterpretVectorWrapper",
    "InterpretWrapper",
    "MissingExtraError",
    "PolicyTypeError",
    "PortTakenError",
    "RecordingError",
    "UnknownLayerError",
    "__version__",
]
