from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from listener import Listener, eventually
from sb3_models import Pictures, make
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack, VecNormalize

from agentwrap.callbacks import InterpretCallback
from agentwrap_protocol.messages import EpisodeEnd, PolicyGraph, Step, Weights
from agentwrap_viewer.replica import Replica


def normalized() -> Any:
    stack = VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")] * 3))
    return make(PPO, stack, n_steps=16, batch_size=3, n_epochs=1)


def stacked() -> Any:
    stack = VecFrameStack(DummyVecEnv([lambda: Pictures(1)] * 2), 4)
    return make(PPO, stack, "CnnPolicy", n_steps=8, batch_size=4, n_epochs=1)


def off_policy() -> Any:
    return make(DQN, gym.make("CartPole-v1"), learning_starts=5, train_freq=4, batch_size=1, buffer_size=100)


class Watched(InterpretCallback):
    """Begins when somebody listens."""

    listener: Listener

    def _on_training_start(self) -> None:
        super()._on_training_start()
        assert self.env is not None
        self.listener = Listener(self.env.endpoint)
        publisher = self.env._stream.publisher
        eventually(lambda: publisher.watched and publisher.wants("policy_graph"))

    def _on_step(self) -> bool:
        publisher = self.env._stream.publisher
        eventually(lambda: not publisher._outbox)  # else newer weights take the place of others
        return super()._on_step()


@pytest.fixture
def callback() -> Iterator[Watched]:
    callback = Watched(quiet=True, strict=True, fps=1e6, weights_every=1e-6)
    yield callback
    callback._on_training_end()
    callback.listener.close()


@pytest.mark.parametrize("model, shape", [(normalized, (4,)), (stacked, (36, 36, 4)), (off_policy, (4,))])
def test_what_is_streamed_is_what_the_library_computed(
    model: Callable[[], Any], shape: tuple[int, ...], callback: Watched
) -> None:
    made = model()
    made.learn(30, callback=callback)
    steps = eventually(lambda: callback.listener.of(Step) if len(callback.listener.of(Step)) > 8 else None)
    graph = callback.listener.wait(PolicyGraph)
    weights = {each.policy_version: each for each in callback.listener.of(Weights)}
    compared = 0
    for step in steps:
        assert step.arrays["observation"].shape == shape
        outputs = {key.removeprefix("output/"): a for key, a in step.arrays.items() if key.startswith("output/")}
        if not outputs or step.policy_stale or step.policy_version not in weights:
            continue  # DQN takes some actions at random
        replica = Replica.from_messages(graph, weights[step.policy_version])
        computed = replica(replica.inputs_from_step(step.arrays))
        for name, array in outputs.items():
            assert np.allclose(computed[name][0].numpy().reshape(array.shape), array, atol=1e-4), name
        compared += 1
    assert compared > 3


def test_episodes_end_where_the_environments_do(callback: Watched) -> None:
    model = normalized()
    model.learn(150, callback=callback)
    ends = eventually(lambda: callback.listener.of(EpisodeEnd))
    recorded = [episode for episode in model.ep_info_buffer]
    assert ends[0].reason == "terminated" and ends[0].episode_return == ends[0].length
    assert not recorded or ends[0].length in [episode["l"] for episode in recorded]


@pytest.mark.parametrize("model", [normalized, off_policy])
def test_learning_is_the_same_with_and_without(model: Callable[[], Any], callback: Watched) -> None:
    watched, alone = model(), model()
    for made, options in ((watched, {"callback": callback}), (alone, {})):
        made.set_random_seed(3)
        torch.manual_seed(3)
        made.learn(24, **options)
    pairs = zip(watched.policy.state_dict().items(), alone.policy.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for (_, one), other in pairs)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in watched.policy.modules())
    inner = watched.env
    while hasattr(inner, "venv"):
        assert not {"step_async", "step_wait", "reset"} & vars(inner).keys()
        inner = inner.venv


def test_environments_in_other_processes_are_shown_with_their_picture(callback: Watched) -> None:
    """Theirs is asked for before they step: afterwards they would be busy."""
    stack = SubprocVecEnv([lambda: Pictures(1, render_mode="rgb_array")] * 2, start_method="spawn")
    try:
        model = make(PPO, stack, "CnnPolicy", n_steps=8, batch_size=16, n_epochs=1)
        model.learn(16, callback=callback)
    finally:
        stack.close()
    steps = eventually(lambda: callback.listener.of(Step))
    assert np.array_equal(steps[-1].arrays["frame"][..., :1], steps[-1].arrays["observation"])
    assert "output/logits" in steps[-1].arrays


def test_names_of_the_environment_are_found() -> None:
    class Names(InterpretCallback):
        def _on_training_start(self) -> None:
            super()._on_training_start()
            assert self.env is not None
            found.append(self.env._stream._identity.action_meanings)

    pytest.importorskip("mujoco")
    found: list[Any] = []
    model = make(PPO, gym.make("HalfCheetah-v5"), n_steps=2, batch_size=2, n_epochs=1)
    model.learn(2, callback=Names(quiet=True, strict=True))
    assert found == [("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot")]
