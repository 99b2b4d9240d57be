"""A child process of the viewer's, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import subprocess

import pytest

from agentwrap_viewer.launch import Child


def test_a_child_that_is_asked_to_end_keeps_its_exit_code_for_who_waits_for_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def poll(process: subprocess.Popen[bytes]) -> None:
        raise AssertionError("where it ends just now, this takes its exit code from asyncio's thread that waits for it")

    async def end() -> int:
        child = Child(["sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do read line || sleep 0.01; done"])
        await child.start()
        assert await child.line() == "ready\n"
        child.ask_to_end()
        child.ask_to_end()
        await child.stop()
        return await child.wait()

    monkeypatch.setattr(subprocess.Popen, "poll", poll)
    assert asyncio.run(end()) == 7
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


def test_a_child_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def end() -> int:
        child = Child(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.01; done"])
        await child.start()
        assert await child.line() == "ready\n"
        await child.stop()
        return await child.wait()

    monkeypatch.setattr("agentwrap_viewer.launch.GRACE", 0.1)
    assert asyncio.run(end()) == -9
