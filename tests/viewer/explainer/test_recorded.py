"""Explaining a recording's steps as they are asked for."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import hello
from recordings import record_cartpole

from agentwrap_protocol import decode
from agentwrap_protocol.messages import Configure, Evaluate, Explain, Outputs, SaliencyMap, Step
from agentwrap_viewer import open_recording
from agentwrap_viewer.explainer import offline, recorded
from agentwrap_viewer.explainer.recorded import RecordedEngine
from agentwrap_viewer.recording import Recording
from agentwrap_viewer.recording.writer import RecordingWriter
from agentwrap_viewer.saliency import SaliencyError

STREAM = "e" * 32


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    with open_recording(record_cartpole(tmp_path_factory.mktemp("recorded") / "run.mcap")) as opened:
        yield opened


@pytest.fixture
def engine(recording: Recording) -> RecordedEngine:
    return RecordedEngine(recording, STREAM, time.monotonic)


def request(step: Step, **fields: Any) -> Explain:
    return Explain(
        stream="1" * 32,
        source=fields.pop("source", step.stream),
        step=step.step,
        policy_version=fields.pop("policy_version", step.policy_version),
        whole=fields.pop("whole", False),
        arrays={name: array for name, array in step.arrays.items() if name != "frame"},
    )


def final(engine: RecordedEngine) -> SaliencyMap:
    found = None
    while engine.busy:
        found = engine.work() or found
    assert found is not None, engine.status()["problem"]
    return found


def test_each_step_is_explained_with_the_weights_it_was_made_with(recording: Recording, engine: RecordedEngine) -> None:
    offline._policy.cache_clear()
    task = {
        "path": str(recording.path),
        "version": None,
        "method": None,
        "options": {},
        "target": None,
        "device": "cpu",
    }
    for index in (10, 199, 60, 120, 10):
        step = recording.steps[index]
        engine.explain(request(step))
        found = final(engine)
        assert (found.step, found.policy_version, found.refined) == (step.step, step.policy_version, 1.0)
        assert found.replica_max_abs_diff is not None and found.replica_max_abs_diff < 1e-5
    expected = decode(offline.explain(task, [10])[0])
    assert isinstance(expected, SaliencyMap) and expected.options == found.options
    for name, array in expected.arrays.items():
        np.testing.assert_allclose(found.arrays[name], array, rtol=1e-5, err_msg=name)


def test_what_is_asked_for_last_comes_first(recording: Recording, engine: RecordedEngine) -> None:
    for index in (10, 20, 30):
        engine.explain(request(recording.steps[index]))
    assert final(engine).step == recording.steps[30].step


def test_other_settings_explain_the_last_step_anew(recording: Recording, engine: RecordedEngine) -> None:
    engine.explain(request(recording.steps[10]))
    assert final(engine).method == "feature_perturbation"
    engine.configure(Configure(stream="1" * 32, method="gradient"))
    again = final(engine)
    assert (again.method, again.step) == ("gradient", recording.steps[10].step)


def test_a_version_that_was_not_recorded_says_so_and_the_next_step_is_explained(
    recording: Recording, engine: RecordedEngine
) -> None:
    engine.explain(request(recording.steps[10], policy_version=77))
    while engine.busy:
        assert engine.work() is None
    status = engine.status()
    assert status["state"] == "unable" and "no version 77" in status["problem"]
    engine.explain(request(recording.steps[60]))
    assert final(engine).policy_version == recording.steps[60].policy_version
    assert engine.status()["state"] == "ready"


def test_other_streams_and_agents_are_refused(recording: Recording, engine: RecordedEngine) -> None:
    with pytest.raises(SaliencyError, match="not in this recording"):
        engine.explain(request(recording.steps[10], source="a" * 32))
    with pytest.raises(SaliencyError, match="cannot follow"):
        engine.configure(Configure(stream="1" * 32, source="tcp://127.0.0.1:5590"), anew=True)


def test_it_never_asks_the_agent_that_streamed_then(recording: Recording, engine: RecordedEngine) -> None:
    assert engine.hello is not None and engine.hello.control is None and not engine.resend
    engine.advance()
    assert engine.status()["state"] == "ready"


def test_a_recording_without_a_policy_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.mcap"
    RecordingWriter(path, hello()).close()
    with open_recording(path) as recording, pytest.raises(SaliencyError, match="no policy"):
        RecordedEngine(recording, STREAM, time.monotonic)


def test_weights_that_do_not_lie_beside_a_recording_are_missed_in_words(tmp_path: Path) -> None:
    examples = Path(__file__).parents[3] / "examples"
    path = shutil.copy(examples / "enduro.mcap", tmp_path)
    with open_recording(path) as recording:
        status = RecordedEngine(recording, STREAM, time.monotonic).status()
        assert status["state"] == "unable" and "put enduro-novice.safetensors at" in status["problem"]
        (tmp_path / "models").mkdir()
        shutil.copy(examples / "models" / "enduro-expert.safetensors", tmp_path / "models")
        engine = RecordedEngine(recording, STREAM, time.monotonic)
        assert engine.status()["state"] == "ready"
        engine.explain(request(recording.steps[0]))
        while engine.busy:
            assert engine.work() is None
        assert "at step 0" in engine.status()["problem"]
        engine.configure(Configure(stream="1" * 32, method="gradient"))
        engine.explain(request(recording.steps[-1]))
        assert final(engine).policy_version == recording.steps[-1].policy_version


def test_versions_of_one_step_are_explained_side_by_side(recording: Recording, engine: RecordedEngine) -> None:
    step = recording.steps[10]
    for version in (1, 4):
        engine.explain(request(step, policy_version=version))
    found: dict[int, SaliencyMap] = {}
    order = []
    while engine.busy:
        message = engine.work()
        if isinstance(message, SaliencyMap):
            order.append(message.policy_version)
            found[message.policy_version] = message
    assert set(order[:2]) == {1, 4}, "both get a coarse map before one is refined"
    assert {version: each.refined for version, each in found.items()} == {1: 1.0, 4: 1.0}
    assert found[1].replica_max_abs_diff == pytest.approx(0, abs=1e-5)
    assert found[4].replica_max_abs_diff == pytest.approx(3, abs=1e-4)  # the critic's bias grew by 1 three times
    engine.explain(request(recording.steps[20], policy_version=1))
    assert final(engine).step == recording.steps[20].step


def test_a_whole_request_is_not_replaced_and_keeps_its_policy(
    recording: Recording, engine: RecordedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded, "POLICIES", 1)  # each version but the last would be given other weights
    pinned, shown = recording.steps[10], recording.steps[160]
    engine.explain(request(shown))
    assert not engine.busy or engine.work() is not None  # under way with its own version
    for version in (1, 2, 3):
        engine.explain(request(pinned, policy_version=version, whole=True))
    engine.explain(request(recording.steps[161]))
    engine.explain(request(recording.steps[162]))
    found: dict[tuple[int, int], SaliencyMap] = {}
    while engine.busy:
        message = engine.work()
        if isinstance(message, SaliencyMap):
            found[message.step, message.policy_version] = message
    for version in (1, 2, 3):
        own = found[pinned.step, version]
        assert own.refined == 1
        value, recorded_value = own.arrays["output/value"], pinned.arrays["output/value"].reshape(-1)
        np.testing.assert_allclose(value, recorded_value + version - 1, rtol=1e-5)
    assert found[recording.steps[162].step, 4].refined == 1
    assert all(each.replica_max_abs_diff < 1e-5 for (_, version), each in found.items() if version == 4)


def test_outputs_of_steps_are_what_each_version_computes(recording: Recording, engine: RecordedEngine) -> None:
    steps = [recording.steps[index] for index in (150, 3, 4)]
    numbers = np.array([*(step.step for step in steps), 10**6], np.int64)
    source = steps[0].stream
    engine.evaluate(Evaluate(stream="1" * 32, source=source, policy_versions=(1, 3), arrays={"step": numbers}))
    engine.explain(request(steps[0]))
    values, maps = {}, 0
    while engine.busy:
        message = engine.work()
        if isinstance(message, Outputs):
            values[message.policy_version] = message.arrays["output/value"].reshape(-1)
            assert message.arrays["step"].tolist() == numbers[:3].tolist(), "a step that was not recorded is left out"
        maps += isinstance(message, SaliencyMap)
    assert maps and set(values) == {1, 3}
    np.testing.assert_allclose(values[3] - values[1], 2.0, rtol=1e-5)
    own = {1: 0, 3: 2}
    for version, index in ((1, 1), (1, 2)):
        recorded = steps[index].arrays["output/value"].reshape(-1)[0]
        np.testing.assert_allclose(values[version][index] - own[version], recorded, rtol=1e-5)


def test_outputs_of_unknown_versions_are_refused_in_words(recording: Recording, engine: RecordedEngine) -> None:
    asked = Evaluate(stream="1" * 32, source=recording.steps[0].stream, policy_versions=(9,))
    with pytest.raises(SaliencyError, match="no version 9 of the policy; there is 1 to 4"):
        engine.evaluate(asked)
    with pytest.raises(SaliencyError, match="not in this recording"):
        engine.evaluate(Evaluate(stream="1" * 32, source="a" * 32, policy_versions=(1,)))
