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

from agentwrap.distributions import Bernoulli, Categorical, MultiCategorical, describe
from agentwrap.policy import PolicyView, view_policy
from agentwrap_protocol.messages import DistributionInfo

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
