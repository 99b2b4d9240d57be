"""The examples run as they stand, on a tiny budget."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from agentwrap.demo import load_policy
from agentwrap_viewer import open_recording

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run an example in a process of its own, on one thread, warnings being errors."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "BROWSER": "true"}
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stderr
    return result


def test_the_example_recording_can_be_made_anew(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "models", tmp_path / "models")
    run("record_enduro.py", "enduro.mcap", "--share", "0.02", cwd=tmp_path)
    with open_recording(tmp_path / "enduro.mcap") as recording:
        assert len(recording.steps) == 3 + 6 and recording.notes == []
        assert recording.weights(2).arrays and recording.name_of(1) == "enduro-novice"


def test_cartpole_trains_and_streams(tmp_path: Path) -> None:
    result = run("cartpole.py", "--episodes", "21", cwd=tmp_path)
    assert result.stdout.startswith("episode    0:")
    assert "episode   20:" in result.stdout
    assert "agentwrap view" in result.stderr


def test_a_policy_in_numpy_is_found(tmp_path: Path) -> None:
    result = run("numpy_policy.py", "--generations", "2", "--candidates", "4", cwd=tmp_path)
    assert "generation  1:" in result.stdout and "agentwrap view" in result.stderr


def test_a_table_is_learnt(tmp_path: Path) -> None:
    result = run("q_table.py", "--hands", "2000", cwd=tmp_path)
    assert "hand   2000:" in result.stdout and "agentwrap view" in result.stderr


def test_a_policy_in_jax_learns(tmp_path: Path) -> None:
    pytest.importorskip("jax", reason='the example needs pip install "agentwrap-rl[jax]"')
    result = run("jax_policy.py", "--episodes", "21", cwd=tmp_path)
    assert "episode  20:" in result.stdout and "agentwrap view" in result.stderr


def test_a_model_of_stable_baselines3_learns_and_acts(tmp_path: Path) -> None:
    result = run("sb3_learn.py", "--steps", "64", cwd=tmp_path)
    assert "steps of learning" in result.stdout
    assert result.stderr.count("agentwrap: streaming") == 2


def test_sac_learns_a_pendulum_and_acts(tmp_path: Path) -> None:
    result = run("sb3_pendulum.py", "--steps", "8", cwd=tmp_path)
    assert "after 8 steps of learning" in result.stdout
    assert result.stderr.count("agentwrap: streaming") == 2


def test_ppo_learns_atari_in_the_librarys_own_stack(tmp_path: Path) -> None:
    result = run("sb3_atari.py", "--games", "2", "--rollout", "4", "--steps", "8", cwd=tmp_path)
    assert "8 steps of learning" in result.stdout and "Enduro, learning" in result.stderr


def test_an_agent_like_cleanrls_learns(tmp_path: Path) -> None:
    result = run("cleanrl_ppo.py", "--steps", "1024", cwd=tmp_path)
    assert "update    1:" in result.stdout and "agentwrap view" in result.stderr


def test_a_q_network_like_cleanrls_learns(tmp_path: Path) -> None:
    result = run("cleanrl_dqn.py", "--steps", "1000", cwd=tmp_path)
    assert "epsilon 0.05" in result.stdout and "agentwrap view" in result.stderr


def test_a_recurrent_agent_like_cleanrls_learns(tmp_path: Path) -> None:
    result = run("cleanrl_ppo_lstm.py", "--steps", "1024", cwd=tmp_path)
    assert "update    1:" in result.stdout and "agentwrap view" in result.stderr


def test_a_recurrent_model_of_stable_baselines3_learns_and_acts(tmp_path: Path) -> None:
    result = run("sb3_recurrent.py", "--steps", "64", cwd=tmp_path)
    assert "steps of learning" in result.stdout
    assert result.stderr.count("agentwrap: streaming") == 2


def test_many_environments_learn_at_once(tmp_path: Path) -> None:
    result = run("vector.py", "--steps", "256", "--environments", "4", cwd=tmp_path)
    assert "update     0:" in result.stdout and "agentwrap view" in result.stderr


def test_an_actor_of_torchrl_learns(tmp_path: Path) -> None:
    result = run("torchrl_reinforce.py", "--episodes", "21", cwd=tmp_path)
    assert "episode   20:" in result.stdout and "agentwrap view" in result.stderr


def test_an_actor_of_torchrl_learns_behind_transforms(tmp_path: Path) -> None:
    result = run("torchrl_transforms.py", "--episodes", "21", cwd=tmp_path)
    assert "episode   20:" in result.stdout and "agentwrap view" in result.stderr


def test_a_gaussian_policy_learns_in_mujoco(tmp_path: Path) -> None:
    pytest.importorskip("mujoco", reason='the example needs pip install "gymnasium[mujoco]"')
    result = run("mujoco_pendulum.py", "--episodes", "16", cwd=tmp_path)
    assert "episode   15:" in result.stdout and "agentwrap view" in result.stderr


def test_a_policy_of_dict_observations_learns_in_minigrid(tmp_path: Path) -> None:
    result = run("minigrid_room.py", "--episodes", "8", cwd=tmp_path)
    assert "episode    7:" in result.stdout and "agentwrap view" in result.stderr


def test_train_atari_trains_and_saves_what_the_demo_can_load(tmp_path: Path) -> None:
    result = run("train_atari.py", "--games", "2", "--rollout", "8", "--steps", "32", cwd=tmp_path)
    assert "32 of 32 steps" in result.stdout
    policy = load_policy(tmp_path / "policy.safetensors")
    logits, value = policy(torch.zeros(3, 4, 84, 84, dtype=torch.uint8))
    assert logits.shape == (3, 9) and value.shape == (3, 1)


def test_train_atari_can_be_watched(tmp_path: Path) -> None:  # that its viewer ends with it, conftest.py sees to
    result = run("train_atari.py", "--games", "2", "--rollout", "8", "--steps", "32", "--view", cwd=tmp_path)
    assert "Enduro, learning" in result.stderr and "the viewer starts" in result.stderr


def test_train_atari_learns_from_what_it_collects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import train_atari

    rollout = train_atari.Rollout(length=3, games=1, device=torch.device("cpu"))
    rollout.rewards[:, 0] = torch.tensor([0.0, 1.0, 0.0])
    rollout.ends[:, 0] = torch.tensor([0.0, 1.0, 0.0])
    advantages = rollout.advantages(next_value=torch.tensor([2.0]))[:, 0]
    gamma, decay = train_atari.GAMMA, train_atari.GAMMA * train_atari.LAMBDA
    assert torch.allclose(advantages, torch.tensor([decay, 1.0, 2 * gamma]))  # nothing passes over the episode's end
