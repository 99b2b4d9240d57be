from __future__ import annotations

from collections.abc import Callable
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


class AtariQNetwork(QNetwork):
    """As in dqn_atari.py, which scales pictures itself."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(36, 4, 8, stride=4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
        self.network(torch.zeros(1, 36, 36, 36))

    def forward(self, x: torch.Tensor) -> Any:
        return self.network(x / 255.0)


AtariQNetwork.__name__ = "QNetwork"  # what the script calls it


class DistributionalQNetwork(nn.Module):
    """As in c51.py."""

    def __init__(self) -> None:
        super().__init__()
        self.n, self.n_atoms = 2, 5
        self.register_buffer("atoms", torch.linspace(-100, 100, steps=self.n_atoms))
        self.network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, self.n * self.n_atoms))

    def get_action(self, x: torch.Tensor, action: Any = None) -> Any:
        logits = self.network(x)
        pmfs = torch.softmax(logits.view(len(x), self.n, self.n_atoms), dim=2)
        q_values = (pmfs * self.atoms).sum(2)
        if action is None:
            action = torch.argmax(q_values, 1)
        return action, pmfs[torch.arange(len(x)), action]


class SACActor(nn.Module):
    """As in sac_continuous_action.py."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc_mean, self.fc_logstd = nn.Linear(3, 8), nn.Linear(8, 1), nn.Linear(8, 1)
        self.register_buffer("action_scale", torch.tensor([2.0]))
        self.register_buffer("action_bias", torch.tensor([0.0]))

    def forward(self, x: torch.Tensor) -> Any:
        x = torch.relu(self.fc1(x))
        return self.fc_mean(x), -5 + 0.5 * (2 - -5) * (torch.tanh(self.fc_logstd(x)) + 1)

    def get_action(self, x: torch.Tensor) -> Any:
        mean, log_std = self(x)
        drawn = Normal(mean, log_std.exp()).rsample()
        return [torch.tanh(each) * self.action_scale + self.action_bias for each in (drawn, mean)]


class TD3Actor(nn.Module):
    """As in td3_continuous_action.py and ddpg_continuous_action.py."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc_mu = nn.Linear(3, 8), nn.Linear(8, 1)
        self.register_buffer("action_scale", torch.tensor([2.0]))
        self.register_buffer("action_bias", torch.tensor([0.0]))

    def forward(self, x: torch.Tensor) -> Any:
        return torch.tanh(self.fc_mu(torch.relu(self.fc1(x)))) * self.action_scale + self.action_bias


class SoftQNetwork(nn.Module):
    """As in sac_continuous_action.py, and the QNetwork of td3_continuous_action.py and ddpg_continuous_action.py."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 8), nn.Linear(8, 1)

    def forward(self, x: torch.Tensor, a: torch.Tensor) -> Any:
        return self.fc2(torch.relu(self.fc1(torch.cat([x, a], 1))))


def sac() -> nn.Module:
    return nn.ModuleDict({"actor": SACActor(), "qf1": SoftQNetwork(), "qf2": SoftQNetwork()})


def ddpg() -> nn.Module:
    return nn.ModuleDict({"actor": TD3Actor(), "qf1": SoftQNetwork()})


class RecurrentAgent(nn.Module):
    """As in ppo_atari_lstm.py, but for vectors."""

    def __init__(self, memory: type[nn.RNNBase] = nn.LSTM) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(4, 6), nn.Tanh())
        self.lstm = memory(6, 8)
        self.actor, self.critic = nn.Linear(8, 2), nn.Linear(8, 1)

    def get_states(self, x: torch.Tensor, state: Any, done: torch.Tensor) -> Any:
        hidden, rows = self.network(x), (state[0] if isinstance(state, tuple) else state).shape[1]
        hidden, done = hidden.reshape((-1, rows, self.lstm.input_size)), done.reshape((-1, rows))
        new_hidden = []
        for h, d in zip(hidden, done, strict=True):
            kept = (1.0 - d).view(1, -1, 1)
            state = tuple(kept * part for part in state) if isinstance(state, tuple) else kept * state
            h, state = self.lstm(h.unsqueeze(0), state)
            new_hidden += [h]
        return torch.flatten(torch.cat(new_hidden), 0, 1), state

    def get_action_and_value(self, x: torch.Tensor, state: Any, done: torch.Tensor, action: Any = None) -> Any:
        hidden, state = self.get_states(x, state, done)
        probs = Categorical(logits=self.actor(hidden))
        if action is None:
            action = probs.sample()
        return action, probs.log_prob(action), probs.entropy(), self.critic(hidden), state


class OtherNames(nn.Module):
    """A script of somebody's own in this style: a trunk that is shared, and heads with names of its own."""

    def __init__(self, sizes: tuple[int, int] = (4, 2)) -> None:
        super().__init__()
        # as wide as there are actions: what the trunk returns could be taken for logits
        self.trunk = nn.Sequential(nn.Dropout(0.5), nn.Linear(sizes[0], sizes[1]), nn.BatchNorm1d(sizes[1]), nn.Tanh())
        self.v, self.pi = nn.Linear(sizes[1], 1), nn.Sequential(nn.Linear(sizes[1], sizes[1]))
        for parameter in (*self.v.parameters(), *self.pi.parameters()):
            nn.init.normal_(parameter)

    def get_value(self, x: torch.Tensor) -> Any:
        return self.v(self.trunk(x))

    def get_action_and_value(self, x: torch.Tensor, action: Any = None) -> Any:
        hidden = self.trunk(x)
        probs = self.distribution(self.pi(hidden))
        if action is None:
            action = probs.sample()
        return action, self.summed(probs.log_prob(action)), probs.entropy(), self.v(hidden).squeeze(-1)

    def distribution(self, made: torch.Tensor) -> Any:
        return Categorical(logits=made)

    def summed(self, log_prob: torch.Tensor) -> torch.Tensor:
        return log_prob


class OtherNamesContinuous(OtherNames):
    def __init__(self) -> None:
        super().__init__((3, 1))
        self.temperature, self.log_sigma = nn.Parameter(torch.ones(1)), nn.Parameter(torch.full((1,), -0.5))

    def distribution(self, made: torch.Tensor) -> Any:
        return Normal(made, self.log_sigma.exp())

    def summed(self, log_prob: torch.Tensor) -> torch.Tensor:
        return log_prob.sum(1)


@pytest.mark.parametrize(
    "agent, env, outputs",
    [
        (lambda: OtherNames().eval(), lambda: gym.make("CartPole-v1"), {"logits", "value", "latent"}),
        (
            lambda: OtherNamesContinuous().eval(),
            lambda: gym.make("Pendulum-v1"),
            {"mean", "log_std", "value", "latent"},
        ),
        (Agent, lambda: gym.make("CartPole-v1"), {"logits", "value", "latent"}),
        (AtariAgent, lambda: Pictures(36), {"logits", "value", "latent"}),
        (ContinuousAgent, lambda: gym.make("Pendulum-v1"), {"mean", "log_std", "value", "latent"}),
        (QNetwork, lambda: gym.make("CartPole-v1"), {"q_values", "latent"}),
        (AtariQNetwork, lambda: Pictures(36), {"q_values", "latent"}),
        (DistributionalQNetwork, lambda: gym.make("CartPole-v1"), {"q_values", "latent"}),
        (SACActor, lambda: gym.make("Pendulum-v1"), {"mean", "log_std", "latent"}),
        (TD3Actor, lambda: gym.make("Pendulum-v1"), {"mean"}),
        (sac, lambda: gym.make("Pendulum-v1"), {"mean", "log_std", "state_action_value", "latent"}),
        (ddpg, lambda: gym.make("Pendulum-v1"), {"mean", "state_action_value", "latent"}),
    ],
)
def test_what_is_seen_and_what_is_exported_agree(agent: Callable[[], nn.Module], env: Any, outputs: set[str]) -> None:
    report = check_policy(agent(), env())
    assert report.passed, str(report)
    exported = next(line for line in report.lines if line.startswith("exported: "))
    assert set(exported.removeprefix("exported: ").split(", ")) == outputs


def test_an_actors_outputs_mean_the_actions_that_it_takes() -> None:
    env = gym.make("Pendulum-v1")
    sac, td3, x = SACActor(), TD3Actor(), torch.rand(1, 3)
    mean, log_std = sac(x)
    outputs = {"mean": mean[0].detach().numpy(), "log_std": log_std[0].detach().numpy()}
    assert view_policy(sac, env).distribution.mode(outputs) == pytest.approx(sac.get_action(x)[1][0].detach().numpy())
    action = td3(x)[0].detach().numpy()
    assert view_policy(td3, env).distribution.mode({"mean": action}) == pytest.approx(action)
    with pytest.raises(PolicyTypeError, match="makes continuous actions, but the environment takes Discrete"):
        view_policy(sac, gym.make("CartPole-v1"))


def test_critics_beside_an_actor_rate_the_action_that_it_takes(wrap: Any, listen: Any) -> None:
    """The loop of sac_continuous_action.py: the script asks its actor alone, and learns with critics of their own."""
    agent: Any = sac()
    actor, critics = agent.actor, (agent.qf1, agent.qf2)
    env = wrap(agent, gym.make("Pendulum-v1"), fps=1e6)
    listener = listen(env, "step", "policy_graph", "weights")
    observation, _ = env.reset(seed=0)
    for _ in range(4):
        action, _ = actor.get_action(torch.Tensor(observation)[None])
        batch = torch.rand(16, 3)
        critics[0](batch, actor.get_action(batch)[0]).sum().backward()
        observation, *_ = env.step(action[0].detach().numpy())
    steps = eventually(lambda: listener.of(Step) if len(listener.of(Step)) == 4 else None)
    replica = Replica.from_messages(listener.wait(PolicyGraph), listener.wait(Weights))
    for step in steps:
        x = torch.tensor(step.arrays["observation"])[None]
        taken, outputs = actor.get_action(x)[1], replica(replica.inputs_from_step(step.arrays))
        assert np.allclose(outputs["mean"][0], step.arrays["output/mean"], atol=1e-5)
        rated = torch.min(*(critic(x, taken)[:, 0] for critic in critics))
        assert torch.allclose(outputs["state_action_value"], rated.detach(), atol=1e-5)


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
        agent.get_value(torch.Tensor(observations))  # what follows is worth, for learning
        observations, *_ = envs.step(action.numpy())
    steps = eventually(lambda: listener.of(Step) if len(listener.of(Step)) == 6 else None)
    assert np.allclose([step.arrays["output/value"] for step in steps], values)
    replica = Replica.from_messages(listener.wait(PolicyGraph), listener.wait(Weights))
    for step in steps:
        logits = replica(replica.inputs_from_step(step.arrays))["logits"][0].numpy()
        assert np.allclose(logits, step.arrays["output/logits"], atol=1e-5)


def test_heads_with_other_names_are_known_by_what_they_compute() -> None:
    view = view_policy(OtherNames(), gym.make("CartPole-v1"))
    assert view.watch is not None
    assert {name: (each.module, each.of) for name, each in view.watch.items()} == {
        "logits": ("pi", "output"),
        "value": ("v", "output"),
        "latent": ("pi.0", "input"),
    }
    view = view_policy(OtherNamesContinuous(), gym.make("Pendulum-v1"))
    assert view.watch is not None and view.watch["mean"].module == "pi" and view.watch["value"].module == "v"
    assert view.watch["log_std"].then is not None
    assert view.watch["log_std"].then(view.agent, torch.zeros(2, 1)).tolist() == [[-0.5], [-0.5]]


def test_looking_for_heads_changes_nothing_of_the_agent() -> None:
    agent, env = OtherNames(), gym.make("CartPole-v1")
    before = {name: tensor.clone() for name, tensor in agent.state_dict().items()}
    drawn, space = torch.get_rng_state(), env.observation_space.np_random.bit_generator.state
    view_policy(agent, env)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert env.observation_space.np_random.bit_generator.state == space
    assert agent.training and all(torch.equal(tensor, before[name]) for name, tensor in agent.state_dict().items())
    assert not any(module._forward_hooks for module in agent.modules())


def test_an_agent_whose_logits_no_submodule_computes_is_refused() -> None:
    class Functional(Agent):
        def get_action_and_value(self, x: torch.Tensor, action: Any = None) -> Any:
            probs = Categorical(logits=2 * self.critic(x) @ torch.tensor([[1.0, -1.0]]))
            action = probs.sample() if action is None else action
            return action, probs.log_prob(action), probs.entropy(), self.critic(x)

    agent = Functional()
    del agent.actor
    with pytest.raises(PolicyTypeError, match="neither actor nor actor_mean, and no other submodule"):
        view_policy(agent, gym.make("CartPole-v1"))


@pytest.mark.parametrize("memory", [nn.LSTM, nn.GRU])
def test_the_state_of_a_recurrent_agent_is_seen_and_carried_on(memory: type[nn.RNNBase]) -> None:
    report = check_policy(RecurrentAgent(memory), gym.make("CartPole-v1"))
    assert report.passed and "recurrent: state/hidden becomes state/hidden" in str(report), str(report)


def test_the_state_that_is_sent_is_the_one_that_entered_the_step(wrap: Any, listen: Any) -> None:
    """ppo_atari_lstm.py's loop: one call for all environments, done masks, learning on sequences."""
    torch.manual_seed(0)
    agent = RecurrentAgent()
    envs = gym.vector.SyncVectorEnv(
        [lambda: gym.make("CartPole-v1", max_episode_steps=3) for _ in range(3)],
        autoreset_mode=gym.vector.AutoresetMode.SAME_STEP,
    )
    wrapped = envs.envs[1] = wrap(agent, envs.envs[1], fps=1e6)
    listener = listen(wrapped, "step", "policy_graph", "weights")
    x, done = torch.Tensor(envs.reset(seed=1)[0]), torch.zeros(3)
    state = (torch.zeros(1, 3, 8), torch.zeros(1, 3, 8))
    entered, values = [], []
    for _ in range(8):
        kept = (1 - done).view(1, -1, 1)
        entered.append((kept * state[1])[:, 1:2].numpy())
        with torch.no_grad():
            action, _, _, value, state = agent.get_action_and_value(x, state, done)
        values.append(float(value[1]))
        parts = x.repeat(2, 1), (torch.zeros(1, 3, 8), torch.zeros(1, 3, 8)), torch.zeros(6)
        agent.get_action_and_value(*parts)[3].sum().backward()
        observations, _, terminated, truncated, _ = envs.step(action.numpy())
        x, done = torch.Tensor(observations), torch.Tensor(terminated | truncated)
    steps = eventually(lambda: listener.of(Step) if len(listener.of(Step)) == 8 else None)
    assert np.allclose([step.arrays["output/value"] for step in steps], values)
    assert [step.episode_step for step in steps] == [0, 1, 2, 0, 1, 2, 0, 1]
    replica = Replica.from_messages(listener.wait(PolicyGraph), listener.wait(Weights))
    carried: dict[str, torch.Tensor] = {}
    for step, cell in zip(steps, entered, strict=True):
        assert np.allclose(step.arrays["input/state/cell"], cell, atol=1e-6)
        assert step.arrays["input/state/cell"].any() == bool(step.episode_step)  # empty where an episode begins
        inputs = replica.inputs_from_step(step.arrays)
        for name in carried if step.episode_step else ():
            assert torch.allclose(carried[name], inputs[name], atol=1e-6)
        outputs = replica(inputs)
        carried = replica.state_after(outputs)
        assert np.allclose(outputs["logits"][0].numpy(), step.arrays["output/logits"], atol=1e-5)
