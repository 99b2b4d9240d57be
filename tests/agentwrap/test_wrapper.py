from __future__ import annotations

import copy
import gc
import itertools
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from listener import Listener, eventually
from torch import nn

from agentwrap import AgentwrapWarning, InterpretWrapper, PolicyTypeError, UnknownLayerError, policy_feed
from agentwrap_protocol.messages import (
    Bye,
    EpisodeEnd,
    Heartbeat,
    Hello,
    PolicyGraph,
    Step,
    Weights,
)

Wrap = Callable[..., InterpretWrapper]
Listen = Callable[..., Listener]


class Scripted(gym.Env[Any, Any]):
    """An environment that returns, in one buffer that it reuses, what a test says."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, rewards: Any = (1.0,), *, length: int = 10, results: Any = None) -> None:
        self.render_mode = "rgb_array"
        self.buffer = np.zeros(4, np.float32)
        self.count, self.length = 0, length
        self.rewards, self.results = itertools.cycle(rewards), results
        self.returned: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.count = 0
        self.buffer[:] = 0
        self.returned = (self.buffer, {"options": options, "seed": seed})
        return self.returned

    def step(self, action: Any) -> Any:
        self.count += 1
        self.buffer[:] = self.count
        done = self.count == self.length
        self.returned = (self.buffer, next(self.rewards), done, False, {})
        if self.results is not None:
            self.returned = self.results
        return self.returned

    def render(self) -> Any:
        return np.full((6, 5, 3), self.count, np.uint8)


class Fresh(Scripted):
    """Returns another array each time."""

    def step(self, action: Any) -> Any:
        self.buffer = self.buffer.copy()
        return super().step(action)


# ── the agent notices nothing ──


def rollout(env: gym.Env[Any, Any], seed: int, steps: int = 300) -> list[Any]:
    rng = np.random.default_rng(seed)
    seen: list[Any] = [env.reset(seed=seed)]
    for _ in range(steps):
        seen.append(env.step(int(rng.integers(2))))
        if seen[-1][2] or seen[-1][3]:
            seen.append(env.reset())
    return seen


@pytest.mark.parametrize("watched", [False, True])
def test_results_are_those_of_the_bare_environment(
    wrap: Wrap, listen: Listen, policy: nn.Module, watched: bool
) -> None:
    env = wrap(policy, gym.make("CartPole-v1", render_mode="rgb_array"))
    if watched:
        listen(env)
    for seed in range(3):
        for got, expected in zip(rollout(env, seed), rollout(gym.make("CartPole-v1"), seed), strict=True):
            assert np.array_equal(got[0], expected[0])
            assert got[1:] == expected[1:]


@pytest.mark.parametrize("watched", [False, True])
def test_results_are_the_same_objects(wrap: Wrap, listen: Listen, policy: nn.Module, watched: bool) -> None:
    inner = Scripted()
    env = wrap(policy, inner)
    if watched:
        listen(env)
    assert env.reset(seed=3, options={"a": 1}) is inner.returned
    assert inner.returned[1] == {"seed": 3, "options": {"a": 1}}
    for _ in range(3):
        assert env.step(0) is inner.returned


def test_the_policy_is_left_as_it_was(wrap: Wrap, listen: Listen, agent: Any) -> None:
    policy = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 2)).eval()
    policy[2].train()
    called: list[Any] = []
    policy.register_forward_hook(lambda *_: called.append(1))
    before = copy.deepcopy(policy.state_dict())
    env = wrap(policy, layers=["1"])
    listener = listen(env)
    loop = agent(env, policy)
    torch.manual_seed(7)
    for _ in range(5):
        loop.step()
    drawn = torch.rand(1)
    listener.wait(PolicyGraph, between=loop.step)
    calls = len(called)
    policy(torch.zeros(1, 4)).sum().backward()
    assert [module.training for module in policy] == [False, False, True, False]
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())
    assert all(parameter.requires_grad for parameter in policy.parameters())
    assert len(called) == calls + 1
    env.close()
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in policy.modules()) == 1  # the user's own
    bare = gym.make("CartPole-v1")
    loop = agent(bare, policy)
    torch.manual_seed(7)
    for _ in range(5):
        loop.step()
    assert torch.equal(torch.rand(1), drawn)


def test_hooks_are_there_only_while_somebody_watches(wrap: Wrap, listen: Listen, policy: nn.Module, agent: Any) -> None:
    def hooks() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in policy.modules())

    env = wrap(policy)
    loop = agent(env, policy)
    loop.step()
    assert hooks() == 0
    listener = listen(env, "hello", "heartbeat", "episode_end")
    loop.step()
    assert hooks() == 0, "a listener that wants no steps does not watch"
    watcher = listen(env, "step")
    loop.step()
    assert hooks() > 0
    watcher.close()
    eventually(lambda: not env._stream.publisher.watched)
    eventually(lambda: (loop.step(), hooks() == 0)[1])  # noticed when the next step would have been sent
    assert listener.of(Hello)


def test_a_forward_pass_that_raises_is_the_users_own(wrap: Wrap, listen: Listen, agent: Any) -> None:
    class Fragile(nn.Linear):
        broken = False

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.broken:
                raise KeyError("mine")
            return super().forward(x)

    inner = Fragile(4, 2)
    policy = nn.Sequential(nn.Linear(4, 4), inner)
    env = wrap(policy, Scripted(), fps=1e6)
    listener = listen(env, "step")
    loop = agent(env, policy)
    for broken in (True, False, True, False):
        inner.broken = broken
        if broken:
            with pytest.raises(KeyError, match="mine"):
                loop.step()
            env.step(0)  # what the policy computed for the step before is not taken for this one's
        else:
            loop.step()
    steps = eventually(lambda: len(listener.of(Step)) == 4 and listener.of(Step))
    assert ["output/logits" in step.arrays for step in steps] == [False, True, False, True]
    env.close()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in policy.modules())


# ── counting ──


def test_returns_and_lengths_count_every_step(wrap: Wrap, listen: Listen, policy: nn.Module) -> None:
    env = wrap(policy, Scripted((1.0, 2.0), length=7), fps=1)
    listener = listen(env)
    for _ in range(3):
        env.reset()
        for _ in range(7):
            env.step(0)
    ends = eventually(lambda: len(listener.of(EpisodeEnd)) == 3 and listener.of(EpisodeEnd))
    assert [end.episode_return for end in ends] == [10.0, 11.0, 10.0]
    assert [(end.episode, end.length, end.step, end.reason) for end in ends] == [
        (0, 7, 6, "terminated"),
        (1, 7, 13, "terminated"),
        (2, 7, 20, "terminated"),
    ]


def test_episodes_that_are_not_over_end_by_reset_or_close(wrap: Wrap, listen: Listen, policy: nn.Module) -> None:
    env = wrap(policy, Scripted())
    listener = listen(env)
    for _ in range(2):
        env.reset()
        env.step(0)
        env.step(0)
    env.close()
    ends = eventually(lambda: len(listener.of(EpisodeEnd)) == 2 and listener.of(EpisodeEnd))
    assert [(end.reason, end.length) for end in ends] == [("reset", 2), ("closed", 2)]
    assert listener.wait(Bye).reason == "closed"


def test_late_joiners_get_the_episodes_so_far(wrap: Wrap, listen: Listen, policy: nn.Module) -> None:
    env = wrap(policy, Scripted(length=2))
    for _ in range(1005):
        env.reset()
        env.step(0)
        env.step(0)
    arrays = listen(env, "hello").wait(Hello).arrays
    assert arrays["episodes/number"].tolist() == list(range(5, 1005))
    assert set(arrays["episodes/return"]) == {2.0}
    assert set(arrays["episodes/length"]) == {2}


@pytest.mark.parametrize(
    ("reward", "number"),
    [
        (1, 1.0),
        (np.float32(0.5), 0.5),
        (np.array(2), 2.0),
        (np.array([3.0]), 3.0),
        (torch.tensor(4.0, requires_grad=True), 4.0),
        (True, 1.0),
        (None, np.nan),
        ("a", np.nan),
        (np.zeros(2), np.nan),
        (float("nan"), np.nan),
        (10**400, np.nan),
    ],
)
@pytest.mark.parametrize("watched", [False, True])
def test_rewards_of_all_kinds(
    wrap: Wrap, listen: Listen, policy: nn.Module, reward: Any, number: float, watched: bool
) -> None:
    env = wrap(policy, Scripted((reward,), length=3))
    listener = listen(env, *(("step", "hello", "episode_end") if watched else ("hello", "episode_end")))
    env.reset()
    for _ in range(3):
        assert env.step(0)[1] is reward
    np.testing.assert_equal(listener.wait(EpisodeEnd).episode_return, 3 * number)
    if watched:
        np.testing.assert_equal(listener.wait(Step).reward, number)


@pytest.mark.parametrize("results", [None, 5, (1, 2), (np.zeros(4), 0.0, np.zeros(2, bool), False, {})])
@pytest.mark.parametrize("watched", [False, True])
def test_broken_results_pass_through(
    wrap: Wrap, listen: Listen, policy: nn.Module, results: Any, watched: bool
) -> None:
    env = wrap(policy, Scripted(results=results), strict=False)
    env.reset()
    if watched:
        listen(env)
    if results is None:
        assert env.step(0)[1] == 1.0
        return
    with pytest.warns(AgentwrapWarning, match="returned something unusual"):
        assert env.step(0) is results
    assert env.step(0) is results  # warned of once


# ── what a step holds ──


def test_a_step_holds_what_belongs_together(wrap: Wrap, listen: Listen, policy: nn.Module) -> None:
    env = wrap(policy, Scripted((5.0,)), fps=1e6, layers=["trunk.0"])
    listener = listen(env, "step")
    observation, _ = env.reset()
    expected = []
    for number in range(4):
        with torch.no_grad():
            logits, value = policy(torch.as_tensor(observation)[None])
        expected.append((logits[0].numpy().copy(), value.item()))
        observation, *_ = env.step(number % 2)
    steps = eventually(lambda: len(listener.of(Step)) == 4 and listener.of(Step))
    for number, step in enumerate(steps):
        assert (step.seq, step.step, step.episode, step.episode_step) == (number, number, 0, number)
        assert (step.reward, step.episode_return, step.terminated) == (5.0, 5.0 * (number + 1), False)
        assert step.arrays["observation"].tolist() == [number] * 4, "the environment reuses this buffer"
        assert step.arrays["frame"].shape == (6, 5, 3)
        assert set(step.arrays["frame"].flat) == {number}, "the picture of the same moment"
        assert step.arrays["action"] == number % 2
        assert step.arrays["rewards"].tolist() == [5.0]
        np.testing.assert_array_equal(step.arrays["output/logits"], expected[number][0])
        assert step.arrays["output/value"].shape == ()
        assert step.arrays["output/value"] == np.float32(expected[number][1])
        assert step.arrays["output/latent"].shape == (16,)
        assert step.arrays["output/layer/trunk.0"].shape == (16,)
        np.testing.assert_allclose(
            np.tanh(step.arrays["output/layer/trunk.0"]), step.arrays["output/latent"], rtol=1e-6
        )
        assert not [name for name in step.arrays if name.startswith("input/")]


def test_steps_between_samples_leave_their_rewards(wrap: Wrap, listen: Listen, policy: nn.Module) -> None:
    env = wrap(policy, Fresh(range(1000), length=100), fps=0.001)
    listener = listen(env, "step")
    env.reset()
    for _ in range(100):
        env.step(0)
    first, last = eventually(lambda: len(listener.of(Step)) == 2 and listener.of(Step))
    assert (first.step, first.arrays["rewards"].tolist()) == (0, [0.0])
    assert (last.step, last.terminated) == (99, True), "an episode's last step is sent"
    assert last.arrays["rewards"].tolist() == list(range(1, 100))
    assert "frame" not in last.arrays, "the picture of that moment is gone"
    assert last.arrays["observation"].tolist() == [99] * 4


def test_a_last_step_whose_observation_is_gone_is_not_sent(wrap: Wrap, listen: Listen, policy: nn.Module) -> None:
    env = wrap(policy, Scripted(length=100), fps=0.001)
    listener = listen(env)
    env.reset()
    for _ in range(100):
        env.step(0)
    listener.wait(EpisodeEnd)
    assert [step.step for step in listener.of(Step)] == [0]


def test_a_policy_that_was_not_called_has_no_outputs(wrap: Wrap, listen: Listen, policy: nn.Module) -> None:
    env = wrap(policy, Scripted(), fps=1e6)
    listener = listen(env, "step")
    env.reset()
    policy(torch.zeros(1, 4))
    env.step(0)
    env.step(0)
    steps = eventually(lambda: len(listener.of(Step)) == 2 and listener.of(Step))
    assert ["output/logits" in step.arrays for step in steps] == [True, False]


def test_learning_is_not_mistaken_for_acting(wrap: Wrap, listen: Listen, policy: nn.Module) -> None:
    env = wrap(policy, Scripted(), fps=1e6)
    listener = listen(env, "step")
    observation, _ = env.reset()
    logits, _ = policy(torch.as_tensor(observation)[None])
    policy(torch.ones(32, 4))
    policy(torch.ones(2, 4))
    env.step(0)
    step = listener.wait(Step)
    np.testing.assert_array_equal(step.arrays["output/logits"], logits[0].detach().numpy())


@pytest.mark.parametrize("fps", [1e6, 60])
def test_environments_that_share_a_policy_each_show_their_own_call(
    wrap: Wrap, listen: Listen, policy: nn.Module, fps: float
) -> None:
    """Both call the policy before either of them steps."""

    class Offset(Fresh):
        offset = 0.0

        def reset(self, **options: Any) -> Any:
            self.buffer = np.empty(4, np.float32)
            result = super().reset(**options)
            self.buffer += self.offset
            return result

        def step(self, action: Any) -> Any:
            result = super().step(action)
            self.buffer += self.offset
            return result

    envs = [wrap(policy, Offset(length=40), fps=fps) for _ in range(2)]
    envs[1].unwrapped.offset = 0.5
    listeners = [listen(env, "step", "episode_end") for env in envs]
    observations = [env.reset()[0] for env in envs]
    expected: list[list[Any]] = [[], []]
    for _ in range(40):
        with torch.no_grad():
            for number, observation in enumerate(observations):
                expected[number].append(policy(torch.as_tensor(observation)[None])[0][0].numpy().copy())
        observations = [env.step(0)[0] for env in envs]
    for number, listener in enumerate(listeners):
        listener.wait(EpisodeEnd)
        with_outputs = [step for step in listener.of(Step) if "output/logits" in step.arrays]
        assert with_outputs
        for step in with_outputs:
            np.testing.assert_array_equal(step.arrays["output/logits"], expected[number][step.step])


def test_environments_that_share_a_policy_show_no_others_call_where_observations_are_prepared(
    wrap: Wrap, listen: Listen, policy: nn.Module
) -> None:
    """Which call is whose cannot be told then: nothing is shown rather than another's, also of ends of episodes."""
    envs = [wrap(policy, Fresh(length=25), strict=False) for _ in range(2)]
    listeners = [listen(env, "step", "episode_end") for env in envs]
    expected: list[list[Any]] = [[], []]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(4):
            observations = [env.reset()[0] for env in envs]
            for _ in range(25):
                with torch.no_grad():
                    for number, observation in enumerate(observations):
                        prepared = torch.as_tensor(observation)[None] * (number + 2)
                        expected[number].append(policy(prepared)[0][0].numpy().copy())
                observations = [env.step(0)[0] for env in envs]
    for number, listener in enumerate(listeners):
        listener.wait(EpisodeEnd, lambda end: end.episode == 3)
        for step in listener.of(Step):
            if "output/logits" in step.arrays:
                np.testing.assert_array_equal(step.arrays["output/logits"], expected[number][step.step])


@pytest.mark.parametrize("shift", [0.0, 0.5], ids=["as returned", "prepared outside of the policy"])
def test_an_episodes_last_step_has_outputs_although_nobody_knew_that_it_would_be_sent(
    wrap: Wrap, listen: Listen, policy: nn.Module, shift: float
) -> None:
    env = wrap(policy, Fresh(length=100), fps=0.001)
    listener = listen(env, "step")
    observation, _ = env.reset()
    for _ in range(100):
        with torch.no_grad():
            logits, _ = policy(torch.as_tensor(observation - np.float32(shift))[None])
        observation, *_ = env.step(0)
    last = listener.wait(Step, lambda step: step.step == 99)
    np.testing.assert_array_equal(last.arrays["output/logits"], logits[0].numpy())
    assert "output/latent" not in last.arrays
    assert ("input/observation" in last.arrays) is (shift != 0)


def test_masks_put_on_logits_in_place_do_not_change_what_was_computed(
    wrap: Wrap, listen: Listen, policy: nn.Module
) -> None:
    env = wrap(policy, Scripted(), fps=1e6)
    listener = listen(env, "step")
    observation, _ = env.reset()
    for _ in range(3):
        with torch.no_grad():
            logits, _ = policy(torch.as_tensor(observation)[None])
            logits[:, 0] = -torch.inf
        observation, *_ = env.step(0)
    steps = eventually(lambda: len(listener.of(Step)) == 3 and listener.of(Step))
    assert "output/logits" not in steps[0].arrays, "once it is noticed too late"
    assert all(np.isfinite(step.arrays["output/logits"]).all() for step in steps[1:])
    assert all("output/value" in step.arrays for step in steps)


def wait_for_output(listener: Listener, name: str, loop: Any) -> Step:
    """Play until a step is sent with this output: the first one may be of a call before anybody watched."""
    return listener.wait(Step, lambda step: f"output/{name}" in step.arrays, between=loop.step)


def test_nan_outputs_pass_through(wrap: Wrap, listen: Listen, policy: nn.Module, agent: Any) -> None:
    with torch.no_grad():
        policy.actor.bias.fill_(torch.nan)
    env = wrap(policy)
    listener = listen(env, "step")
    loop = agent(env, policy)
    assert np.isnan(wait_for_output(listener, "logits", loop).arrays["output/logits"]).all()


def test_preprocessing_outside_of_the_policy_is_sent(wrap: Wrap, listen: Listen, policy: nn.Module, agent: Any) -> None:
    env = wrap(policy)
    listener = listen(env, "step")
    loop = agent(env, policy, prepare=lambda observation: torch.as_tensor(observation)[None] * 2 + 1)
    step = wait_for_output(listener, "logits", loop)
    np.testing.assert_allclose(step.arrays["input/observation"], step.arrays["observation"] * 2 + 1)


def test_an_input_that_the_policy_changes_in_place_is_no_preprocessing(wrap: Wrap, listen: Listen, agent: Any) -> None:
    class InPlace(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x /= 10
            return super().forward(x)

    policy = InPlace(4, 2)
    env = wrap(policy)
    listener = listen(env, "step")
    loop = agent(env, policy, prepare=lambda observation: torch.tensor(observation)[None])
    step = wait_for_output(listener, "logits", loop)
    assert "input/observation" not in step.arrays


def test_recurrent_state_is_sent_as_it_was_passed(wrap: Wrap, listen: Listen) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.actor = nn.LSTM(4, 8, batch_first=True), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor, state: Any) -> Any:
            out, state = self.lstm(x[:, None], state)
            return self.actor(out[:, 0]), state

    policy = Recurrent()
    env = wrap(policy, Scripted(), fps=1e6)
    listener = listen(env)
    observation, _ = env.reset()
    state = (torch.zeros(1, 1, 8), torch.zeros(1, 1, 8))
    passed = []
    for _ in range(3):
        passed.append(state[0])
        with torch.no_grad():
            _, state = policy(torch.as_tensor(observation)[None], state)
        observation, *_ = env.step(0)
    steps = eventually(lambda: len(listener.of(Step)) == 3 and listener.of(Step))
    for step, hidden in zip(steps, passed, strict=True):
        np.testing.assert_array_equal(step.arrays["input/state/0"], hidden.numpy(), strict=True)
        assert step.arrays["input/state/1"].shape == (1, 1, 8)
    names = {given.name for given in listener.wait(PolicyGraph).graph.inputs}
    assert names == {"observation", "state/0", "state/1"}


def test_a_state_that_is_emptied_in_place_is_sent_as_it_was(wrap: Wrap, listen: Listen) -> None:
    class Summing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.actor = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor, state: torch.Tensor) -> Any:
            return self.actor(x), state + 1

    policy = Summing()
    env = wrap(policy, Scripted(), fps=1e6)
    listener = listen(env)
    observation, _ = env.reset()
    state = torch.zeros(1, 4)
    for _ in range(3):
        with torch.no_grad():
            _, after = policy(torch.as_tensor(observation)[None], state)
        state.zero_()  # whatever this agent does it for
        observation, *_ = env.step(0)
        state = after
    steps = eventually(lambda: len(listener.of(Step)) == 3 and listener.of(Step))
    assert "input/state" not in steps[0].arrays  # it was not known yet that this agent does that
    assert [float(step.arrays["input/state"].sum()) for step in steps[1:]] == [4.0, 8.0]


def test_dict_observations(wrap: Wrap, listen: Listen) -> None:
    class Env(gym.Env[Any, Any]):
        observation_space = gym.spaces.Dict(
            {"image": gym.spaces.Box(0, 255, (1, 8, 8), np.uint8), "vector": gym.spaces.Box(-1, 1, (3,))}
        )
        action_space = gym.spaces.Discrete(2)

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            return {"image": np.ones((1, 8, 8), np.uint8), "vector": np.zeros(3, np.float32)}, {}

        def step(self, action: Any) -> Any:
            return *self.reset()[:1], 0.0, False, False, {}

    class Policy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image, self.vector = nn.Linear(64, 2), nn.Linear(3, 2)

        def forward(self, x: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {"q": self.image(x["image"].float().flatten(1)) + self.vector(x["vector"])}

    policy = Policy()
    env = wrap(policy, Env(), fps=1e6)
    listener = listen(env)
    observation, _ = env.reset()
    policy({key: torch.as_tensor(value)[None] for key, value in observation.items()})
    env.step(1)
    step = listener.wait(Step)
    assert set(step.arrays) == {
        *("observation/image", "observation/vector", "action", "rewards", "output/q_values"),
    }
    assert listener.wait(PolicyGraph).graph.outputs[0].name == "q_values"


def test_an_observation_that_cannot_travel_is_left_out(wrap: Wrap, listen: Listen, policy: nn.Module) -> None:
    class Texts(Scripted):
        observation_space = gym.spaces.Dict({"text": gym.spaces.Text(5), "x": gym.spaces.Box(-1, 1, (4,))})

        def reset(self, **_: Any) -> Any:
            return {"text": "abc", "x": np.zeros(4, np.float32)}, {}

        def step(self, action: Any) -> Any:
            return *self.reset()[:1], 0.0, False, False, {}

    env = wrap(policy, Texts(), strict=False, fps=1e6)
    listener = listen(env)
    env.reset()
    with pytest.warns(AgentwrapWarning, match="observation/text cannot be shown"):
        env.step(0)
    env.step(0)
    assert "observation/x" in listener.wait(Step, lambda step: step.step == 1).arrays
    assert listener.wait(Hello).observation_space.spaces["text"].text.startswith("Text")


# ── graph and weights ──


def test_waits_for_a_viewer_that_wants_the_policy(wrap: Wrap, listen: Listen, policy: nn.Module) -> None:
    env = wrap(policy)
    assert not env.wait_for_viewer(timeout=0.05)
    listen(env)
    assert env.wait_for_viewer()


def test_a_policy_that_does_not_act_is_told_of_until_it_does(
    wrap: Wrap, listen: Listen, policy: nn.Module, agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_feed, "UNCALLED", 5)
    env = wrap(policy, fps=1e6)
    listener, loop = listen(env, "hello", "step"), agent(env, copy.deepcopy(policy))
    told = listener.wait(Hello, lambda hello: hello.policy.problem is not None, between=loop.step)
    assert "very object" in told.policy.problem and told.policy.graph == "pending"
    loop = agent(env, policy)
    listener.wait(Hello, lambda hello: hello.policy.outputs and hello.policy.problem is None, between=loop.step)


def test_late_joiners_get_hello_graph_and_weights(wrap: Wrap, listen: Listen, policy: nn.Module, agent: Any) -> None:
    env = wrap(policy)
    first = listen(env)
    loop = agent(env, policy)
    weights = first.wait(Weights, between=loop.step)
    graph = first.wait(PolicyGraph)
    late = listen(env, "hello", "policy_graph", "weights")  # the agent does not step meanwhile
    hello = late.wait(Hello)
    assert hello.policy.graph == "exported"
    assert hello.policy.outputs == ("logits", "value")
    assert hello.policy.parameters == sum(parameter.numel() for parameter in policy.parameters())
    assert hello.action_meanings == ("push left", "push right")
    assert hello.feature_names is not None
    assert late.wait(PolicyGraph).graph == graph.graph
    assert set(late.wait(Weights).arrays) == {tensor.name for tensor in graph.graph.parameters}
    for name, array in weights.arrays.items():
        np.testing.assert_array_equal(array, policy.state_dict()[name.removeprefix("weight/")].numpy())
    newest = first.wait(Step, lambda step: step.policy_version == 1, between=loop.step)
    assert not newest.policy_stale


def test_weights_travel_anew_when_they_have_changed(wrap: Wrap, listen: Listen, policy: nn.Module, agent: Any) -> None:
    env = wrap(policy, weights_every=0.05)
    listener = listen(env)
    loop = agent(env, policy)
    listener.wait(Weights, between=loop.step)
    optimizer = torch.optim.SGD(policy.parameters(), lr=1.0)
    policy(torch.ones(8, 4))[0].square().sum().backward()
    optimizer.step()
    second = listener.wait(Weights, lambda weights: weights.policy_version == 2, between=loop.step)
    np.testing.assert_array_equal(second.arrays["weight/actor.weight"], policy.actor.weight.detach().numpy())
    policy.critic.bias.data.fill_(7)  # not counted by PyTorch
    third = listener.wait(Weights, lambda weights: weights.policy_version == 3, between=loop.step)
    assert third.arrays["weight/critic.bias"].tolist() == [7.0]
    policy.critic.bias = nn.Parameter(torch.full((1,), 8.0))
    fourth = listener.wait(Weights, lambda weights: weights.policy_version == 4, between=loop.step)
    assert fourth.arrays["weight/critic.bias"].tolist() == [8.0]


def test_steps_say_that_weights_have_changed_since(wrap: Wrap, listen: Listen, policy: nn.Module, agent: Any) -> None:
    env = wrap(policy, weights_every=1000)
    listener = listen(env)
    loop = agent(env, policy)
    listener.wait(Weights, between=loop.step)
    with torch.no_grad():
        policy.actor.weight.add_(1)
    stale = listener.wait(Step, lambda step: step.policy_stale, between=loop.step)
    assert stale.policy_version == 1


def test_nobody_who_wants_no_graph_makes_the_agent_wait_for_one(
    wrap: Wrap, listen: Listen, policy: nn.Module, agent: Any
) -> None:
    env = wrap(policy)
    listener = listen(env, "hello", "step")
    loop = agent(env, policy)
    listener.wait(Step, lambda step: step.step > 20, between=loop.step)
    assert listener.wait(Hello, lambda hello: hello.policy.outputs).policy.graph == "pending"


def test_a_policy_beyond_export_streams_without_graph(wrap: Wrap, listen: Listen, agent: Any) -> None:
    class Branching(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x if x.sum() > 0 else -x)

    policy = Branching(4, 2)
    env = wrap(policy)
    listener = listen(env)
    loop = agent(env, policy)
    hello = listener.wait(Hello, lambda hello: hello.policy.graph == "failed", between=loop.step)
    assert "x.sum() > 0" in str(hello.policy.problem)
    newest = max((step.step for step in listener.of(Step)), default=-1)
    listener.wait(Step, lambda step: step.step > newest, between=loop.step)
    assert not listener.of(PolicyGraph)


# ── faults of the instrument ──


def test_rendering_that_fails_is_switched_off(wrap: Wrap, listen: Listen, policy: nn.Module) -> None:
    class Unlit(Scripted):
        def render(self) -> Any:
            raise OSError("no display")

    env = wrap(policy, Unlit(), strict=False, fps=1e6)
    listener = listen(env)
    env.reset()
    with pytest.warns(AgentwrapWarning, match="rendering failed and is switched off: OSError: no display"):
        env.step(0)
    env.step(0)
    step = listener.wait(Step, lambda step: step.step == 1)
    assert "frame" not in step.arrays
    assert "observation" in step.arrays
    assert listener.wait(Hello, lambda hello: hello.frame == "none")


def test_strict_raises_instead(wrap: Wrap, listen: Listen, policy: nn.Module) -> None:
    class Unlit(Scripted):
        def render(self) -> Any:
            raise OSError("no display")

    env = wrap(policy, Unlit())
    listen(env)
    env.reset()
    with pytest.raises(OSError, match="no display"):
        env.step(0)


def test_what_a_policy_returns_without_tensors_is_said_once(wrap: Wrap, listen: Listen) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> str:
            return "left"

    policy = Odd()
    env = wrap(policy, Scripted(), strict=False, fps=1e6)
    listener = listen(env)
    env.reset()
    with pytest.warns(AgentwrapWarning, match="the policy returned str without any tensor; accepted are"):
        assert policy(torch.zeros(1, 4)) == "left"
    env.step(0)
    assert policy(torch.zeros(1, 4)) == "left"
    env.step(0)
    listener.wait(Step, lambda step: step.step == 1)


# ── what the wrapper is to the rest of Gymnasium ──


def test_spec_is_the_inner_environments(wrap: Wrap, policy: nn.Module) -> None:
    env = wrap(policy)
    again = gym.make(env.spec)
    assert isinstance(again.unwrapped, type(env.unwrapped))
    layers = []
    while again is not again.unwrapped:
        layers.append(type(again))
        again = again.env
    assert InterpretWrapper not in layers


def test_copies_are_of_the_inner_environment(wrap: Wrap, policy: nn.Module) -> None:
    inner = Scripted()
    env = wrap(policy, inner)
    assert copy.copy(env) is inner
    assert type(copy.deepcopy(env)) is Scripted


def test_further_wrappers_and_attributes(wrap: Wrap, policy: nn.Module) -> None:
    env = gym.wrappers.TimeLimit(wrap(policy), 5)
    rollout(env, 0, 20)
    assert env.unwrapped is env.env.unwrapped
    assert env.env.render_mode is None


def test_two_streams_have_two_ports(wrap: Wrap, policy: nn.Module) -> None:
    first, second = wrap(policy), wrap(policy)
    assert first.endpoint != second.endpoint
    assert first.stream != second.stream


def test_closing_twice_is_harmless(wrap: Wrap, listen: Listen, policy: nn.Module) -> None:
    env = wrap(policy)
    listener = listen(env)
    env.reset()
    env.close()
    env.close()
    assert len(listener.of(Bye)) <= 1


def test_a_closed_wrapper_still_steps(wrap: Wrap, policy: nn.Module) -> None:
    env = wrap(policy, Scripted(length=2))
    env.close()
    env.reset()
    env.step(0)
    assert env.step(0)[2]


def test_a_forgotten_wrapper_ends_its_stream(listen: Listen, policy: nn.Module) -> None:
    env = InterpretWrapper(Scripted(), policy, quiet=True)
    listener = listen(env)
    env.reset()
    policy(torch.zeros(1, 4))
    env.step(0)
    gone = weakref.ref(env)
    del env
    gc.collect()
    eventually(lambda: gone() is None)  # the publisher's thread holds it while it makes a message
    listener.wait(Bye)
    eventually(lambda: not any(m._forward_hooks or m._forward_pre_hooks for m in policy.modules()))


def test_heartbeats_count_steps_that_are_not_sent(wrap: Wrap, listen: Listen, policy: nn.Module) -> None:
    env = wrap(policy, Scripted())
    listener = listen(env, "hello", "heartbeat")
    env.reset()
    env.step(0)
    beat = listener.wait(Heartbeat, lambda beat: beat.steps_per_second > 0, between=lambda: env.step(0))
    assert beat.step > 0
    assert beat.sent == 0


# ── options ──


@pytest.mark.parametrize("policy", [None, 3, "policy", nn.Linear])
def test_policies_of_unknown_kinds_are_refused(policy: Any) -> None:
    with pytest.raises(TypeError, match="accepted is a torch.nn.Module whose forward returns"):
        InterpretWrapper(Scripted(), policy)


def test_a_module_without_forward_is_refused() -> None:
    with pytest.raises(PolicyTypeError, match=r"ModuleDict has no forward\(\)"):
        InterpretWrapper(Scripted(), nn.ModuleDict())


def test_a_compiled_module_is_taken(wrap: Wrap, policy: nn.Module) -> None:
    wrap(torch.compile(policy, backend="eager"))  # it has a forward of its own, which its class has not


def test_outputs_that_cannot_be_shown_are_told_to_viewers(wrap: Wrap, listen: Listen) -> None:
    class Words(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return "left"

    policy = Words()
    env = wrap(policy, strict=False, fps=1e6)
    listener = listen(env)
    observation, _ = env.reset(seed=0)

    def step() -> None:
        policy(torch.as_tensor(observation)[None])
        if any(env.step(0)[2:4]):
            env.reset()

    with pytest.warns(AgentwrapWarning, match="returned str without any tensor"):
        hello = listener.wait(Hello, lambda hello: hello.policy.problem is not None, between=step)
    assert hello.policy.graph == "failed"
    assert "returned str without any tensor" in str(hello.policy.problem)


def test_unknown_layers_are_refused_with_the_nearest(policy: nn.Module) -> None:
    with pytest.raises(UnknownLayerError, match=r"no layer 'trunk.O'; it has .*trunk\.0"):
        InterpretWrapper(Scripted(), policy, layers="trunk.O")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"fps": 0}, "fps must be a positive number, not 0"),
        ({"fps": float("nan")}, "fps must be a positive number"),
        ({"weights_every": -1}, "weights_every must be a positive number"),
        ({"action_meanings": ["a"]}, "action_meanings: 1 names, but the environment has 2"),
        ({"feature_names": ["a"]}, "feature_names: 1 names, but the environment has 4"),
    ],
)
def test_options_out_of_range_are_refused(policy: nn.Module, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        InterpretWrapper(Scripted(), policy, **options)


def test_names_and_outputs_can_be_given(wrap: Wrap, listen: Listen, agent: Any) -> None:
    policy = nn.Linear(4, 2)
    options = {"name": "mine", "outputs": "q_values", "action_meanings": ["l", "r"], "feature_names": list("abcd")}
    env = wrap(policy, **options)
    listener = listen(env)
    loop = agent(env, policy)
    wait_for_output(listener, "q_values", loop)
    hello = listener.wait(Hello, lambda hello: hello.policy.outputs)
    assert (hello.name, hello.env_id) == ("mine", "CartPole-v1")
    assert hello.policy.outputs == ("q_values",)
    assert hello.action_meanings == ("l", "r")
    assert hello.feature_names == ("a", "b", "c", "d")


def test_it_says_once_where_it_streams(policy: nn.Module, capsys: pytest.CaptureFixture[str]) -> None:
    env = InterpretWrapper(gym.make("CartPole-v1"), policy)
    env.close()
    InterpretWrapper(gym.make("CartPole-v1"), policy, quiet=True).close()
    captured = capsys.readouterr()
    expected = f'agentwrap: streaming CartPole-v1 on {env.endpoint} - run "agentwrap view" to look\n'
    assert (captured.out, captured.err) == ("", expected)


def test_nothing_is_warned_of_where_all_is_well(wrap: Wrap, listen: Listen, policy: nn.Module, agent: Any) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        env = wrap(policy, gym.make("CartPole-v1", render_mode="rgb_array"), strict=False)
        listener = listen(env)
        loop = agent(env, policy)
        listener.wait(Weights, between=loop.step)
        env.close()
    assert not [str(warning.message) for warning in caught if "agentwrap" in str(warning.message)]
