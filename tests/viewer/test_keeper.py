"""The page's record button: a stream goes to a file, by a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import FakeAgent
from recordings import steps_in

from agentwrap_viewer.keeper import StreamKeeper
from agentwrap_viewer.recording import open_recording


async def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


@pytest.fixture
def agent() -> FakeAgent:
    agent = FakeAgent()
    yield agent
    agent.close()


def test_a_stream_is_recorded_from_begin_to_end(agent: FakeAgent, tmp_path: Path) -> None:
    async def go() -> StreamKeeper:
        changes: list[bool] = []
        keeper = StreamKeeper(tmp_path, changed=lambda: changes.append(keeper.kept.running))
        assert keeper.kept is None
        agent.play(60)
        keeper.begin(agent.endpoint, "Enduro, expert!")
        keeper.begin(agent.endpoint, "twice is once")
        await until(lambda: keeper.kept.bytes)
        await until(lambda: len(steps_in(Path(keeper.kept.path))) > 5)
        keeper.end()
        await keeper.close()
        assert changes == [True, False]
        return keeper

    kept = asyncio.run(go()).kept
    path = Path(kept.path)
    assert list(tmp_path.glob("*.mcap")) == [path] and path.name.startswith("enduro-expert-2")
    assert not kept.running and not kept.failed and path.name in kept.outcome
    with open_recording(path) as recording:
        assert recording.complete and len(recording.steps) > 5 and f"{len(recording.steps)} steps" in kept.outcome


def test_a_file_that_cannot_be_written_is_said(agent: FakeAgent, tmp_path: Path) -> None:
    async def go() -> StreamKeeper:
        keeper = StreamKeeper(tmp_path / "not" / "there")
        agent.play(60)
        keeper.begin(agent.endpoint, "run")
        await until(lambda: not keeper.kept.running)
        return keeper

    kept = asyncio.run(go()).kept
    assert kept.failed and "cannot be written: No such file or directory" in kept.outcome


def test_it_ends_when_whoever_started_it_is_killed(agent: FakeAgent, tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    command = [sys.executable, "-m", "agentwrap_viewer", "record", agent.endpoint, str(path), "--attached"]
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys; p = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, start_new_session=True);"
            "print(p.pid, flush=True); p.wait()",
            *command,
        ],
        stdout=subprocess.PIPE,
    )
    child = int(parent.stdout.readline())
    agent.play(60)
    deadline = time.monotonic() + 60
    while not (path.exists() and steps_in(path)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    while _runs(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with open_recording(path) as recording:
        assert recording.complete and len(recording.steps)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "zombie" not in Path(f"/proc/{pid}/status").read_text()
