"""Wrappers outside of ours are found out where they change sizes; what loops do themselves is left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import FrameStackObservation, ResizeObservation, TransformObservation
from listener import eventually
from sb3_models import Pictures, make
from stable_baselines3 import PPO
from torch import nn

from agentwrap import AgentwrapWarning, policy_feed, watching
from agentwrap.misfits import resized, strange
from agentwrap_protocol.messages import Hello, PolicyGraph, Step


class Logits(nn.Module):
    """Takes anything, one or several of ``axes`` axes."""

    def __init__(self, axes: int, size: int) -> None:
        super().__init__()
        self.axes, self.head = axes, nn.Linear(size, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.float().flatten(-self.axes))


@pytest.mark.parametrize(
    ("given", "returned", "expected"),
    [
        ((4, 84, 84), (84, 84), True),
        ((64, 64, 3), (210, 160, 3), True),
        ((3, 84, 84), (84, 84, 3), False),  # transposed
        ((7056,), (84, 84), False),  # flattened
        ((3, 4), (4,), True),  # a stack of vectors
        ((6,), (4,), False),  # a goal beside it
        ((16,), (), False),  # a number, made one-hot
    ],
)
def test_only_sizes_that_a_loop_does_not_make_count(given: Any, returned: Any, expected: bool) -> None:
    assert resized(given, returned) is expected


@pytest.mark.parametrize("batch", [(32,), (8, 5)])
def test_learning_is_not_strange(batch: tuple[int, ...]) -> None:
    assert not strange((*batch, 84, 84), (84, 84))
    assert strange((*batch, 64, 64), (84, 84))


def wrapped_inside(wrap: Any, policy: Any, outside: Callable[[Any], Any], env: Any, **options: Any) -> tuple[Any, Any]:
    inside = wrap(policy, env, fps=1e6, **options)
    return inside, outside(inside)


def play(env: Any, act: Callable[[Any], Any], steps: int) -> None:
    observation, _ = env.reset(seed=0)
    for _ in range(steps):
        act(observation)
        observation, *_ = env.step(0)


CASES: dict[str, tuple[Callable[[Any], Any], int, str]] = {
    "stacked": (
        lambda env: FrameStackObservation(env, 2),
        2 * 36 * 36 * 4,
        r"\(2, 36, 36, 4\).* returns \(36, 36, 4\)",
    ),
    "resized": (lambda env: ResizeObservation(env, (18, 12)), 18 * 12 * 4, r"\(18, 12, 4\).* returns \(36, 36, 4\)"),
}


@pytest.mark.parametrize("case", CASES)
def test_calls_with_what_a_wrapper_outside_makes_are_shown_and_told_of(case: str, wrap: Any, listen: Any) -> None:
    outside, size, says = CASES[case]
    policy = Logits(4 if case == "stacked" else 3, size)
    inside, env = wrapped_inside(wrap, policy, outside, Pictures())
    listener = listen(inside, "hello", "step", "policy_graph")
    with pytest.warns(AgentwrapWarning, match=says) as warned:
        play(env, lambda observation: policy(torch.as_tensor(observation)[None]), 6)
    assert len(warned) == 1 and "outermost" in str(warned[0].message)
    told = listener.wait(Hello, lambda hello: hello.policy.graph == "exported" and hello.policy.problem)
    assert "maps are of that" in told.policy.problem
    step = listener.wait(Step, lambda step: "output/logits" in step.arrays)
    assert step.arrays["input/observation"].size == size and listener.wait(PolicyGraph)


def test_calls_that_cannot_be_shown_are_told_of(wrap: Any, listen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_feed, "UNCALLED", 5)
    policy = Logits(3, 18 * 12 * 4)
    inside, env = wrapped_inside(wrap, policy, CASES["resized"][0], Pictures())
    listener = listen(inside, "hello", "step")
    with pytest.warns(AgentwrapWarning, match="nothing can be shown of that"):
        play(env, lambda observation: policy(torch.as_tensor(observation)), 6)
    listener.wait(Hello, lambda hello: hello.policy.problem and "outermost" in hello.policy.problem)


def test_a_library_that_acts_on_something_else_is_told_of(
    wrap: Any, listen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_feed, "UNCALLED", 6)
    monkeypatch.setattr(watching, "PATIENCE", 5)
    model = make(PPO, gym.make("CartPole-v1"))
    space = model.observation_space
    inside, env = wrapped_inside(
        wrap, model, lambda env: TransformObservation(env, lambda seen: seen + 1, space), gym.make("CartPole-v1")
    )
    listener = listen(inside, "hello", "step")
    with pytest.warns(AgentwrapWarning, match="never on what the environment that is wrapped returns"):
        play(env, lambda observation: model.predict(observation), 7)
    told = listener.wait(Hello, lambda hello: hello.policy.problem)
    assert "outermost" in told.policy.problem and "Preprocessed" in told.policy.problem


@pytest.mark.parametrize(
    "prepare",
    [
        lambda seen: torch.as_tensor(seen, dtype=torch.float32)[None] / 255,
        lambda seen: torch.as_tensor(seen).permute(2, 0, 1)[None],
        lambda seen: torch.as_tensor(seen).flatten()[None],
    ],
    ids=["scaled", "transposed", "flattened"],
)
def test_what_a_loop_does_itself_is_no_misfit(prepare: Any, wrap: Any, listen: Any) -> None:
    policy = nn.Sequential(nn.Flatten(), Logits(1, 36 * 36 * 4))
    env = wrap(policy, Pictures(), fps=1e6)
    listener = listen(env, "hello", "step", "policy_graph")
    play(env, lambda observation: policy(prepare(observation).float()), 6)
    learned = torch.zeros(8, 36, 36, 4)
    play(env, lambda observation: [policy(learned), policy(prepare(observation).float())], 6)
    eventually(lambda: listener.of(Step)[-1:] and listener.of(Step)[-1].step == 11)
    assert all(hello.policy.problem is None for hello in listener.of(Hello))


class Parts(gym.Env[Any, Any]):
    """A picture and a vector, in a tuple."""

    observation_space = gym.spaces.Tuple(
        (gym.spaces.Box(0, 255, (8, 8, 3), np.uint8), gym.spaces.Box(0, 1, (3,), np.float32))
    )
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._seen(), 0.0, False, False, {}

    def _seen(self) -> Any:
        return self.np_random.integers(0, 255, (8, 8, 3), np.uint8), self.np_random.random(3, np.float32)


class Joining(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8 * 8 * 3 + 3, 2)

    def forward(self, picture: Any, vector: Any = None) -> torch.Tensor:
        picture, vector = picture if vector is None else (picture, vector)
        return self.head(torch.cat([picture.flatten(1).float() / 255, vector], 1))


@pytest.mark.parametrize("whole", [True, False])
def test_entries_that_are_arguments_of_their_own_are_told_of(whole: bool, wrap: Any, listen: Any, recwarn: Any) -> None:
    policy = Joining()
    env = wrap(policy, Parts(), fps=1e6)
    listener = listen(env, "hello", "step", "policy_graph")

    def act(observation: Any) -> None:
        parts = tuple(torch.as_tensor(part)[None] for part in observation)
        policy(parts) if whole else policy(*parts)

    play(env, act, 6)
    graph = listener.wait(PolicyGraph).graph
    told = listener.wait(Hello, lambda hello: hello.policy.graph == "exported").policy.problem
    assert [given.role for given in graph.inputs] == ["observation", "observation" if whole else "state"]
    assert (told is None) is whole and (told is None or "one by one" in told)
    assert sum("one by one" in str(each.message) for each in recwarn) == (not whole)
