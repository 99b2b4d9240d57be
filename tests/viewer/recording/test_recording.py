"""What was recorded comes back, by number and by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import hello, step
from recordings import messages_in

from agentwrap_protocol.messages import Step, Weights
from agentwrap_viewer import open_recording
from agentwrap_viewer.recording import RecordingError

from .conftest import STEPS, encoded


def assert_same(found: Step, wanted: Step) -> None:
    assert found.step == wanted.step and found.arrays.keys() == wanted.arrays.keys()
    for name, array in wanted.arrays.items():
        assert found.arrays[name].dtype == array.dtype and found.arrays[name].tobytes() == array.tobytes()


def test_steps_are_a_sequence(pictures: Path) -> None:
    with open_recording(pictures) as recording:
        assert len(recording.steps) == STEPS and recording.complete and recording.notes == []
        for number in (0, 1, 1023, 1024, 777, STEPS - 1):
            assert_same(recording.steps[number], step(number))
        assert recording.steps[-1].step == STEPS - 1
        assert [each.step for each in recording.steps[10:20:3]] == [10, 13, 16, 19]
        assert recording.steps[10:20][-1].step == 19
        for index in (STEPS, -STEPS - 1):
            with pytest.raises(IndexError, match=f"no step at {index:,}: there are {STEPS:,}, counted from 0"):
                recording.steps[index]


def test_arrays_of_many_steps_at_once(pictures: Path) -> None:
    with open_recording(pictures) as recording:
        assert recording.array("reward").tolist() == [float(n % 10 == 0) for n in range(STEPS)]
        assert recording.array("step", 1000, 1100).tolist() == list(range(1000, 1100))
        assert recording.array("value").shape == (STEPS,) and recording.array("logits", -3).shape == (3, 9)
        assert recording.array("action", 3, 5).tolist() == [3, 4]
        assert recording.array("frame", 5, 7).shape == (2, 210, 160, 3)  # not in the index: too large
        assert recording.observations(1022, 1026)[:, 0, 0, 0].tolist() == [n % 251 for n in range(1022, 1026)]
        assert recording.array("reward", 7, 7).size == 0
        assert "output/value" in recording.columns and "frame" not in recording.columns
        with pytest.raises(RecordingError, match="have no 'speed'; they have action, .*observation"):
            recording.array("speed")


def test_episodes(pictures: Path) -> None:
    with open_recording(pictures) as recording:
        episodes = recording.episodes
        assert [(each.start, each.stop) for each in episodes] == [(n, n + 100) for n in range(0, STEPS, 100)]
        assert {(each.length, each.episode_return, each.seconds, each.reason) for each in episodes} == {
            (100, 9.0, 1.5, "terminated")
        }
        assert recording.index_of(1234) == 1234


def test_an_episode_that_has_not_ended_is_one_too(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    path.write_bytes(encoded([hello(), step(0), step(1)]))
    with open_recording(path) as recording:
        (episode,) = recording.episodes
        assert (episode.start, episode.stop, episode.length, episode.reason) == (0, 2, None, None)


def test_the_policy_of_each_version_runs(cartpole: Path) -> None:
    with open_recording(cartpole) as recording:
        assert recording.versions == [1, 2, 3, 4] and recording.seed == 11 and recording.env_id == "CartPole-v1"
        for index in (0, 49, 50, 120, 199):
            taken = recording.steps[index]
            assert taken.policy_version == 1 + index // 50
            replica = recording.policy(taken.policy_version)
            value = replica(replica.inputs_from_step(taken.arrays))["value"]
            assert value.item() == pytest.approx(float(taken.arrays["output/value"]), abs=1e-5)
        first, last = recording.policy(1), recording.policy()
        inputs = first.inputs_from_step(recording.steps[0].arrays)
        assert (last(inputs)["value"] - first(inputs)["value"]).item() == pytest.approx(3.0, abs=1e-4)
        with pytest.raises(RecordingError, match="no version 9 of the policy; it has 1 to 4"):
            recording.policy(9)


def test_a_recorded_run_comes_back_whole(cartpole: Path) -> None:
    reference = messages_in(cartpole)
    with open_recording(cartpole) as recording:
        for found, wanted in zip(recording.steps, (m for m in reference if isinstance(m, Step)), strict=True):
            assert_same(found, wanted)
        assert sum(episode.length or 0 for episode in recording.episodes) == 200
        weights = [message for message in reference if isinstance(message, Weights)]
        for version, wanted_weights in enumerate(weights, 1):
            for name, array in wanted_weights.arrays.items():
                np.testing.assert_array_equal(recording.weights(version).arrays[name], array)
        assert recording.hello is not None and recording.hello.policy.graph == "exported"
        assert torch.as_tensor(np.array(recording.observations(0, 5))).shape == (5, 4)


def test_outputs_of_steps_without_a_call_are_nan_and_changing_shapes_are_said(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    called = {"output/value": np.float32(2.0), "observation": np.zeros(3)}
    path.write_bytes(
        encoded([hello(), step(0, arrays=called), step(1, arrays={"observation": np.zeros(4)}), step(2, arrays=called)])
    )
    with open_recording(path) as recording:
        np.testing.assert_array_equal(recording.array("value"), np.float32([2.0, np.nan, 2.0]))
        with pytest.raises(RecordingError, match="same shape"):
            recording.observations()


def test_observations_of_dicts_come_by_key(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    arrays = {"observation/position": np.zeros(3), "observation/image": np.zeros((8, 8), np.uint8)}
    path.write_bytes(encoded([hello(), step(0, arrays=arrays), step(1, arrays=arrays)]))
    with open_recording(path) as recording:
        found = recording.observations()
        assert isinstance(found, dict)
        assert {name: array.shape for name, array in found.items()} == {"position": (2, 3), "image": (2, 8, 8)}


def test_an_empty_recording_has_no_steps_and_no_policy(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    path.write_bytes(encoded([]))
    with open_recording(path) as recording:
        assert len(recording.steps) == 0 and recording.episodes == [] and recording.complete
        assert recording.array("reward").size == 0 and len(recording.observations()) == 0
        assert recording.hello is None and recording.explained == {}
        with pytest.raises(RecordingError, match="holds no policy"):
            recording.policy()
