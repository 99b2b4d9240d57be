"""What every test gets: a runtime directory of its own, and a guard against processes that are left behind."""

from __future__ import annotations

import os
import random
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

#: In the environment of every process that this run of the tests starts, directly or not.
MARK = "AGENTWRAP_TEST_RUN"


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail the run when a process that a test started outlives the tests, orphans included."""
    mark = uuid.uuid4().hex
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MARK, mark)
        patch.setenv(
            "XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime"))
        )  # for fixtures that several tests share
        yield
        deadline = time.monotonic() + 60
        while (left := marked_processes(mark)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left, "processes left behind:\n" + "\n".join(left)


@pytest.fixture(scope="session", autouse=True)
def own_ports() -> Iterator[None]:
    """Keep streams of tests off the ports at which a user, or another run of the tests, looks for agents."""
    from agentwrap import endpoint

    first = random.randrange(20_000, 31_900)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(endpoint, "PORTS", range(first, first + 100))
        yield


def marked_processes(mark: str) -> list[str]:
    """Return the command lines of the other processes with this mark, and the tests that started them."""
    found = []
    for process in psutil.process_iter():
        try:
            environment, command = process.environ(), " ".join(process.cmdline())
        except psutil.Error:  # gone meanwhile, or another user's
            continue
        helper = "multiprocessing.resource_tracker" in command  # Python's own: ends with this process
        if environment.get(MARK) == mark and process.pid != os.getpid() and not helper and command:
            found.append(f"{process.pid}: {command[:200]} (started in {environment.get('PYTEST_CURRENT_TEST')})")
    return found


@pytest.fixture(autouse=True)
def runtime_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep each test's announcements to itself: no stream of another test, or of the user, is found."""
    directory = tmp_path / "runtime"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    monkeypatch.delenv("AGENTWRAP_ENDPOINT", raising=False)
    return directory
