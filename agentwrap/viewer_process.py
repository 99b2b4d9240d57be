"""Starts the viewer beside the agent, and ends it with the agent."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys

from .errors import MissingExtraError

#: What the viewer cannot do without.
NEEDED = ("panel", "bokeh", "torch")

#: Seconds that the viewer gets to end its own children.
PATIENCE = 3.0


def start_viewer(endpoint: str) -> subprocess.Popen[bytes]:
    """Start ``agentwrap view`` for one stream, in a session of its own: Ctrl-C in the terminal ends the agent first.

    Raises:
        MissingExtraError: The viewer's dependencies are not installed.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(f'the viewer needs {", ".join(missing)}: run `pip install "agentwrap-rl[viewer]"`')
    command = [sys.executable, "-m", "agentwrap_viewer", "view", endpoint]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)


def end_viewer(viewer: subprocess.Popen[bytes]) -> None:
    """Ask the viewer to end, and make it if it does not."""
    if viewer.poll() is not None:
        return
    viewer.terminate()
    try:
        viewer.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(viewer.pid, signal.SIGKILL)
        viewer.wait()
