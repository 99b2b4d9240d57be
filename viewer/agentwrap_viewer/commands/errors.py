"""What goes wrong with a recording, as the command line says it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agentwrap_viewer.launch import LaunchError

if TYPE_CHECKING:
    from agentwrap_viewer.recording import Recording

#: What recordings need beside the bare installation, and what installs it.
NEEDED, INSTALL = ("mcap", "zstandard"), 'pip install "agentwrap-rl[viewer]"'


@contextmanager
def reading(path: str) -> Iterator[Recording]:
    """Open a recording, and say what is wrong with it on the way as a command does.

    Raises:
        LaunchError: Something is missing to open it, or it cannot be read.
    """
    need(NEEDED, INSTALL)
    from agentwrap_viewer.recording import RecordingError, open_recording

    try:
        with open_recording(path) as recording:
            yield recording
    except RecordingError as error:
        raise LaunchError(str(error)) from error


def need(packages: tuple[str, ...], install: str) -> None:
    """Check that packages are installed.

    Raises:
        LaunchError: One is missing; the text contains the command that installs it.
    """
    import importlib.util

    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise LaunchError(f"this needs {', '.join(missing)}: run `{install}`")
