"""A recording holds every message that was put, whatever the disk does; nothing it does hurts the agent."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import hello, step
from listener import eventually
from mcap.reader import make_reader
from recordings import begun, large, messages_in, steps_in

from agentwrap import RecordingError, recorder
from agentwrap.recorder import Recorder
from agentwrap_protocol.messages import EpisodeEnd, Step, Weights


def test_everything_put_is_there_in_order_and_numbered(tmp_path: Path) -> None:
    made = begun(tmp_path / "run.mcap")
    for number in range(300):
        made.put(step(number, seq=0))
    made.put(EpisodeEnd(stream="0" * 32, episode=0, step=299, length=300, episode_return=1, seconds=1, reason="reset"))
    summary = made.close()
    found = messages_in(tmp_path / "run.mcap")
    assert [type(message).__name__ for message in found] == ["Hello", *["Step"] * 300, "EpisodeEnd"]
    assert [(each.seq, each.step) for each in found if isinstance(each, Step)] == [(n, n) for n in range(300)]
    assert (summary.steps, summary.episodes, summary.dropped) == (300, 1, 0)
    assert summary.bytes == (tmp_path / "run.mcap").stat().st_size
    reader = make_reader(io.BytesIO((tmp_path / "run.mcap").read_bytes()), validate_crcs=True)
    metadata = {record.name: record.metadata for record in reader.iter_metadata()}
    assert metadata["agentwrap"]["protocol"] == "1.0" and metadata["agentwrap"]["record_every"] == "1"
    assert metadata["agentwrap.summary"]["steps"] == "300"


@pytest.mark.parametrize(("numbers", "told"), [(50_000, True), (50, False)])
def test_it_is_told_where_weights_are_most_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: int, told: bool
) -> None:
    monkeypatch.setattr(recorder, "MANY_BYTES", 1_000)
    made = begun(tmp_path / "run.mcap")
    made.put(step(0))
    array = np.random.default_rng(0).normal(size=numbers).astype(np.float32)
    for version in range(3):
        made.put(Weights(stream="0" * 32, policy_version=version, step=0, arrays={"weight": array}))
    said = str(made.close())
    assert said.startswith("recorded 1 step and 0 episodes to ")
    assert ("most of it are 3 versions of the policy's weights: weights_every=60" in said) == told


def test_what_was_put_is_on_disk_soon_though_nothing_more_comes(tmp_path: Path) -> None:
    made = begun(tmp_path / "run.mcap")
    made.put(step(0))
    eventually(lambda: [each.step for each in steps_in(tmp_path / "run.mcap")] == [0])
    made.close()


def test_an_existing_file_is_left_alone_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    path.write_text("dear")
    with pytest.raises(RecordingError, match="exists already: .*overwrite=True"):
        Recorder(path)
    assert path.read_text() == "dear"
    begun(path, overwrite=True).close()
    assert path.read_bytes().startswith(b"\x89MCAP")


@pytest.mark.parametrize("name", ["missing/run.mcap", ".", "x" * 300])
def test_a_path_that_cannot_be_written_is_refused_at_once(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecordingError, match="cannot be written|is a directory: name a file"):
        Recorder(tmp_path / name)


def test_options_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'wait', 'drop'"):
        Recorder(tmp_path / "run.mcap", on_full="explode")  # type: ignore[arg-type]
    assert not (tmp_path / "run.mcap").exists()


class SlowDisk:
    """Stands before ``os.write``; writes go on when it is let."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.open.set()
        real = os.write

        def write(file: int, data: Any) -> int:
            assert self.open.wait(60)
            return real(file, data)

        monkeypatch.setattr(recorder.os, "write", write)


def test_the_agent_waits_for_a_slow_disk_and_the_summary_says_how_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch)
    monkeypatch.setattr(recorder, "WAITING", 8 * 2**20)
    made = begun(tmp_path / "run.mcap")
    disk.open.clear()
    agent = threading.Thread(target=lambda: [made.put(large(number)) for number in range(40)])
    agent.start()
    eventually(lambda: made._put_bytes - made._taken_bytes > 8 * 2**20)
    agent.join(0.3)
    assert agent.is_alive()
    eventually(lambda: made.waited_seconds > 0.2)
    disk.open.set()
    agent.join()
    summary = made.close()
    assert [each.step for each in steps_in(tmp_path / "run.mcap")] == list(range(40))
    assert summary.waited_seconds > 0.2 and summary.dropped == 0
    assert "the agent waited" in str(summary)


def test_told_to_drop_the_agent_never_waits_and_what_is_lacking_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch)
    monkeypatch.setattr(recorder, "WAITING", 8 * 2**20)
    made = begun(tmp_path / "run.mcap", on_full="drop")
    disk.open.clear()
    for number in range(60):
        made.put(large(number))
    end = EpisodeEnd(stream="0" * 32, episode=0, step=59, length=60, episode_return=1, seconds=1, reason="reset")
    made.put(end)
    disk.open.set()
    summary = made.close()
    kept = steps_in(tmp_path / "run.mcap")
    assert summary.dropped > 0 and len(kept) == 60 - summary.dropped and summary.waited_seconds == 0
    assert [each.seq for each in kept] == [each.step for each in kept]  # a jump where steps are lacking
    assert isinstance(messages_in(tmp_path / "run.mcap")[-1], EpisodeEnd)
    assert f"{summary.dropped:,} messages were dropped" in str(summary)


def test_a_full_disk_ends_the_recording_and_what_was_written_stays(tmp_path: Path) -> None:
    """A file that may not grow beyond 2 MB behaves as a full disk does; in a process of its own, for it is for good."""
    path = tmp_path / "run.mcap"
    code = f"""
import resource, sys
sys.path[:0] = {sys.path!r}
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
from pathlib import Path
from recordings import begun, large
made = begun(Path({str(path)!r}))
for number in range(200):
    made.put(large(number))
    if made.error is not None:
        break
print(made.error)
made.put(large(number))
made.close()
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "File too large" in result.stdout and "is kept" in result.stdout
    assert path.stat().st_size == 2_000_000
    kept = [each.step for each in steps_in(path)]
    assert kept == list(range(len(kept)))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_disk_that_is_full_from_the_start_is_refused() -> None:
    made = Recorder("/dev/full", overwrite=True)
    with pytest.raises(RecordingError, match="No space left"):
        made.begin(hello())


def test_what_was_flushed_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    code = f"""
import sys
sys.path[:0] = {sys.path!r}
import itertools, time
from pathlib import Path
from recordings import begun
from fakes import step
made = begun(Path({str(path)!r}))
for number in itertools.count():
    made.put(step(number))
    time.sleep(0.005)
"""
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        eventually(path.exists)
        seen = eventually(lambda: [each for each in steps_in(path) if each.step > 100])
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = [each.step for each in steps_in(path)]
    assert kept == list(range(len(kept))) and len(kept) >= len(seen)


def test_a_forked_child_leaves_the_recording_to_its_parent(tmp_path: Path) -> None:
    made = begun(tmp_path / "run.mcap")
    made.put(step(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking a process with threads
        child = os.fork()
    if child == 0:
        for number in range(100, 200):
            made.put(large(number))
        made.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    made.put(step(1))
    made.close()
    assert [each.step for each in steps_in(tmp_path / "run.mcap")] == [0, 1]
