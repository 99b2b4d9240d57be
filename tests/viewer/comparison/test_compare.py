"""The library's comparison, against torch run directly on the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from recordings import Policy, record_cartpole
from safetensors.torch import save_file

from agentwrap_viewer import compare, open_recording
from agentwrap_viewer.recording import RecordingError
from agentwrap_viewer.recording.policies import ADDED


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_cartpole(tmp_path_factory.mktemp("compare") / "run.mcap")


def saved(path: Path, seed: int) -> Policy:
    torch.manual_seed(seed)
    policy = Policy()
    with torch.no_grad():
        for layer in (policy.trunk, policy.actor):  # then which action is best depends on the observation
            layer.bias.zero_()
    save_file(policy.state_dict(), path)
    return policy


def test_two_files_of_weights_are_compared_as_torch_computes_them(run: Path, tmp_path: Path) -> None:
    modules = saved(tmp_path / "novice.safetensors", 1), saved(tmp_path / "expert.safetensors", 2)
    with open_recording(run) as recording:
        found = compare(
            recording, tmp_path / "novice.safetensors", str(tmp_path / "expert.safetensors"), start=20, stop=120
        )
        observations = torch.from_numpy(recording.observations(20, 120))
        assert found.names == ("novice", "expert") and found.versions == (ADDED, ADDED + 1) and not found.maps
        assert found.steps.tolist() == recording.array("step", 20, 120).tolist()
    with torch.no_grad():
        results = [module(observations) for module in modules]
    for (logits, value), outputs in zip(results, found.outputs, strict=True):
        np.testing.assert_allclose(outputs["logits"], logits, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(outputs["value"], value[:, 0], rtol=1e-4, atol=1e-5)
    left, right = (logits.softmax(1) for logits, _ in results)
    np.testing.assert_allclose(found.apart.distance, (left - right).abs().sum(1) / 2, atol=1e-5)
    assert found.apart.disagree.tolist() == (left.argmax(1) != right.argmax(1)).tolist()
    assert 0 < found.apart.disagree.sum() < 100


def test_versions_of_the_recording_are_compared_with_their_maps(run: Path) -> None:
    with open_recording(run) as recording:
        found = compare(recording, 1, 4, start=-3, maps=True, method="gradient")
    np.testing.assert_allclose(found.outputs[1]["value"] - found.outputs[0]["value"], 3.0, rtol=1e-5)
    assert not found.apart.distance.any(), "the critic alone has learned"
    assert len(found.maps) == 3
    for index, (left, right) in enumerate(found.maps):
        assert (left.policy_version, right.policy_version, left.refined) == (1, 4, 1.0)
        assert left.step == right.step == found.steps[index]
        difference = found.difference(index)
        assert difference and all(np.abs(array).max() < 1e-5 for array in difference.values())


def test_what_cannot_be_compared_is_said_in_words(run: Path, tmp_path: Path) -> None:
    with open_recording(run) as recording:
        with pytest.raises(RecordingError, match="no version 17 of the policy; it has 1 to 4"):
            compare(recording, 3, 17)
        with pytest.raises(RecordingError, match="nothing to compare"):
            compare(recording, 1, 2, start=500)
        save_file({"trunk.weight": torch.zeros(3)}, tmp_path / "small.safetensors")
        with pytest.raises(RecordingError, match="another architecture"):
            compare(recording, 1, tmp_path / "small.safetensors")
