"""What goes wrong with a recording, as the command line says it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agentwrap_viewer.launch import LaunchError

from .arguments import need

if TYPE_CHECKING:
    from agentwrap_viewer.recording import Recording

#: What recordings need beside the bare installation.
NEEDED = ("mcap", "zstandard")


@contextmanager
def reading(path: str) -> Iterator[Recording]:
    """Open a recording, and say what is wrong with it on the way as a command does.

    Raises:
        LaunchError: Something is missing to open it, or it cannot be read.
    """
    need(NEEDED)
    from agentwrap_viewer.recording import RecordingError, open_recording

    try:
        with open_recording(path) as recording:
            yield recording
    except RecordingError as error:
        raise LaunchError(str(error)) from error
