"""How versions are told apart of policies whose weights do not travel."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from agentwrap import InterpretVectorWrapper
from agentwrap_protocol.messages import PolicyGraph, Step, Weights

WEIGHTS = np.ones((4, 2))


def logits(observation: np.ndarray) -> np.ndarray:
    return observation @ WEIGHTS


class Branching(nn.Module):
    """Cannot be exported: it looks at values."""

    def __init__(self) -> None:
        super().__init__()
        self.actor = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.actor(x) if float(x.detach().abs().sum()) >= 0 else self.actor(-x)


def made(version: int) -> Any:
    return lambda step: step.policy_version == version and not step.policy_stale


def test_a_function_has_the_versions_that_it_is_said_to_have(wrap: Any, listen: Any) -> None:
    env = wrap(logits, weights_every=0.01)
    listener = listen(env)
    env.reset(seed=0)
    for version in range(3):
        listener.wait(Step, made(version), between=lambda: stepped(env))
        env.policy_changed()
    assert not listener.of(Weights) and not listener.of(PolicyGraph)


def test_changes_are_counted_no_more_often_than_weights_would_travel(wrap: Any, listen: Any) -> None:
    env = wrap(logits, weights_every=1000)
    listener = listen(env)
    env.reset(seed=0)
    for _ in range(3):
        env.policy_changed()
        listener.wait(Step, lambda step: step.policy_version == 1, between=lambda: stepped(env))
    stale = listener.wait(Step, lambda step: step.policy_stale, between=lambda: stepped(env))
    assert stale.policy_version == 1


def test_a_module_that_is_called_for_others_is_watched(wrap: Any, listen: Any) -> None:
    policy = Branching()
    env = wrap(policy, weights_every=0.01)
    listener = listen(env)
    observation = [env.reset(seed=0)[0]]

    def act() -> None:
        action = int(policy(torch.as_tensor(observation[0])[None]).argmax())
        observation[0], *_, over, cut, _ = env.step(action)
        if over or cut:
            observation[0], _ = env.reset()

    listener.wait(Step, made(0), between=act)
    for version in (1, 2):
        with torch.no_grad():
            policy.actor.weight.add_(1)
        listener.wait(Step, made(version), between=act)
    assert not listener.of(Weights)


def test_weights_that_change_unseen_are_sent_when_that_is_said(wrap: Any, listen: Any) -> None:
    policy = nn.Linear(4, 2)
    env = wrap(policy, weights_every=0.01)
    listener = listen(env)
    observation, _ = env.reset(seed=0)

    def act() -> None:
        policy(torch.as_tensor(observation)[None])
        stepped(env)

    listener.wait(Weights, between=act)
    env.policy_changed()
    listener.wait(Weights, lambda weights: weights.policy_version == 2, between=act)


def test_a_vector_environments_policy_too(listen: Any) -> None:
    envs = InterpretVectorWrapper(
        gym.make_vec("CartPole-v1", num_envs=2), logits, endpoint="tcp://127.0.0.1:*", quiet=True, strict=True
    )
    try:
        listener = listen(envs)
        envs.reset(seed=0)
        envs.policy_changed()
        listener.wait(Step, made(1), between=lambda: envs.step(np.zeros(2, int)))
    finally:
        envs.close()


def stepped(env: gym.Env[Any, Any]) -> None:
    *_, over, cut, _ = env.step(env.action_space.sample())
    if over or cut:
        env.reset()
