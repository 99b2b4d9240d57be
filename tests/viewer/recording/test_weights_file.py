"""Versions of a policy that lie in files: added to a recording, or kept beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from recordings import Policy, record_cartpole
from safetensors.torch import save_file

from agentwrap_protocol.mcap_encoder import BESIDE
from agentwrap_protocol.messages import EpisodeEnd, Weights
from agentwrap_viewer.recording import Recording, RecordingError, open_recording, weights_file
from agentwrap_viewer.recording.policies import listed
from agentwrap_viewer.recording.writer import RecordingWriter


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_cartpole(tmp_path_factory.mktemp("weights") / "run.mcap")


@pytest.fixture
def recording(run: Path) -> Iterator[Recording]:
    with open_recording(run) as opened:
        yield opened


def other(path: Path, **more: torch.Tensor) -> Policy:
    """Save a policy of the same architecture, in half precision; what it computes are floats of these."""
    torch.manual_seed(7)
    policy = Policy()
    state = {name: tensor.half() for name, tensor in policy.state_dict().items()}
    save_file({**state, **more}, path)
    policy.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return policy


def test_added_weights_are_a_version_more(recording: Recording, tmp_path: Path) -> None:
    policy = other(tmp_path / "other.safetensors")
    version = recording.add_weights(tmp_path / "other.safetensors")
    assert version > 4 and recording.versions == [1, 2, 3, 4, version]
    assert (recording.name_of(version), recording.name_of(3)) == ("other", "version 3")
    arrays = recording.steps[20].arrays
    replica = recording.policy(version)
    with torch.no_grad():
        logits, value = policy(torch.from_numpy(np.array(arrays["observation"]))[None])
    found = replica(replica.inputs_from_step(arrays))
    torch.testing.assert_close(found["logits"], logits)
    torch.testing.assert_close(found["value"], value[0])
    assert recording.weights().policy_version == 4, "the last one that was recorded"


def test_tensors_that_the_policy_does_not_compute_with_are_told(recording: Recording, tmp_path: Path) -> None:
    other(tmp_path / "more.safetensors", unused=torch.zeros(3))
    recording.add_weights(tmp_path / "more.safetensors")
    assert any("more.safetensors" in note and "unused" in note for note in recording.notes)


def test_bad_files_are_refused_in_words(recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bad.safetensors"
    with pytest.raises(RecordingError, match="bad.safetensors cannot be read: No such file"):
        recording.add_weights(path)
    with pytest.raises(RecordingError, match="is a directory"):
        recording.add_weights(tmp_path)
    for content in (b"", b"PK\x03\x04 a checkpoint of another kind", b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(RecordingError, match="is not a safetensors file"):
            recording.add_weights(path)
    state = Policy().state_dict()
    save_file({**state, "trunk.weight": torch.zeros(16, 4)}, path)
    with pytest.raises(RecordingError, match=r"trunk.weight has shape \(16, 4\) there, \(8, 4\) in the recording"):
        recording.add_weights(path)
    save_file({"conv.weight": torch.zeros(1), **{name: state[name] for name in state if "critic" not in name}}, path)
    with pytest.raises(RecordingError, match=r"lacks critic.bias, critic.weight; it has actor.bias.*conv.weight"):
        recording.add_weights(path)
    save_file({name: tensor.bfloat16() for name, tensor in state.items()}, path)
    with pytest.raises(RecordingError, match="type that is not read here, save float32"):
        recording.add_weights(path)
    monkeypatch.setattr(weights_file, "MOST_BYTES", 10)
    with pytest.raises(RecordingError, match="bytes; a file of weights may have 10"):
        recording.add_weights(path)
    assert recording.versions == [1, 2, 3, 4]


def beside(run: Path, folder: Path, **said: str) -> Path:
    """Copy a recording but for the weights of its first version, which lie beside the copy."""
    path, weights = folder / "slim.mcap", folder / "first.safetensors"
    with open_recording(run) as full:
        arrays = full.weights(1).arrays
        state = {name.removeprefix("weight/"): torch.from_numpy(array.copy()) for name, array in arrays.items()}
        save_file(state, weights)
        assert full.hello is not None
        with RecordingWriter(path, full.hello) as writer:
            digest = hashlib.sha256(weights.read_bytes()).hexdigest()
            entries = {"policy_version": "1", "file": weights.name, "sha256": digest, **said}
            writer.add(full.graph(1), renumber=True)
            writer.add(msgspec.structs.replace(full.weights(1), arrays={}), renumber=True)
            writer.add(full.weights(2), renumber=True)
            writer.add_metadata(BESIDE, entries)
            for step in full.steps:
                writer.add(step, renumber=True)
    return path


def test_weights_beside_a_recording_are_those_it_was_made_with(run: Path, tmp_path: Path, recording: Recording) -> None:
    with open_recording(beside(run, tmp_path)) as slim:
        assert slim.versions == [1, 2] and slim.name_of(1) == "first"
        for version in (1, 2):
            found, expected = slim.weights(version), recording.weights(version)
            assert isinstance(found, Weights) and found.policy_version == version
            assert found.arrays.keys() == expected.arrays.keys()
            for name, array in expected.arrays.items():
                np.testing.assert_array_equal(found.arrays[name], array)
        arrays = slim.steps[3].arrays
        replica = slim.policy(1)
        value = replica(replica.inputs_from_step(arrays))["value"]
        np.testing.assert_allclose(value, arrays["output/value"].reshape(-1), rtol=1e-5)


@pytest.mark.parametrize("file", ["../first.safetensors", "/etc/passwd", "a/../../b", "C:weights", "..\\b", ""])
def test_a_recording_names_no_file_outside_its_folder(run: Path, tmp_path: Path, file: str) -> None:
    with open_recording(beside(run, tmp_path, file=file)) as slim, pytest.raises(RecordingError, match="not below"):
        slim.weights(1)


def test_another_file_in_its_place_is_refused(run: Path, tmp_path: Path) -> None:
    with open_recording(beside(run, tmp_path)) as slim:
        other(tmp_path / "first.safetensors")
        with pytest.raises(RecordingError, match="it has changed"):
            slim.weights(1)
        (tmp_path / "first.safetensors").unlink()
        with pytest.raises(RecordingError, match="not there: put first.safetensors"):
            slim.weights(1)


def test_versions_are_listed_for_people(recording: Recording) -> None:
    assert [listed(versions) for versions in ([4], [1, 2], [3, 4, 5], [1, 3, 9])] == [
        "4",
        "1 and 2",
        "3 to 5",
        "1, 3 and 9",
    ]
    assert listed(range(0, 60, 2)).endswith("20, … 58")
    with pytest.raises(RecordingError, match="no version 17 of the policy; it has 1 to 4"):
        recording.policy(17)


def test_a_recording_without_a_policy_cannot_be_given_one(run: Path, tmp_path: Path) -> None:
    other(tmp_path / "other.safetensors")
    with open_recording(run) as full:
        assert full.hello is not None
        with RecordingWriter(tmp_path / "none.mcap", full.hello) as writer:
            writer.add(full.steps[0])
            end = EpisodeEnd(
                stream=full.hello.stream, episode=0, step=0, length=1, episode_return=0, seconds=0, reason="reset"
            )
            writer.add(end)
    with open_recording(tmp_path / "none.mcap") as bare, pytest.raises(RecordingError, match="holds no policy"):
        bare.add_weights(tmp_path / "other.safetensors")
