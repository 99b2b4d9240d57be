"""Recordings: what was streamed, from a file.

::

    from agentwrap_viewer import open_recording

    with open_recording("run.mcap") as recording:
        step = recording.steps[1000]                    # a Step message: observation, action, what the policy computed
        rewards = recording.array("reward", 0, 1000)
        policy = recording.policy(step.policy_version)  # as it was then, ready to run

Files that were cut off at any byte, and files that are still being written, open too.
"""

from __future__ import annotations

import os

from .errors import RecordingError
from .recording import Episode, Recording
from .steps import Steps

__all__ = ["Episode", "Recording", "RecordingError", "Steps", "open_recording"]


def open_recording(path: str | os.PathLike[str]) -> Recording:
    """Open a recording, also one that was cut off or is still being written (``Recording.notes`` says so).

    Opening reads the index; steps are read when they are asked for, each with one chunk of a few megabytes. What is
    kept in memory does not grow with them.

    Raises:
        RecordingError: The file cannot be read, is no recording, or is of another major version of the protocol.
    """
    return Recording(path)
