from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from listener import eventually
from tensordict import TensorDict
from tensordict.nn import (
    InteractionType,
    NormalParamExtractor,
    TensorDictModule,
    TensorDictSequential,
    set_interaction_type,
)
from torch import nn
from torchrl.data import OneHot
from torchrl.envs import Compose, GymWrapper, InitTracker, TransformedEnv
from torchrl.modules import (
    MLP,
    Actor,
    ActorCriticOperator,
    ActorValueOperator,
    GRUModule,
    LSTMModule,
    ProbabilisticActor,
    QValueActor,
    TanhNormal,
    ValueOperator,
    set_recurrent_mode,
)

from agentwrap import PolicyTypeError
from agentwrap.policy import view_policy
from agentwrap.testing import check_policy
from agentwrap_export.export import export_policy
from agentwrap_protocol.messages import PolicyGraph, Step, Weights
from agentwrap_viewer.replica import Replica


def q_values() -> Any:
    return QValueActor(MLP(in_features=4, out_features=2, num_cells=[8]), in_keys=["observation"], spec=OneHot(2))


def gaussian() -> Any:
    network = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2), NormalParamExtractor())
    module = TensorDictModule(network, in_keys=["observation"], out_keys=["loc", "scale"])
    return ProbabilisticActor(module, in_keys=["loc", "scale"], distribution_class=TanhNormal)


def operator() -> Any:
    common = TensorDictModule(nn.Sequential(nn.Linear(4, 8), nn.Tanh()), ["observation"], ["hidden"])
    actor = TensorDictModule(nn.Linear(8, 2), ["hidden"], ["logits"])
    chance = ProbabilisticActor(actor, in_keys=["logits"], distribution_class=torch.distributions.Categorical)
    return ActorValueOperator(common, chance, ValueOperator(nn.Linear(8, 1), in_keys=["hidden"]))


def plain() -> Any:
    return TensorDictModule(nn.Linear(4, 2), in_keys=["observation"], out_keys=[("agent", "logits")])


def rated(actor: Any, size: int = 1) -> Any:
    """The actor with two critics of its actions."""
    first, second = (ValueOperator(Both(3 + size, 1), in_keys=["observation", "action"]) for _ in range(2))
    return TensorDictSequential(actor, first, second)


def squashed() -> Any:
    network = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2), NormalParamExtractor())
    module = TensorDictModule(network, in_keys=["observation"], out_keys=["loc", "scale"])
    bounds = {"low": -2.0, "high": 2.0}
    return ProbabilisticActor(
        module, in_keys=["loc", "scale"], distribution_class=TanhNormal, distribution_kwargs=bounds
    )


def deterministic() -> Any:
    return Actor(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1), nn.Tanh()), in_keys=["observation"])


def operator_of_actions() -> Any:
    """Actor and critic on a common hidden layer."""
    common = TensorDictModule(nn.Sequential(nn.Linear(3, 8), nn.Tanh()), ["observation"], ["hidden"])
    module = TensorDictModule(nn.Sequential(nn.Linear(8, 2), NormalParamExtractor()), ["hidden"], ["loc", "scale"])
    actor = ProbabilisticActor(module, in_keys=["loc", "scale"], distribution_class=TanhNormal)
    critic = TensorDictModule(Both(9, 1), in_keys=["hidden", "action"], out_keys=["state_action_value"])
    return ActorCriticOperator(common, actor, critic)


class Both(nn.Module):
    def __init__(self, features: int, actions: int) -> None:
        super().__init__()
        self.head = nn.Linear(features, actions)

    def forward(self, near: torch.Tensor, far: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([near, far], -1))


def recurrent(memory: type[Any] = LSTMModule, *, first: bool = False) -> Any:
    """With a hidden layer before the memory, or the memory first."""
    features = 4 if first else 6
    embed = TensorDictModule(nn.Sequential(nn.Linear(4, 6), nn.Tanh()), ["observation"], ["embed"])
    remember = memory(input_size=features, hidden_size=8, in_key="observation" if first else "embed", out_key="hidden")
    head = TensorDictModule(nn.Linear(8, 2), ["hidden"], ["logits"])
    chance = ProbabilisticActor(head, in_keys=["logits"], distribution_class=torch.distributions.Categorical)
    value = ValueOperator(nn.Linear(8, 1), in_keys=["hidden"])
    return TensorDictSequential(*([] if first else [embed]), remember, chance, value)


def two_memories() -> Any:
    keys = ["h2", "c2"]
    second = LSTMModule(4, 3, in_keys=["observation", *keys], out_keys=["more", *(("next", key) for key in keys)])
    head = TensorDictModule(Both(11, 2), ["hidden", "more"], ["logits"])
    chance = ProbabilisticActor(head, in_keys=["logits"], distribution_class=torch.distributions.Categorical)
    return TensorDictSequential(LSTMModule(4, 8, in_key="observation", out_key="hidden"), second, chance)


POLICIES: dict[str, tuple[Callable[[], Any], str, str]] = {
    "QValueActor": (q_values, "CartPole-v1", "q_values"),
    "ProbabilisticActor": (gaussian, "Pendulum-v1", "mean, log_std"),
    "ActorValueOperator": (operator, "CartPole-v1", "logits, value, latent"),
    "TensorDictModule": (plain, "CartPole-v1", "logits"),
    "SAC": (lambda: rated(squashed()), "Pendulum-v1", "mean, log_std"),
    "DDPG": (lambda: rated(deterministic()), "Pendulum-v1", "mean"),
    "ActorCriticOperator": (operator_of_actions, "Pendulum-v1", "mean, log_std"),
    "LSTMModule": (recurrent, "CartPole-v1", "logits, value, latent"),
    "LSTMModule, first": (lambda: recurrent(first=True), "CartPole-v1", "logits, value, latent"),
    "LSTMModule, Python": (lambda: python_based(recurrent()), "CartPole-v1", "logits, value, latent"),
    "GRUModule": (lambda: recurrent(GRUModule), "CartPole-v1", "logits, value, latent"),
    "two LSTMModules": (two_memories, "CartPole-v1", "logits, latent"),
}


def python_based(policy: Any) -> Any:
    for module in policy.modules():
        if isinstance(module, LSTMModule):
            module.make_python_based()
    return policy


@pytest.mark.parametrize("name", POLICIES)
def test_what_is_seen_what_is_exported_and_what_the_library_does_agree(name: str) -> None:
    make, env, outputs = POLICIES[name]
    report = check_policy(make(), gym.make(env))
    assert report.passed and f"seen when the library acts: {outputs}" in str(report), str(report)
    assert ("hidden becomes state/" in str(report)) == ("Module" in name and name != "TensorDictModule"), str(report)


def test_what_is_watched_is_what_the_policys_own_call_writes() -> None:
    policy = operator()
    outputs = view_policy(policy, gym.make("CartPole-v1")).module(x := torch.rand(5, 4))
    written = policy(TensorDict({"observation": x}, batch_size=[5]))
    assert torch.equal(outputs["logits"], written["logits"]) and torch.equal(outputs["value"], written["state_value"])


@pytest.mark.parametrize("actor", [squashed, deterministic])
def test_critics_rate_the_action_that_is_taken_without_exploring(actor: Callable[[], Any]) -> None:
    policy, env = rated(actor()), gym.make("Pendulum-v1")
    module, x = view_policy(policy, env).module, torch.rand(5, 3)
    with torch.no_grad(), set_interaction_type(InteractionType.DETERMINISTIC):
        action = policy[0](TensorDict({"observation": x}, batch_size=[5]))["action"]
        each = [critic.module(x, action)[:, 0] for critic in (policy[1], policy[2])]
        assert torch.allclose(module(x)["state_action_value"], torch.min(*each), atol=1e-6)
    exported = export_policy(module, (x[:1],), {}, output_names=tuple(module(x)), batched=True)
    parameters = {name: weight.detach().numpy() for name, weight in exported.parameters.items()}
    replica = Replica(exported.graph, exported.constants, parameters)
    assert torch.allclose(replica({"observation": x})["state_action_value"], torch.min(*each), atol=1e-5)


def test_a_loop_that_acts_on_one_observation_without_a_batch_axis_is_streamed(wrap: Any, listen: Any) -> None:
    policy, env = operator(), gym.make("CartPole-v1")
    env = wrap(policy, env, fps=1e6)
    listener = listen(env, "step", "policy_graph", "weights")
    observation, _ = env.reset(seed=0)
    values = []
    for _ in range(5):
        acted = policy(TensorDict({"observation": torch.as_tensor(observation)}, batch_size=[]))
        values.append(float(acted["state_value"].detach()))
        batch = TensorDict({"observation": torch.rand(4, 4)}, batch_size=[4])  # learning: as many rows as features
        policy(batch)["state_value"].sum().backward()
        observation, *_ = env.step(int(acted["action"]))
    steps = eventually(lambda: listener.of(Step) if len(listener.of(Step)) == 5 else None)
    assert np.allclose([step.arrays["output/value"] for step in steps], values)
    replica = Replica.from_messages(listener.wait(PolicyGraph), listener.wait(Weights))
    for step in steps:
        logits = replica(replica.inputs_from_step(step.arrays))["logits"][0].numpy()
        assert np.allclose(logits, step.arrays["output/logits"], atol=1e-5)


@pytest.mark.parametrize("first", [False, True])
def test_the_state_that_is_sent_is_the_one_that_entered_the_step(first: bool, wrap: Any, listen: Any) -> None:
    """TorchRL's own rollout: a primer hands state on, and ``is_init`` empties it where an episode begins."""
    policy = recurrent(first=first)
    bare = gym.make("CartPole-v1", max_episode_steps=4)
    wrapped = wrap(policy, bare, fps=1e6)
    listener = listen(wrapped, "step", "policy_graph", "weights")
    env = TransformedEnv(
        GymWrapper(wrapped), Compose(InitTracker(), policy[0 if first else 1].make_tensordict_primer())
    )
    with torch.no_grad():
        rollout = env.rollout(6, policy, break_when_any_done=False)
    with set_recurrent_mode(True):
        policy(rollout.clone())["state_value"].sum().backward()  # learning on the sequence
    steps = eventually(lambda: listener.of(Step) if len(listener.of(Step)) == 6 else None)
    assert np.allclose([step.arrays["output/value"] for step in steps], rollout["state_value"][:, 0])
    assert [step.episode_step for step in steps] == [0, 1, 2, 3, 0, 1]
    replica = Replica.from_messages(listener.wait(PolicyGraph), listener.wait(Weights))
    for step, entered, begins in zip(steps, rollout["recurrent_state_h"], rollout["is_init"], strict=True):
        assert np.allclose(step.arrays["input/state/hidden"], 0 if begins else entered[:, None], atol=1e-6)
        assert step.arrays["input/state/hidden"].shape == (1, 1, 8)
        logits = replica(replica.inputs_from_step(step.arrays))["logits"][0].numpy()
        assert np.allclose(logits, step.arrays["output/logits"], atol=1e-5)


def test_dict_observations_are_read_by_their_keys() -> None:
    class Env(gym.Env[Any, Any]):
        observation_space = gym.spaces.Dict(
            {key: gym.spaces.Box(-1, 1, (size,)) for key, size in (("near", 2), ("far", 3))}
        )
        action_space = gym.spaces.Discrete(3)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            self.observation_space.seed(seed)
            return self.observation_space.sample(), {}

        def step(self, action: Any) -> Any:
            return self.observation_space.sample(), 0.0, False, False, {}

    module = TensorDictModule(Both(5, 3), in_keys=["near", "far"], out_keys=["logits"])
    chance = ProbabilisticActor(module, in_keys=["logits"], distribution_class=torch.distributions.Categorical)
    report = check_policy(chance, Env())
    assert report.passed, str(report)


@pytest.mark.parametrize(
    ("policy", "env", "says"),
    [
        (
            lambda: TensorDictModule(nn.Linear(4, 2), ["observation"], ["scores"]),
            "CartPole-v1",
            "writes scores.*out_keys",
        ),
        (lambda: TensorDictModule(nn.Bilinear(4, 4, 2), ["a", "b"], ["logits"]), "CartPole-v1", "reads.*'a', 'b'"),
        (lambda: TensorDictModule(lambda x: x, ["observation"], ["logits"]), "CartPole-v1", "no torch.nn.Module"),
    ],
)
def test_what_cannot_be_watched_is_refused_in_words(policy: Callable[[], Any], env: str, says: str) -> None:
    with pytest.raises(PolicyTypeError, match=says):
        view_policy(policy(), gym.make(env))
