"""Recordings of known steps to replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import EPISODE, hello
from recordings import known

from agentwrap_protocol.messages import Step
from agentwrap_viewer import open_recording
from agentwrap_viewer.recording import Recording
from agentwrap_viewer.recording.writer import RecordingWriter
from agentwrap_viewer.replay.store import RecordedStore


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a recording of steps; returns where."""

    def make(steps: list[Step], name: str = "run.mcap", **fields: Any) -> Path:
        path = tmp_path / name
        with RecordingWriter(path, hello(**fields)) as writer:
            for each in steps:
                writer.add(each)
        return path

    return make


@pytest.fixture
def recording(write: Callable[..., Path]) -> Iterator[Recording]:
    """Two and a half episodes of known steps."""
    with open_recording(write([known(number) for number in range(2 * EPISODE + 50)])) as opened:
        yield opened


@pytest.fixture
def store(recording: Recording) -> RecordedStore:
    return RecordedStore(recording)
