"""What goes wrong with a recording, as the command line says it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from agentwrap_viewer.launch import LaunchError

from .arguments import need

if TYPE_CHECKING:
    from agentwrap_viewer.recording import Recording

#: What recordings need beside the bare installation.
NEEDED = ("mcap", "zstandard")


def check_place(out: Path) -> None:
    """Look whether a file can be written there, before anything that takes long begins.

    Raises:
        LaunchError: It cannot; the text says why.
    """
    folder = out.absolute().parent
    if not folder.exists():
        number = errno.ENOENT
    elif not folder.is_dir():
        number = errno.ENOTDIR
    elif not os.access(folder, os.W_OK):
        number = errno.EACCES
    else:
        return
    raise LaunchError(f"{out} cannot be written: {os.strerror(number)}")


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
