"""Maps of an agent's inner states: latent activations of many steps, laid out in the plane.

Example:
    >>> from agentwrap_viewer import open_recording
    >>> from agentwrap_viewer.states import embed
    >>> with open_recording("run.mcap") as recording:  # doctest: +SKIP
    ...     states = embed(recording)
    ...     states.xy, states.column("value"), states.neighbours(states.step[0])
"""

from .api import embed
from .atlas import Atlas
from .errors import StatesError

__all__ = ["Atlas", "StatesError", "embed"]
