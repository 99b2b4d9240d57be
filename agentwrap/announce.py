"""The small file by which viewers on this machine find a stream (SPEC section 9)."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from agentwrap_protocol import Announcement, announcement


def announce(what: Announcement) -> Path:
    """Write the announcement, whole or not at all, readable by this user alone.

    Returns:
        The file, to be removed when the stream ends.

    Raises:
        OSError: The runtime directory cannot be written, or belongs to somebody else.
    """
    directory = announcement.directory()
    _make_private(directory.parent)
    _make_private(directory)
    path = directory / f"{what.stream}.json"
    descriptor, temporary = tempfile.mkstemp(dir=directory, prefix=".", suffix=".tmp")  # made with mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(announcement.encode_announcement(what))
        os.replace(temporary, path)
    except BaseException:
        withdraw(Path(temporary))
        raise
    return path


def withdraw(path: Path) -> None:
    """Remove an announcement; it may be gone already."""
    with contextlib.suppress(OSError):
        path.unlink()


def _make_private(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid"):
        status = directory.lstat()
        if status.st_uid != os.getuid() or directory.is_symlink():
            # in a shared temporary directory anybody may have made it first
            raise PermissionError(f"{directory} belongs to another user")
        directory.chmod(0o700)
