"""Processes that a test started, which may end at any time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import psutil


def running(module: str) -> list[psutil.Process]:
    """Our descendants that run a Python module, by what their command lines say."""
    found = []
    for process in alive(psutil.Process().children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            if module in process.cmdline():
                found.append(process)
    return found


def alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended; one that has, and waits for its parent to notice, does not count."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
