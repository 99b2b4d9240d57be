"""``InterpretWrapper(env, policy, record=…)``: every step is in the file as it happened, whoever watches."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from listener import Listener
from mcap.reader import make_reader
from recordings import messages_in, steps_in

from agentwrap import AgentwrapWarning, InterpretWrapper, RecordingError, recorder
from agentwrap_protocol.messages import EpisodeEnd, Heartbeat, Hello, PolicyGraph, Step, Weights


class Witness(gym.Wrapper[Any, Any, Any, Any]):
    """Notes what goes through, as it is at that moment."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.seen: list[tuple[Any, Any, Any]] = []
        self._observation: Any = None

    def reset(self, **options: Any) -> Any:
        self._observation, info = self.env.reset(**options)
        return self._observation, info

    def step(self, action: Any) -> Any:
        before = np.array(self._observation)
        picture = np.array(self.env.render()) if self.render_mode else None
        result = self.env.step(action)
        self._observation = result[0]
        self.seen.append((before, picture, result[1]))
        return result


def test_every_step_is_recorded_with_what_the_policy_computed(
    wrap: Any, policy: Any, agent: Any, tmp_path: Path
) -> None:
    path, witness = tmp_path / "run.mcap", Witness(gym.make("CartPole-v1"))
    env = wrap(policy, witness, record=path)
    player = agent(env, policy)
    for _ in range(120):
        player.step()
    env.close()
    steps, messages = steps_in(path), messages_in(path)
    assert [each.step for each in steps] == list(range(120))
    for each, (observation, _, reward) in zip(steps, witness.seen, strict=True):
        assert each.arrays["observation"].tobytes() == observation.tobytes()
        assert each.arrays["rewards"].tolist() == [reward] == [each.reward]
        assert each.policy_version == 1
        with torch.no_grad():
            logits, value = policy(torch.as_tensor(observation)[None])
        assert each.arrays["output/logits"].tobytes() == logits[0].numpy().tobytes()
        assert each.arrays["output/value"] == value.item()
        assert each.arrays["output/latent"].shape == (16,)
    kinds = [type(message) for message in messages]
    assert kinds.index(PolicyGraph) < kinds.index(Weights) < kinds.index(Step)
    ends = [message for message in messages if isinstance(message, EpisodeEnd)]
    assert sum(end.length for end in ends) == 120 and ends[-1].reason == "closed"
    hellos = [message for message in messages if isinstance(message, Hello)]
    assert hellos[0].env_id == "CartPole-v1" and hellos[-1].policy.graph == "exported"
    assert len({message.stream for message in messages}) == 1


def test_the_seed_of_a_reset_is_recorded(wrap: Any, policy: Any, tmp_path: Path) -> None:
    env = wrap(policy, record=tmp_path / "run.mcap")
    env.reset(seed=7)
    env.step(0)
    env.reset()
    env.close()
    reader = make_reader(io.BytesIO((tmp_path / "run.mcap").read_bytes()))
    assert [each.metadata for each in reader.iter_metadata() if each.name == "agentwrap.seed"] == [
        {"episode": "0", "seed": "7"}
    ]


def test_one_step_in_so_many_is_recorded_and_no_reward_is_lost(
    wrap: Any, policy: Any, agent: Any, tmp_path: Path
) -> None:
    env = wrap(policy, record=tmp_path / "run.mcap", record_every=7)
    player = agent(env, policy)
    for _ in range(100):
        player.step()
    env.close()
    steps = steps_in(tmp_path / "run.mcap")
    assert [each.step for each in steps] == list(range(0, 100, 7))
    assert [len(each.arrays["rewards"]) for each in steps] == [1, *[7] * 14]
    assert all("output/latent" in each.arrays for each in steps)


def test_each_version_of_the_weights_is_recorded_before_the_step_it_was_used_for(
    wrap: Any, policy: Any, agent: Any, tmp_path: Path
) -> None:
    env = wrap(policy, record=tmp_path / "run.mcap", weights_every=1e-9)
    player = agent(env, policy)
    for _ in range(20):
        player.step()
        with torch.no_grad():
            policy.actor.bias.add_(0.1)
    env.close()
    known, biases = 0, []
    for message in messages_in(tmp_path / "run.mcap"):
        if isinstance(message, Weights):
            known = message.policy_version
            biases.append(float(message.arrays["weight/actor.bias"][0]))
        if isinstance(message, Step):
            assert message.policy_version == known == message.step + 1
    assert len(biases) == 20 and np.allclose(np.diff(biases), 0.1, atol=1e-5)


def test_what_is_sent_live_stays_sampled_and_counts_its_own_rewards(
    wrap: Any, listen: Any, policy: Any, agent: Any, tmp_path: Path
) -> None:
    env = wrap(policy, record=tmp_path / "run.mcap", fps=0.001)
    player = agent(env, policy)
    for _ in range(5):
        player.step()
    listener = listen(env, "step", "hello")
    for _ in range(30):
        player.step()
    live = listener.wait(Step, lambda step: step.seq == 0)
    assert live.step >= 5 and live.arrays["rewards"].size == 1
    env.close()
    assert len(steps_in(tmp_path / "run.mcap")) == 35
    assert len(listener.of(Step)) <= 2  # the first, and perhaps one episode's last


def test_a_viewer_that_comes_later_gets_the_policy_that_was_exported_for_the_recording(
    wrap: Any, listen: Any, policy: Any, agent: Any, tmp_path: Path
) -> None:
    env = wrap(policy, record=tmp_path / "run.mcap")
    player = agent(env, policy)
    for _ in range(3):
        player.step()
    listener = listen(env, "policy_graph", "weights", "hello")
    assert listener.wait(Weights).policy_version == 1
    assert listener.wait(PolicyGraph).graph.outputs


def test_enduro_comes_back_bit_for_bit(wrap: Any, tmp_path: Path) -> None:
    demo = pytest.importorskip("agentwrap.demo")
    policy = demo.load_policy(demo.models_directory() / "enduro-novice.safetensors")
    witness = Witness(demo.make_enduro())
    env = wrap(policy, witness, record=tmp_path / "run.mcap")
    demo.play(env, policy, steps=150, speed=0, seed=3)
    env.close()
    steps = steps_in(tmp_path / "run.mcap")
    assert [each.step for each in steps] == list(range(150))
    for each, (observation, picture, _) in zip(steps, witness.seen, strict=True):
        assert each.arrays["observation"].dtype == observation.dtype and each.arrays["frame"].shape == (210, 160, 3)
        assert each.arrays["observation"].tobytes() == observation.tobytes()
        assert each.arrays["frame"].tobytes() == picture.tobytes()


def test_a_disk_that_fills_up_warns_once_and_the_agent_goes_on(
    wrap: Any, policy: Any, agent: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = wrap(policy, record=tmp_path / "run.mcap", strict=False)
    player = agent(env, policy)
    for _ in range(10):
        player.step()

    def full(file: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recorder.os, "write", full)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(200):
            player.step()
        assert env.recorder is not None
        env.recorder._thread.join()
        for _ in range(50):
            player.step()
        env.close()
    said = [str(each.message) for each in caught if issubclass(each.category, AgentwrapWarning)]
    assert len(said) == 1 and "No space left on device" in said[0] and "is kept" in said[0]


def test_a_file_that_cannot_be_recorded_to_is_refused_before_anything_begins(policy: Any, tmp_path: Path) -> None:
    (tmp_path / "run.mcap").write_text("dear")
    with pytest.raises(RecordingError, match="exists already"):
        InterpretWrapper(gym.make("CartPole-v1"), policy, record=tmp_path / "run.mcap", quiet=True)
    with pytest.raises(ValueError, match="record_every"):
        InterpretWrapper(gym.make("CartPole-v1"), policy, record=tmp_path / "new.mcap", record_every=0, quiet=True)
    assert not (tmp_path / "new.mcap").exists()


def test_how_it_went_is_said_unless_quiet(
    policy: Any, tmp_path: Path, wrap: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    env = wrap(policy, record=tmp_path / "run.mcap", quiet=False)
    env.reset(seed=0)
    env.step(0)
    env.close()
    assert "recorded 1 step and 1 episode to" in capsys.readouterr().err


def test_heartbeats_say_what_is_recorded_and_how_long_the_agent_waited(
    wrap: Any, policy: Any, agent: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = wrap(policy, gym.make("CartPole-v1"), record=tmp_path / "run.mcap")
    player, listener = agent(env, policy), Listener(env.endpoint, Heartbeat.kind)
    try:
        for _ in range(50):
            player.step()
        assert listener.wait(Heartbeat, lambda beat: beat.recorded == 50).recording_wait == 0
        monkeypatch.setattr(env.recorder, "_waited", 2.5)
        assert listener.wait(Heartbeat, lambda beat: beat.recording_wait > 0).recording_wait == 2.5
    finally:
        listener.close()
