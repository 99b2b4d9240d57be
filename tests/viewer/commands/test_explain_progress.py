"""What ``agentwrap explain`` says of its pace."""

from __future__ import annotations

import pytest

from agentwrap_viewer.commands import explain
from agentwrap_viewer.commands.explain import Progress


def test_a_pace_is_told_once_it_is_known(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [100.0]
    monkeypatch.setattr(explain.time, "monotonic", lambda: now[0])
    progress = Progress(24, 4)
    now[0] += 30  # processes start
    for _ in range(2):
        for _ in range(10):
            progress.advance()
        now[0] += 2
    progress.end()
    lines = [line.split("maps, ")[1] for line in capsys.readouterr().err.splitlines()]
    assert lines[0] == "starting" and lines[1] == "measuring"
    assert lines[-1] == "5.0/s, 0 s left" and not any(line.startswith("0.0/s") for line in lines)


def test_nothing_left_to_do_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Progress(3, 3).end()
    assert capsys.readouterr().err == ""
