import os
import stat
from pathlib import Path

import pytest

from agentwrap.announce import announce, withdraw
from agentwrap_protocol import VERSION, Announcement, announcement

WHAT = Announcement(
    stream="a" * 32,
    endpoint="tcp://127.0.0.1:5590",
    name="n",
    env_id="e",
    pid=os.getpid(),
    started=1.0,
    version=VERSION,
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_an_announcement_is_whole_and_private(runtime_directory):
    path = announce(WHAT)
    assert path == announcement.directory() / f"{WHAT.stream}.json"
    assert announcement.decode_announcement(path.read_bytes()) == WHAT
    assert (mode(path), mode(path.parent), mode(path.parent.parent)) == (0o600, 0o700, 0o700)
    assert list(path.parent.iterdir()) == [path]
    withdraw(path)
    withdraw(path)
    assert list(path.parent.iterdir()) == []


def test_a_directory_that_others_can_read_is_closed_to_them(runtime_directory):
    announcement.directory().mkdir(parents=True, mode=0o755)
    assert mode(announce(WHAT).parent) == 0o700


def test_somebody_elses_directory_is_not_used(runtime_directory, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    announcement.directory().parent.mkdir(parents=True)
    announcement.directory().symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="belongs to another user"):
        announce(WHAT)
    assert list((tmp_path / "elsewhere").iterdir()) == []
