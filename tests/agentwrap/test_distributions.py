"""What follows from outputs is what the library's own distributions say."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import QRDQN, MaskablePPO
from sb3_models import make
from stable_baselines3 import DQN, PPO, SAC, TD3
from torch import nn

from agentwrap import AgentwrapWarning
from agentwrap.distributions import Bernoulli, Categorical, MultiCategorical, describe
from agentwrap.policy import PolicyView, view_policy
from agentwrap_protocol.messages import DistributionInfo, Hello, Step
from agentwrap_viewer.page.components.policy import describe as describe_outputs

SMALL = {"buffer_size": 100}


class Switches(gym.Env[Any, Any]):
    """Nothing but an action space."""

    def __init__(self, actions: gym.Space[Any]) -> None:
        self.observation_space, self.action_space = gym.spaces.Box(-1, 1, (3,), np.float32), actions


def several(algorithm: Any, actions: gym.Space[Any]) -> tuple[Any, gym.Env[Any, Any]]:
    env = Switches(actions)
    return make(algorithm, env), env


def seen_of(model: Any, env: gym.Env[Any, Any]) -> DistributionInfo | None:
    view = view_policy(model, env)
    assert isinstance(view, PolicyView) and view.watch is not None
    return describe(view.distribution, view.watch)


@pytest.mark.parametrize(
    ("algorithm", "env", "options", "kind"),
    [
        (PPO, "CartPole-v1", {}, "categorical"),
        (DQN, "CartPole-v1", SMALL, "deterministic"),
        (QRDQN, "CartPole-v1", SMALL, "quantiles"),
    ],
)
def test_one_choice_is_described_by_what_decides_it(algorithm: Any, env: str, options: Any, kind: str) -> None:
    made = gym.make(env)
    assert seen_of(make(algorithm, made, **options), made) == DistributionInfo(kind=kind)


@pytest.mark.parametrize(
    ("algorithm", "options", "kind"),
    [(PPO, {}, "gaussian"), (SAC, SMALL, "squashed_gaussian"), (TD3, SMALL, "deterministic")],
)
def test_continuous_actions_are_described_with_their_bounds(algorithm: Any, options: Any, kind: str) -> None:
    env = Switches(gym.spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 5.0]), dtype=np.float64))
    assert seen_of(make(algorithm, env, **options), env) == DistributionInfo(kind=kind, low=(-2, 0), high=(2, 5))


def test_several_choices_are_described_by_their_counts() -> None:
    assert seen_of(*several(PPO, gym.spaces.MultiDiscrete([3, 2]))) == DistributionInfo(
        kind="multi_categorical", counts=(3, 2)
    )
    assert seen_of(*several(PPO, gym.spaces.MultiBinary(4))) == DistributionInfo(kind="bernoulli")
    assert seen_of(*several(MaskablePPO, gym.spaces.MultiBinary(2))) == DistributionInfo(
        kind="multi_categorical", counts=(2, 2)
    ), "off and on are two options for sb3-contrib"


@pytest.mark.parametrize("space", [gym.spaces.MultiDiscrete([3, 2]), gym.spaces.MultiBinary(4)])
@pytest.mark.parametrize("algorithm", [PPO, MaskablePPO])
def test_the_likeliest_action_is_the_librarys(algorithm: Any, space: gym.Space[Any]) -> None:
    model, env = several(algorithm, space)
    view = view_policy(model, env)
    assert isinstance(view, PolicyView) and view.distribution is not None
    for observation in np.random.default_rng(0).uniform(-1, 1, (8, 3)).astype(np.float32):
        given = torch.from_numpy(observation)[None]
        logits = model.policy.action_net(model.policy.mlp_extractor(model.policy.extract_features(given))[0])[0]
        ours = view.distribution.mode({"logits": logits.detach().numpy()})
        assert np.array_equal(ours, model.predict(observation, deterministic=True)[0])


def test_what_there_are_no_words_for_is_left_open() -> None:
    class Own:
        def mode(self, outputs: Any) -> Any:
            return 0

    assert describe(None, ()) is None and describe(Own(), ("logits",)) is None
    assert describe(MultiCategorical((2,) * 5000), ("logits",)) is None, "more than a message may hold"
    assert describe(Bernoulli(), ()) == DistributionInfo(kind="bernoulli")
    assert describe(Categorical("q_values"), ("q_values",)) == DistributionInfo(kind="deterministic")


class Grouped(nn.Module):
    """Off and on of each of three switches, as shapes say them."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.head, self.shape = nn.Linear(3, 6), shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x).reshape(-1, *self.shape)


class Drawn(Switches):
    """Ends after five steps of noise."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.np_random.random(3, np.float32), {}

    def step(self, action: Any) -> Any:
        return self.np_random.random(3, np.float32), 0.0, False, False, {}


@pytest.mark.parametrize("shape", [(6,), (3, 2)])
def test_two_logits_of_each_switch_are_told_as_off_and_on(shape: Any, wrap: Any, listen: Any, recwarn: Any) -> None:
    policy = Grouped(*shape)
    env = wrap(policy, Drawn(gym.spaces.MultiBinary(3)), fps=1e6)
    listener = listen(env, "hello", "step")
    observation, _ = env.reset(seed=0)
    for _ in range(3):
        logits = policy(torch.as_tensor(observation)[None])
        observation, *_ = env.step(logits.reshape(3, 2).argmax(1).numpy())
    hello = listener.wait(Hello, lambda hello: hello.policy.outputs)
    assert hello.policy.distribution == DistributionInfo(kind="multi_categorical", counts=(2, 2, 2))
    sent = listener.wait(Step, lambda step: "output/logits" in step.arrays)
    rows = describe_outputs(sent, hello)["rows"]
    assert [row["group"] for row in rows] == [f"choice {index // 2}" for index in range(6)]
    assert all(abs(off["value"] + on["value"] - 1) < 1e-6 for off, on in zip(rows[::2], rows[1::2], strict=True))
    warned = [str(each.message) for each in recwarn if issubclass(each.category, AgentwrapWarning)]
    assert len(warned) == (shape == (6,)) and all("return them as (3, 2)" in text for text in warned)
