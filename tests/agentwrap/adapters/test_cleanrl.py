from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from listener import eventually
from sb3_models import Pictures
from torch import nn
from torch.distributions import Categorical, Normal

from agentwrap import PolicyTypeError
from agentwrap.policy import view_policy
from agentwrap.testing import check_policy
from agentwrap_protocol.messages import PolicyGraph, Step, Weights
from agentwrap_viewer.replica import Replica


class Agent(nn.Module):
    """As in ppo.py."""

    def __init__(self) -> None:
        super().__init__()
        self.critic = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        self.actor = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))

    def get_value(self, x: torch.Tensor) -> Any:
        return self.critic(x)

    def get_action_and_value(self, x: torch.Tensor, action: Any = None) -> Any:
        probs = Categorical(logits=self.actor(x))
        if action is None:
            action = probs.sample()
        return action, probs.log_prob(action), probs.entropy(), self.critic(x)


class AtariAgent(Agent):
    """As in ppo_atari.py, which scales pictures itself."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(36, 4, 8, stride=4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(16))
        self.network(torch.zeros(1, 36, 36, 36))
        self.actor, self.critic = nn.Linear(16, 3), nn.Linear(16, 1)

    def get_action_and_value(self, x: torch.Tensor, action: Any = None) -> Any:
        hidden = self.network(x / 255.0)
        probs = Categorical(logits=self.actor(hidden))
        if action is None:
            action = probs.sample()
        return action, probs.log_prob(action), probs.entropy(), self.critic(hidden)


class ContinuousAgent(nn.Module):
    """As in ppo_continuous_action.py."""

    def __init__(self) -> None:
        super().__init__()
        self.critic, self.actor_mean = nn.Linear(3, 1), nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        self.actor_logstd = nn.Parameter(torch.full((1, 1), -0.5))

    def get_action_and_value(self, x: torch.Tensor, action: Any = None) -> Any:
        mean = self.actor_mean(x)
        probs = Normal(mean, torch.exp(self.actor_logstd.expand_as(mean)))
        if action is None:
            action = probs.sample()
        return action, probs.log_prob(action).sum(1), probs.entropy().sum(1), self.critic(x)


class QNetwork(nn.Module):
    """As in dqn.py."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, x: torch.Tensor) -> Any:
        return self.network(x)


@pytest.mark.parametrize(
    "agent, env, outputs",
    [
        (Agent, lambda: gym.make("CartPole-v1"), {"logits", "value", "latent"}),
        (AtariAgent, lambda: Pictures(36), {"logits", "value", "latent"}),
        (ContinuousAgent, lambda: gym.make("Pendulum-v1"), {"mean", "log_std", "value", "latent"}),
        (QNetwork, lambda: gym.make("CartPole-v1"), {"q_values", "latent"}),
    ],
)
def test_what_is_seen_and_what_is_exported_agree(agent: type[nn.Module], env: Any, outputs: set[str]) -> None:
    report = check_policy(agent(), env())
    assert report.passed, str(report)
    exported = next(line for line in report.lines if line.startswith("exported: "))
    assert set(exported.removeprefix("exported: ").split(", ")) == outputs


def test_a_script_with_several_environments_streams_the_one_that_is_wrapped(wrap: Any, listen: Any) -> None:
    """CleanRL's loop: one call for all environments, then learning on minibatches of them, as large."""
    torch.manual_seed(0)
    agent = Agent()
    envs = gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1") for _ in range(4)])
    wrapped = envs.envs[2] = wrap(agent, envs.envs[2], fps=1e6)
    listener = listen(wrapped, "step", "policy_graph", "weights")
    observations, _ = envs.reset(seed=1)
    values = []
    for _ in range(6):
        with torch.no_grad():
            action, _, _, value = agent.get_action_and_value(torch.Tensor(observations))
        values.append(float(value[2]))
        agent.get_action_and_value(torch.Tensor(observations[::-1].copy()), action)[3].sum().backward()
        observations, *_ = envs.step(action.numpy())
    steps = eventually(lambda: listener.of(Step) if len(listener.of(Step)) == 6 else None)
    assert np.allclose([step.arrays["output/value"] for step in steps], values)
    replica = Replica.from_messages(listener.wait(PolicyGraph), listener.wait(Weights))
    for step in steps:
        logits = replica(replica.inputs_from_step(step.arrays))["logits"][0].numpy()
        assert np.allclose(logits, step.arrays["output/logits"], atol=1e-5)


def test_an_agent_without_an_actor_is_refused() -> None:
    agent = Agent()
    del agent.actor
    with pytest.raises(PolicyTypeError, match="neither actor nor actor_mean"):
        view_policy(agent, gym.make("CartPole-v1"))


def test_a_recurrent_agent_is_refused() -> None:
    agent = Agent()
    agent.lstm = nn.LSTM(4, 4)
    with pytest.raises(PolicyTypeError, match="recurrent"):
        view_policy(agent, gym.make("CartPole-v1"))
