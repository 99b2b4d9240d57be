"""``InterpretVectorWrapper``: one of several environments is watched, and the episodes of each are right."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from listener import Listener, eventually
from recordings import messages_in, steps_in
from torch import nn

from agentwrap import InterpretVectorWrapper, InterpretWrapper
from agentwrap_protocol.messages import Environments, EpisodeEnd, Hello, PolicyGraph, Step, Watch

REQUESTER = "0" * 32


class Witness(gym.Wrapper[Any, Any, Any, Any]):
    """Counts the episodes of one environment by what the library itself does with it."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.episodes: list[tuple[float, int]] = []
        self.rendered = 0
        self._rewards: list[float] = []

    def reset(self, **options: Any) -> Any:
        self._rewards = []
        return self.env.reset(**options)

    def step(self, action: Any) -> Any:
        result = self.env.step(action)
        self._rewards.append(result[1] + (action == 1) / 4)  # so that a return is not simply the length
        if result[2] or result[3]:
            self.episodes.append((sum(self._rewards), len(self._rewards)))
        return result[0], self._rewards[-1], *result[2:]

    def render(self) -> Any:
        self.rendered += 1
        return np.full((4, 6, 3), 7, np.uint8)


def cart_poles(count: int, mode: AutoresetMode = AutoresetMode.NEXT_STEP) -> tuple[SyncVectorEnv, list[Witness]]:
    witnesses = [Witness(gym.make("CartPole-v1", render_mode="rgb_array", max_episode_steps=30)) for _ in range(count)]
    return SyncVectorEnv([lambda each=each: each for each in witnesses], autoreset_mode=mode), witnesses


class Loop:
    """A user's loop: calls the policy with the observations of all."""

    def __init__(self, envs: Any, policy: Callable[[torch.Tensor], Any], mode: AutoresetMode | None = None) -> None:
        self.envs, self.policy, self.mode = envs, policy, mode
        self.observations, _ = envs.reset(seed=3)
        self.random = np.random.default_rng(0)

    def step(self, count: int = 1) -> None:
        for _ in range(count):
            with torch.no_grad():
                self.policy(torch.as_tensor(self.observations))
            actions = self.random.integers(0, self.envs.single_action_space.n, self.envs.num_envs)
            self.observations, _, terminated, truncated, _ = self.envs.step(actions)
            if self.mode is AutoresetMode.DISABLED and (terminated | truncated).any():
                self.observations, _ = self.envs.reset(options={"reset_mask": terminated | truncated})


@pytest.fixture
def wrap_all(stack: ExitStack) -> Callable[..., InterpretVectorWrapper]:
    def wrap_all(envs: Any, policy: Any, **options: Any) -> InterpretVectorWrapper:
        wrapped = InterpretVectorWrapper(envs, policy, **{"strict": True, "quiet": True, **options})
        stack.callback(wrapped.close)
        return wrapped

    return wrap_all


def ends_in(envs: InterpretVectorWrapper) -> list[tuple[float, int]]:
    """Episodes that hello tells of."""
    arrays = envs._stream._hello(None).arrays
    return list(zip(arrays["episodes/return"].tolist(), arrays["episodes/length"].tolist(), strict=True))


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("mode", AutoresetMode)
def test_returns_and_lengths_are_those_of_each_environment_however_it_is_reset(
    mode: AutoresetMode, watched: bool, wrap_all: Any, listen: Any, policy: Any
) -> None:
    inner, witnesses = cart_poles(5, mode)
    envs = wrap_all(inner, policy, environment=2)
    if watched:
        listener = listen(envs, "hello", "step", "episode_end", "policy_graph")
    Loop(envs, policy, mode).step(200)
    tally = envs._tally
    assert all(len(witness.episodes) > 3 for witness in witnesses)
    assert tally.episodes.tolist() == [len(witness.episodes) for witness in witnesses]
    assert tally.last.tolist() == [witness.episodes[-1][0] for witness in witnesses]
    over = np.zeros(5, bool) if tally.resetting is None else tally.resetting
    for witness, length, running, done in zip(witnesses, tally.lengths, tally.running, over, strict=True):
        if not done:
            assert (length, running) == (len(witness._rewards), sum(witness._rewards))
    assert ends_in(envs) == witnesses[2].episodes
    if watched:
        last = witnesses[2].episodes[-1]
        listener.wait(EpisodeEnd, lambda end: (end.episode_return, end.length) == last)
        assert {each.environment for each in listener.of(Step)} == {2}


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_ales_own_vector_environment_counts_alike(mode: str, wrap_all: Any) -> None:
    import ale_py

    gym.register_envs(ale_py)
    policy = nn.Sequential(nn.Flatten(), nn.LazyLinear(6))
    made = gym.make_vec("ALE/Pong-v5", num_envs=3, autoreset_mode=mode, max_num_frames_per_episode=120)
    envs = wrap_all(made, policy, environment=1)
    assert envs._stream._hello(None).action_meanings[:2] == ("NOOP", "FIRE")
    observations, _ = envs.reset(seed=0)
    ended = [0] * 3
    for step in range(150):
        observations, _, terminated, truncated, _ = envs.step(np.full(3, 2 + step % 2))
        done = terminated | truncated
        ended = [count + bool(each) for count, each in zip(ended, done, strict=True)]
    assert min(ended) > 2 and envs._tally.episodes.tolist() == ended
    assert {length for _, length in ends_in(envs)} == {30}  # four frames each
    assert observations.shape == (3, 4, 84, 84)


def test_a_step_holds_the_row_of_the_environment_that_is_shown(wrap_all: Any, policy: Any, tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    inner, witnesses = cart_poles(4)
    envs = wrap_all(inner, policy, record=path, environment=1)
    loop, rows = Loop(envs, policy), []
    for number in range(120):
        if number == 50:
            request = Watch(stream=REQUESTER, source=envs.stream, environment=3)
            assert envs._stream._watch(request) is None
        resetting = envs._tally.resetting
        shown = 1 if number < 50 else 3
        if resetting is None or not resetting[shown]:
            rows.append((shown, np.array(loop.observations[shown])))
        loop.step()
    envs.close()
    steps = steps_in(path)
    assert len(steps) == len(rows)
    for each, (shown, observation) in zip(steps, rows, strict=True):
        assert each.environment == shown
        assert each.arrays["observation"].tobytes() == observation.tobytes()
        assert each.arrays["frame"].shape == (4, 6, 3)
        with torch.no_grad():
            logits, value = policy(torch.as_tensor(observation)[None])
        assert np.allclose(each.arrays["output/logits"], logits[0], atol=1e-6)
        assert each.arrays["output/value"] == pytest.approx(value.item(), abs=1e-6)
        assert each.arrays["output/latent"].shape == (16,) and each.arrays["action"].shape == ()
    assert [witness.rendered for witness in witnesses] == [
        0,
        sum(s == 1 for s, _ in rows),
        0,
        sum(s == 3 for s, _ in rows),
    ]
    switched = next(each for each in steps if each.environment == 3)
    before = steps[steps.index(switched) - 1]
    assert switched.episode >= before.episode and switched.step == before.step + 1
    graph = next(each for each in messages_in(path) if isinstance(each, PolicyGraph))
    assert graph.graph.inputs[0].shape[1:] == (4,)
    assert next(each for each in messages_in(path) if isinstance(each, Hello)).environments == 4


class Normed(nn.Module):
    """A policy with statistics and chance of its own, which looking on must leave alone."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


def test_the_agent_notices_nothing(wrap_all: Any, listen: Any) -> None:
    policy = Normed()
    played = []
    for wrapped in (False, True):
        torch.manual_seed(1)
        mine = copy.deepcopy(policy)
        inner, _ = cart_poles(3)
        envs = wrap_all(inner, mine) if wrapped else inner
        if wrapped:
            listen(envs, "step", "policy_graph", "weights")
        loop = Loop(envs, mine)
        seen = []
        for _ in range(60):
            loop.step()
            seen.append(loop.observations.tobytes())
        played.append((seen, {key: value.clone() for key, value in mine.state_dict().items()}, torch.rand(1)))
        assert mine.training
    (bare, state, chance), (watched, other_state, other_chance) = played
    assert bare == watched and torch.equal(chance, other_chance)
    assert all(torch.equal(state[key], other_state[key]) for key in state)


def test_viewers_choose_which_environment_is_shown(wrap_all: Any, listen: Any, policy: Any) -> None:
    inner, witnesses = cart_poles(6)
    envs = wrap_all(inner, policy)
    listener: Listener = listen(envs, "hello", "step", "environments")
    loop = Loop(envs, policy)
    loop.step(60)

    def ask(**what: Any) -> Any:
        return listener.request(Watch(stream=REQUESTER, source=what.pop("source", envs.stream), **what))

    assert ask(environment=4).ok
    listener.wait(Step, lambda step: step.environment == 4, between=loop.step)
    told = listener.wait(Environments, lambda message: message.shown == 4, between=loop.step)
    assert told.follow == "none" and told.arrays["length"].shape == (6,)
    assert "numbered from 0 to 5" in ask(environment=6).problem
    assert "not" in ask(source="f" * 32).problem
    assert ask(follow="best").ok
    best = listener.wait(Environments, lambda message: message.follow == "best", between=loop.step)
    listener.wait(Step, lambda step: step.environment == best.shown, between=loop.step)
    before = len(ends_in(envs))
    eventually(lambda: len(ends_in(envs)) > before, between=loop.step)
    last = [witness.episodes[-1][0] for witness in witnesses]
    assert last[envs._stream.wanted] == max(last)
    assert ask(follow="worst").ok and last[envs._stream.wanted] == min(last)
    assert ask(follow="newest").ok
    assert envs._tally.began[envs._stream.wanted] == max(envs._tally.began)


def test_an_environment_alone_says_how_it_does_too(wrap: Any, listen: Any, policy: Any, agent: Any) -> None:
    env = wrap(policy)
    listener = listen(env, "hello", "environments")
    player = agent(env, policy)
    message = listener.wait(Environments, lambda each: each.arrays["episodes"][0] > 1, between=player.step)
    assert {name: array.shape for name, array in message.arrays.items()} == {
        name: (1,) for name in ("episodes", "return", "running", "length")
    }
    assert message.arrays["return"][0] > 0
    watch = Watch(stream=REQUESTER, source=env.stream, environment=1)
    assert "numbered from 0 to 0" in (listener.request(watch).problem or "")


def test_environments_in_other_processes_show_their_own_pictures(wrap_all: Any, policy: Any, tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    made = gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="async", render_mode="rgb_array")
    envs = wrap_all(made, policy, record=path)
    loop = Loop(envs, policy)
    loop.step(2)
    envs._stream.wanted = 1
    loop.step()
    pictures = envs.render()
    loop.step()
    envs.close()
    last = steps_in(path)[-1]
    assert last.environment == 1
    assert np.array_equal(last.arrays["frame"], pictures[1])
    assert not np.array_equal(last.arrays["frame"], pictures[0])


def test_environments_made_of_functions_have_their_names(policy: Any) -> None:
    made = [lambda: gym.make("CartPole-v1")] * 2
    for envs, env_id, features in (
        (gym.vector.SyncVectorEnv(made), "CartPole-v1", 4),
        (gym.vector.AsyncVectorEnv(made), "AsyncVectorEnv", 0),  # to ask one about itself could end its process
    ):
        wrapped = InterpretVectorWrapper(envs, policy, quiet=True, endpoint="tcp://127.0.0.1:*", strict=True)
        try:
            hello = wrapped._stream._hello(None)
        finally:
            wrapped.close()
        assert hello.env_id == hello.name == env_id and len(hello.feature_names or ()) == features


def test_dict_observations_are_taken_apart(wrap_all: Any, tmp_path: Path) -> None:
    class Both(gym.ObservationWrapper[Any, Any, Any]):
        observation_space = gym.spaces.Dict(
            {"here": gym.spaces.Box(-9, 9, (4,), np.float32), "there": gym.spaces.Box(-9, 9, (1,), np.float32)}
        )

        def observation(self, observation: Any) -> Any:
            return {"here": observation, "there": observation[:1]}

    class Policy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(5, 2)

        def forward(self, x: dict[str, torch.Tensor]) -> torch.Tensor:
            return self.head(torch.cat([x["here"], x["there"]], dim=1))

    path, policy = tmp_path / "run.mcap", Policy()
    envs = wrap_all(SyncVectorEnv([lambda: Both(gym.make("CartPole-v1"))] * 3), policy, record=path, environment=2)
    observations, _ = envs.reset(seed=0)
    with torch.no_grad():
        logits = policy({key: torch.as_tensor(value) for key, value in observations.items()})
    envs.step(np.zeros(3, int))
    envs.close()
    (step,) = steps_in(path)
    assert step.arrays["observation/there"].tolist() == observations["there"][2].tolist()
    assert step.arrays["output/logits"].tolist() == logits[2].tolist()


class Recurrent(nn.Module):
    """A recurrent policy that the loop hands its state."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTM(4, 6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor, state: Any) -> Any:
        hidden, state = self.cell(x[None], state)
        return self.head(hidden[0]), state


def test_the_state_that_enters_a_step_is_that_of_the_environment(wrap_all: Any, tmp_path: Path) -> None:
    path, policy = tmp_path / "run.mcap", Recurrent()
    envs = wrap_all(SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 3), policy, record=path, environment=2)
    observations, _ = envs.reset(seed=0)
    state, entered = (torch.zeros(1, 3, 6), torch.zeros(1, 3, 6)), []
    for _ in range(4):
        entered.append([each[:, 2].clone() for each in state])
        with torch.no_grad():
            logits, state = policy(torch.as_tensor(observations), state)
        observations, *_ = envs.step(np.array([0, 1, 0]))
    envs.close()
    for each in steps_in(path):
        states = [array for name, array in each.arrays.items() if name.startswith("input/")]
        assert len(states) == 2
        for array, expected in zip(states, entered[each.step], strict=True):
            assert np.allclose(array.reshape(1, 6), expected, atol=1e-6)


class CleanRLAgent(nn.Module):
    """As CleanRL's ppo.py has it."""

    def __init__(self) -> None:
        super().__init__()
        self.critic = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        self.actor = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))

    def get_value(self, x: torch.Tensor) -> torch.Tensor:
        return self.critic(x)

    def get_action_and_value(self, x: torch.Tensor, action: torch.Tensor | None = None) -> Any:
        probs = torch.distributions.Categorical(logits=self.actor(x))
        action = probs.sample() if action is None else action
        return action, probs.log_prob(action), probs.entropy(), self.critic(x)


def test_a_cleanrl_agent_is_seen_in_a_hundred_environments(wrap_all: Any, tmp_path: Path) -> None:
    path, agent = tmp_path / "run.mcap", CleanRLAgent()
    envs = wrap_all(SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 100), agent, record=path, environment=77)
    observations, _ = envs.reset(seed=0)
    seen = []
    for _ in range(12):
        with torch.no_grad():
            action, _, _, value = agent.get_action_and_value(torch.as_tensor(observations))
            seen.append(agent.actor(torch.as_tensor(observations[77:78]))[0])
        observations, *_ = envs.step(action.numpy())
        agent.get_action_and_value(torch.as_tensor(observations[:64]))[1].mean().backward()  # learning, with gradients
    envs.close()
    steps = [each for each in messages_in(path) if isinstance(each, Step)]
    assert len(steps) >= 11
    for each in steps:
        assert torch.allclose(torch.as_tensor(np.array(each.arrays["output/logits"])), seen[each.step], atol=1e-5)


def test_what_cannot_be_watched_is_said(policy: Any) -> None:
    with pytest.raises(TypeError, match="VectorEnv"):
        InterpretVectorWrapper(gym.make("CartPole-v1"), policy)  # type: ignore[arg-type]
    envs, _ = cart_poles(2)
    with pytest.raises(TypeError, match="InterpretVectorWrapper"):
        InterpretWrapper(envs, policy)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="numbered from 0 to 1"):
        InterpretVectorWrapper(envs, policy, environment=2)
    with pytest.raises(ValueError, match="follow"):
        InterpretVectorWrapper(envs, policy, follow="oldest")  # type: ignore[arg-type]
    envs.close()
    from ale_py import AtariVectorEnv

    some = AtariVectorEnv("pong", num_envs=4, batch_size=2)
    with pytest.raises(ValueError, match="batch_size"):
        InterpretVectorWrapper(some, policy)
    some.close()


def test_copies_do_not_stream(wrap_all: Any, policy: Any) -> None:
    envs = wrap_all(cart_poles(2)[0], policy)
    assert type(copy.copy(envs)) is SyncVectorEnv
