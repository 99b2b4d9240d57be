"""The commands on recordings, run as a user runs them."""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fakes import FakeAgent, hello
from listener import eventually
from recordings import record_pictures, steps_in

from agentwrap_protocol.messages import SaliencyMap
from agentwrap_viewer import cli, open_recording
from agentwrap_viewer.commands import explain
from agentwrap_viewer.launch import LaunchError
from agentwrap_viewer.recording import flips
from agentwrap_viewer.recording.writer import RecordingWriter


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two episodes of fifteen steps with pictures, and the policy."""
    return record_pictures(tmp_path_factory.mktemp("run") / "run.mcap")


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert cli.main([str(each) for each in arguments]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert cli.main([str(each) for each in arguments]) == 1
    return capsys.readouterr().err


def test_info_says_what_is_in_it(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = said(capsys, "info", run)
    assert "Pictures, seed 5" in text and "mean return 7.5; returns 7.5, 7.5" in text
    assert "Sequential, 1 version of its weights" in text and "observation u1(16, 16)" in text
    facts = json.loads(said(capsys, "info", run, "--json"))
    assert (facts["steps"], facts["episodes_ended"], facts["lengths"], facts["notes"]) == (30, 2, [15, 15], [])
    torn = tmp_path / "torn.mcap"
    torn.write_bytes(run.read_bytes()[: run.stat().st_size // 2])
    assert "cut off" in said(capsys, "info", torn)
    (tmp_path / "no.mcap").write_text("no recording, but text")
    assert "not a recording" in refused(capsys, "info", tmp_path / "no.mcap")
    assert "No such file" in refused(capsys, "info", tmp_path / "missing.mcap")


def test_explain_computes_final_maps_and_goes_on_where_it_was_stopped(
    run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    maps = tmp_path / "maps.mcap"
    options = ("explain", run, "--out", maps, "--method", "occlusion", "--option", "patch=4")
    assert "7 maps" in said(capsys, *options, "--steps", "0:7")
    with open_recording(maps) as first:
        before = {number: first.saliency_map(index) for number, index in first.explained.items()}
    assert sorted(before) == list(range(7))
    assert all(
        each.refined == 1.0 and each.method == "occlusion" and each.options["patch"] == 4 for each in before.values()
    )
    assert "15 maps" in said(capsys, *options, "--episode", "0")
    with open_recording(maps) as both, open_recording(run) as recording:
        assert sorted(both.explained) == list(range(15)) and both.metadata["method"] == "occlusion"
        for number, message in before.items():
            kept = both.saliency_map(both.explained[number])
            assert kept.time == message.time and kept.seconds == message.seconds  # not computed again
        assert kept.source == recording.metadata["stream"] and kept.arrays["heatmap/chosen"].shape == (16, 16)
    assert not list(tmp_path.glob("*.part"))


def test_explain_that_is_stopped_says_how_to_go_on(
    run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps, computed = tmp_path / "maps.mcap", explain.maps

    def stopped(*arguments: Any) -> Iterator[SaliencyMap]:
        yield from itertools.islice(computed(*arguments), 3)
        raise KeyboardInterrupt

    options = ("explain", str(run), "--out", str(maps), "--method", "gradient", "--steps", "0:7", "--jobs", "1")
    with monkeypatch.context() as patched:
        patched.setattr(explain, "maps", stopped)
        assert cli.main(options) == 130
    assert f"what is done is in {maps}, and the same command goes on" in capsys.readouterr().err
    with open_recording(maps) as partly:
        assert len(partly.explained) == 3
    assert "7 maps" in said(capsys, *options)


SPY = """
import os, sys
from importlib.abc import MetaPathFinder
class Spy(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torch":
            print("torch:", os.environ.get("OMP_WAIT_POLICY"))
sys.meta_path.insert(0, Spy())
from agentwrap_viewer.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_threads_of_explain_do_not_spin(run: Path) -> None:
    command = [sys.executable, "-c", SPY, "explain", str(run), "--steps", "0:1", "--out", str(run.with_name("maps"))]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert set(re.findall("torch: (.*)", said)) == {"passive"}, "it is read when PyTorch is loaded"


def test_explain_is_asked_for_a_target(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = ("explain", run, "--out", tmp_path / "maps.mcap", "--steps", "0:2", "--target")
    said(capsys, *options, "Action 1")
    with open_recording(tmp_path / "maps.mcap") as maps:
        assert [maps.saliency_map(index).targets for index in maps.explained.values()] == [
            ("1",)
        ] * 2 and maps.metadata["target"] == "Action 1"
    assert "(target differ)" in refused(capsys, *options, "actor")
    assert "this policy offers actor, chosen, action 0" in refused(capsys, *options, "honk", "--overwrite")


def test_explain_survives_being_cut_off(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    maps = tmp_path / "maps.mcap"
    options = ("explain", run, "--out", maps, "--method", "gradient")
    said(capsys, *options, "--steps", "0:10")
    maps.write_bytes(maps.read_bytes()[:-900])
    assert "20 maps" in said(capsys, *options, "--steps", "0:20")
    with open_recording(maps) as found:
        assert sorted(found.explained) == list(range(20)) and found.complete


@pytest.mark.parametrize("backend", ["loky", "ray", "dask"])
def test_two_processes_go_on_and_compute_the_same_maps_as_one(
    run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, backend: str
) -> None:
    said(capsys, "explain", run, "--out", tmp_path / "1.mcap", "--steps", "::2")
    said(capsys, "explain", run, "--out", tmp_path / "2.mcap", "--steps", "0:8:2")
    with open_recording(tmp_path / "2.mcap") as begun:
        before = {number: begun.saliency_map(index).time for number, index in begun.explained.items()}
    assert sorted(before) == [0, 2, 4, 6]
    options = (
        "explain",
        str(run),
        "--out",
        str(tmp_path / "2.mcap"),
        "--steps",
        "::2",
        "--jobs",
        "2",
        "--backend",
        backend,
    )
    subprocess.run([sys.executable, "-m", "agentwrap_viewer", *options], check=True, capture_output=True)
    with open_recording(tmp_path / "1.mcap") as one, open_recording(tmp_path / "2.mcap") as two:
        assert sorted(one.explained) == sorted(two.explained) == list(range(0, 30, 2))
        assert {number: two.saliency_map(two.explained[number]).time for number in before} == before
        for number, index in one.explained.items():
            left, right = one.saliency_map(index).arrays, two.saliency_map(two.explained[number]).arrays
            assert left.keys() == right.keys()
            for name in left:
                np.testing.assert_allclose(left[name], right[name], atol=1e-5)


@pytest.mark.skipif(sys.platform == "win32", reason="files cannot be kept small there")
def test_explain_on_a_full_disk_says_so_keeps_what_was_written_and_goes_on(
    run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    maps = tmp_path / "maps.mcap"
    options = ("explain", str(run), "--out", str(maps), "--method", "gradient")
    program = (  # a file that may not grow beyond 4 kB behaves as a full disk does
        "import resource, sys; from agentwrap_viewer.cli import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); sys.exit(main(sys.argv[1:]))"
    )
    full = subprocess.run([sys.executable, "-c", program, *options], capture_output=True, text=True)
    assert full.returncode == 1 and "maps.mcap cannot be written on: File too large" in full.stderr
    assert "30 maps" in said(capsys, *options)
    with open_recording(maps) as found:
        assert sorted(found.explained) == list(range(30)) and found.complete


def test_an_empty_recording_is_described_and_refused_in_words(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with RecordingWriter(tmp_path / "empty.mcap", hello()):
        pass
    empty, out = tmp_path / "empty.mcap", tmp_path / "out"
    assert "none of which ended" in said(capsys, "info", empty, "--moments")
    assert "has no steps" in refused(capsys, "explain", empty, "--out", out)
    assert "has no steps" in refused(capsys, "export", empty, "--format", "csv", "--out", out)
    assert "has no steps" in refused(capsys, "export", empty, "--moments", "--out", out)
    assert not out.exists()


def test_moments_are_listed_by_what_counts_as_one(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_recording(run) as recording:
        expected = recording.moments(["terminated", "td_error"], threshold=0.5, apart=2)
        flipped = flips.find(recording, sigma=0.5, share=0.05)
    options = ("info", run, "--json", "--moments")
    found = json.loads(said(capsys, *options, "terminated,td_error", "--threshold", "0.5", "--apart", "2"))["moments"]
    assert [(each["step"], each["kind"]) for each in found] == [(each.step, each.kind) for each in expected]
    found = json.loads(said(capsys, *options, "action_flip", "--sigma", "0.5", "--share", "0.05"))["moments"]
    assert [each["step"] for each in found] == [each.step for each in flipped] and flipped
    assert "--gamma is 2.0; a discount" in refused(capsys, *options, "--gamma", "2")
    assert "--sigma has to be above 0" in refused(capsys, *options, "--sigma", "0")
    assert "no moments of kind 'x'" in refused(capsys, *options, "x")


def test_explain_refuses_what_cannot_be_and_says_why(
    run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    nowhere = tmp_path / "no" / "maps.mcap"
    text = refused(capsys, "explain", run, "--out", nowhere, "--method", "magic")
    assert f"{nowhere} cannot be written: No such file or directory" in text, "before anything else is looked at"
    assert "cannot be written: Not a directory" in refused(capsys, "explain", run, "--out", run / "maps.mcap")
    maps = tmp_path / "maps.mcap"
    assert "'magic' is not possible" in refused(capsys, "explain", run, "--out", maps, "--method", "magic")
    assert "--address is a cluster's" in refused(capsys, "explain", run, "--out", maps, "--address", "x:1")
    assert "--jobs 0 is no number" in refused(capsys, "explain", run, "--out", maps, "--jobs", "0")
    assert "no episode 9" in refused(capsys, "explain", run, "--out", maps, "--episode", "9", "--overwrite")
    assert "no version 4" in refused(capsys, "explain", run, "--out", tmp_path / "a", "--policy-version", "4")
    said(capsys, "explain", run, "--out", tmp_path / "b.mcap", "--steps", "0:2", "--method", "gradient")
    text = refused(capsys, "explain", run, "--out", tmp_path / "b.mcap", "--method", "occlusion")
    assert "holds other maps (method differ)" in text
    (tmp_path / "dear.mcap").write_text("dear dear dear")
    assert "not a recording" in refused(capsys, "explain", run, "--out", tmp_path / "dear.mcap", "--steps", "0:2")
    assert (tmp_path / "dear.mcap").read_text() == "dear dear dear"


def test_export_to_tables(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    said(capsys, "export", run, "--out", tmp_path / "x.csv")
    with open(tmp_path / "x.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    said(capsys, "export", run, "--out", tmp_path / "x.parquet", "--steps", "10:20")
    table = parquet.read_table(tmp_path / "x.parquet")
    with open_recording(run) as recording:
        assert [int(row["step"]) for row in rows] == list(range(30))
        assert [float(row["reward"]) for row in rows] == recording.array("reward").tolist()
        np.testing.assert_array_equal([float(row["output/logits/2"]) for row in rows], recording.array("logits")[:, 2])
        assert table.column("action").to_pylist() == recording.array("action", 10, 20).tolist()


def test_export_to_arrays_with_maps(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said(capsys, "explain", run, "--out", tmp_path / "maps.mcap", "--method", "gradient", "--steps", "4:20")
    said(capsys, "export", run, "--out", tmp_path / "x.npz", "--steps", "4:20:3", "--maps", tmp_path / "maps.mcap")
    with np.load(tmp_path / "x.npz") as arrays, open_recording(run) as recording:
        np.testing.assert_array_equal(arrays["observation"], recording.observations()[4:20:3])  # type: ignore[index]
        assert arrays["step"].tolist() == [4, 7, 10, 13, 16, 19]
        assert arrays["maps/heatmap/chosen"].shape == (6, 16, 16)
    text = refused(capsys, "export", run, "--out", tmp_path / "y.npz", "--maps", tmp_path / "maps.mcap")
    assert (
        "no map of step 0" in text
        and "--steps 4:20 takes the 16" in text
        and not (tmp_path / "y.npz").exists()
        and not list(tmp_path.glob("*.part"))
    )


def test_what_takes_the_steps_that_have_maps_is_said(
    run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    maps = ("--maps", tmp_path / "maps.mcap")
    said(capsys, "explain", run, "--out", tmp_path / "maps.mcap", "--method", "gradient", "--steps", "0:20:6")
    assert "--steps 0:19:6 takes the 4" in refused(capsys, "export", run, "--out", tmp_path / "x.npz", *maps)
    said(capsys, "export", run, "--out", tmp_path / "x.npz", "--steps", "0:19:6", *maps)
    said(capsys, "explain", run, "--out", tmp_path / "maps.mcap", "--method", "gradient", "--steps", "1:2")
    assert "maps of 5 steps between 0 and 18" in refused(capsys, "export", run, "--out", tmp_path / "y.npz", *maps)


def test_steps_are_counted_from_the_first_recorded() -> None:
    """A recording that the page began has the numbers of an agent that had made steps before."""
    begun_late: Any = SimpleNamespace(
        path="late.mcap", steps=[SimpleNamespace(step=1024 + n) for n in range(5)], episodes=[]
    )
    assert explain.chosen(begun_late, slice(1, 3), None) == range(1, 3)
    with pytest.raises(LaunchError, match="5, 0 to 4, counted from its first, which is the agent's step 1,024"):
        explain.chosen(begun_late, slice(1024, 1026), None)


def test_steps_and_episodes_that_are_not_there_are_refused_with_those_that_are(
    run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "maps.mcap"
    with open_recording(run) as recording:
        steps, last = len(recording.steps), recording.episodes[-1].number
    text = refused(capsys, "explain", run, "--steps", "900:910", "--out", out)
    assert f"has no such steps: there are {steps}, 0 to {steps - 1}" in text and not out.exists()
    assert f"it has 0 to {last}" in refused(capsys, "explain", run, "--episode", "77", "--out", out)
    assert not out.exists()


@pytest.mark.parametrize("form", ["mp4", "gif"])
def test_export_to_films(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, form: str) -> None:
    av = pytest.importorskip("av")
    said(capsys, "explain", run, "--out", tmp_path / "maps.mcap", "--method", "gradient", "--steps", "0:5")
    out = tmp_path / f"x.{form}"
    few = ("--episode", "1", "--height", "64", "--maps", tmp_path / "maps.mcap")
    assert "has maps of 0 of these" in said(capsys, "export", run, "--out", out, *few)
    with av.open(str(out)) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert {frame.shape for frame in frames} == {(64, 64, 3)} and len(frames) >= 12  # a GIF leaves out what is alike
    assert frames[0][24, 8].min() > 150 and frames[0][56, 60].max() < 60  # the square, the ground


def test_export_refuses_what_cannot_be(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("dear")
    assert "exists already" in refused(capsys, "export", run, "--out", tmp_path / "x.csv")
    assert "no format 'docx'" in refused(capsys, "export", run, "--out", tmp_path / "x.docx")
    assert "no such steps" in refused(capsys, "export", run, "--out", tmp_path / "z.csv", "--steps", "90:95")
    assert "cannot be written" in refused(capsys, "export", run, "--out", tmp_path / "no" / "z.csv")


@pytest.fixture
def agent() -> Iterator[FakeAgent]:
    agent = FakeAgent()
    yield agent
    agent.close()


def test_record_writes_a_live_stream_until_told_to_stop(agent: FakeAgent, tmp_path: Path) -> None:
    path = tmp_path / "live.mcap"
    command = [sys.executable, "-m", "agentwrap_viewer", "record", agent.endpoint, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        eventually(lambda: agent.watched)
        agent.play(100)
        eventually(lambda: path.exists() and len(steps_in(path)) > 20)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    with open_recording(path) as recording:
        count = len(recording.steps)
        assert recording.complete and f"{count:,} steps" in out and count > 20
        assert recording.array("step").tolist() == list(range(count)) and recording.env_id == "Fake/Drive-v0"
        assert recording.hello is not None and recording.hello.name == "fake"


def test_record_ends_with_the_stream(agent: FakeAgent, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "live.mcap"
    command = [sys.executable, "-m", "agentwrap_viewer", "record", agent.endpoint, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        eventually(lambda: agent.watched)
        for _ in range(5):
            agent.take_step()
        agent.close("done")
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "the stream ended" in out and "5 steps" in out
    assert "exists already" in refused(capsys, "record", "tcp://127.0.0.1:1", path)
    assert "is not an endpoint" in refused(capsys, "record", "nowhere", tmp_path / "new.mcap")
