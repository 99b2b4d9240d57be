"""The wrapper around a real game, with a network as people train them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import ale_py
import gymnasium as gym
import numpy as np
import pytest
import torch
from listener import Listener
from networks import EnduroNature

from agentwrap import InterpretWrapper
from agentwrap_protocol.messages import Hello, PolicyGraph, Step, Weights


def make() -> gym.Env[Any, Any]:
    gym.register_envs(ale_py)
    env = gym.make("ALE/Enduro-v5", frameskip=1, repeat_action_probability=0.0, render_mode="rgb_array")
    env = gym.wrappers.AtariPreprocessing(env, noop_max=0, frame_skip=4)
    return gym.wrappers.FrameStackObservation(env, 4)


@pytest.fixture
def policy() -> Iterator[torch.nn.Module]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield EnduroNature().eval()
    torch.set_num_threads(threads)


def play(env: gym.Env[Any, Any], policy: torch.nn.Module, steps: int) -> list[Any]:
    observation, _ = env.reset(seed=3)
    seen = []
    for number in range(steps):
        with torch.no_grad():
            logits, _ = policy(torch.from_numpy(np.asarray(observation))[None])
        action = (int(logits.argmax()) + number) % 9
        observation, *rest = env.step(action)
        seen.append((np.array(observation), *rest))
    return seen


def test_a_game_is_the_same_under_observation_and_all_of_it_is_seen(
    wrap: Callable[..., InterpretWrapper], listen: Callable[..., Listener], policy: torch.nn.Module
) -> None:
    bare = make()
    expected = play(bare, policy, 60)
    env = wrap(policy, make(), fps=1e6, layers=["features.4"])
    listener = listen(env)
    for got, wanted in zip(play(env, policy, 60), expected, strict=True):
        assert np.array_equal(got[0], wanted[0])
        assert got[1:] == wanted[1:]
    step = listener.wait(Step, lambda step: step.step == 59)
    shapes = {name: (array.dtype, array.shape) for name, array in step.arrays.items()}
    assert shapes == {
        "observation": (np.uint8, (4, 84, 84)),
        "action": (np.int64, ()),
        "frame": (np.uint8, (210, 160, 3)),
        "output/logits": (np.float32, (9,)),
        "output/value": (np.float32, ()),
        "output/latent": (np.float32, (512,)),
        "output/layer/features.4": (np.float32, (64, 7, 7)),
        "rewards": (np.float32, (1,)),
    }
    np.testing.assert_array_equal(step.arrays["observation"], expected[58][0])
    with torch.no_grad():
        logits, _ = policy(torch.tensor(step.arrays["observation"])[None])
    np.testing.assert_array_equal(step.arrays["output/logits"], logits[0].numpy())
    hello = listener.wait(Hello, lambda hello: hello.policy.graph == "exported")
    assert (hello.env_id, hello.frame) == ("ALE/Enduro-v5", "render")
    assert hello.action_meanings is not None
    assert hello.action_meanings[1] == "FIRE"
    graph = listener.wait(PolicyGraph).graph
    assert graph.inputs[0].shape == (-1, 4, 84, 84)
    assert set(listener.wait(Weights).arrays) == {tensor.name for tensor in graph.parameters}
    bare.close()
