"""Finds the streams of this machine by the files they leave (SPEC section 9)."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from agentwrap_protocol.announcement import MAX_BYTES, Announcement, decode_announcement, directory
from agentwrap_protocol.errors import ProtocolError

#: Files looked at. Far more than anybody runs; a directory full of rubbish does not stall the page.
MAX_FILES = 1024


def live_streams(folder: Path | None = None) -> list[Announcement]:
    """Return the announcements of running processes, newest first.

    Unreadable files are skipped. Those of processes that are gone (an agent that is killed cannot remove its own) are
    removed. Of several at one endpoint the newest is there: nobody else could listen where the others still did.
    """
    found = []
    folder = directory() if folder is None else folder
    try:
        files = sorted(folder.glob("*.json"))[:MAX_FILES]
    except OSError:
        return []
    for file in files:
        announcement = _read(file)
        if announcement is None:
            continue
        if is_running(announcement.pid):
            found.append(announcement)
        else:
            with contextlib.suppress(OSError):
                file.unlink()
    newest = {each.endpoint: each for each in sorted(found, key=_started)}
    return sorted(newest.values(), key=_started, reverse=True)


def _started(announcement: Announcement) -> float:
    return announcement.started


def names_of(streams: Sequence[Announcement]) -> dict[str, str]:
    """Return a name for each endpoint: the stream's, with where it is for those that share theirs with others."""
    count = Counter(stream.name for stream in streams)
    return {
        each.endpoint: each.name if count[each.name] == 1 else f"{each.name} :{_place(each.endpoint)}"
        for each in streams
    }


def _place(endpoint: str) -> str:
    """The port of an endpoint, or the name of its file."""
    return endpoint.rpartition(":" if endpoint.startswith("tcp://") else "/")[2]


def _read(file: Path) -> Announcement | None:
    try:
        with file.open("rb") as stream:
            return decode_announcement(stream.read(MAX_BYTES + 1))
    except (OSError, ProtocolError):
        return None


def is_running(pid: int) -> bool:
    """Tell whether a process of this id runs: one that was killed is there until its parent has taken note of it."""
    return _exists(pid) and not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:  # not Linux, or not ours to read
        return False
    return stat.rpartition(b")")[2].split()[:1] == [b"Z"]


def _exists(pid: int) -> bool:
    if pid <= 0:
        return False
    if os.name == "nt":  # there, os.kill(pid, 0) would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return not isinstance(pid, int) or pid < 2**31
    return True
