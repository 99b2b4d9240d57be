"""RLlib's env-to-module connectors: what the graph makes of raw observations is what the library made of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

pytest.importorskip("ray.rllib", exc_type=ImportError)

from ray.rllib.algorithms.ppo import PPOConfig  # noqa: E402
from ray.rllib.connectors.connector_v2 import ConnectorV2  # noqa: E402
from ray.rllib.connectors.env_to_module import FlattenObservations, MeanStdFilter  # noqa: E402
from ray.rllib.connectors.env_to_module.frame_stacking import FrameStackingEnvToModule  # noqa: E402
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig  # noqa: E402
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner  # noqa: E402
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner  # noqa: E402
from ray.rllib.examples.envs.classes.multi_agent import MultiAgentCartPole  # noqa: E402
from streams import arrived, listening  # noqa: E402

from agentwrap import PolicyTypeError  # noqa: E402
from agentwrap.policy import Preprocessed, view_policy  # noqa: E402
from agentwrap.rllib import InterpretRLlibCallback  # noqa: E402
from agentwrap.testing import check_policy  # noqa: E402
from agentwrap_protocol.messages import Hello, PolicyGraph, Step, Weights  # noqa: E402
from agentwrap_viewer.replica import Replica  # noqa: E402

OPTIONS = {"endpoint": "tcp://127.0.0.1:*", "fps": 1e6, "quiet": True, "strict": True, "weights_every": 1e-9}


class Pictures(gym.Env[Any, Any]):
    """Noise, which is brighter from step to step."""

    observation_space = gym.spaces.Box(0, 255, (16, 16, 1), np.float32)
    action_space = gym.spaces.Discrete(3)

    def __init__(self, config: Any = None) -> None:
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._picture(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        return self._picture(), 1.0, self._steps == 9, False, {}

    def _picture(self) -> Any:
        return (self.np_random.random((16, 16, 1)) * (20 * self._steps + 20)).astype(np.float32)


class Grid(Pictures):
    observation_space = gym.spaces.Box(-100, 100, (3,), np.int64)


class Mixed(gym.Env[Any, Any]):
    """A number of a choice and a vector."""

    observation_space = gym.spaces.Dict(
        {"vector": gym.spaces.Box(-1, 1, (3,), np.float32), "choice": gym.spaces.Discrete(4)}
    )
    action_space = gym.spaces.Discrete(2)

    def __init__(self, config: Any = None) -> None:
        self.observation_space.seed(0)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 1.0, False, False, {}


FOUR = partial(FrameStackingEnvToModule, num_frames=4)
PIPELINES: dict[str, tuple[Any, Callable[[], list[Any]]]] = {
    "filter": ("CartPole-v1", lambda: [MeanStdFilter()]),
    "mean alone": ("Pendulum-v1", lambda: [MeanStdFilter(de_std_to_one=False, clip_by_value=1.0)]),
    "flatten, filter": (Mixed, lambda: [FlattenObservations(), MeanStdFilter()]),
    "frames": (Pictures, lambda: [FOUR()]),
    "filter, frames": (Pictures, lambda: [MeanStdFilter(), FOUR()]),
}


def configured(env: Any, connectors: Callable[[], list[Any]], **options: Any) -> Any:
    model = DefaultModelConfig(conv_filters=[[4, 4, 2], [8, 4, 2]], fcnet_hiddens=[16])
    return (
        PPOConfig()
        .environment(env)
        .env_runners(env_to_module_connector=lambda env, spaces, device: connectors(), **options)
        .rl_module(model_config=model)
        .callbacks(partial(InterpretRLlibCallback, **OPTIONS))
    )


@pytest.mark.parametrize("envs", [1, 3])
@pytest.mark.parametrize("name", PIPELINES)
def test_the_graph_makes_of_raw_observations_what_connectors_and_module_make(name: str, envs: int) -> None:
    env, connectors = PIPELINES[name]
    runner = SingleAgentEnvRunner(config=configured(env, connectors, num_envs_per_env_runner=envs), worker_index=1)
    try:
        runner.sample(num_timesteps=1)
        # what a filter has cut off cannot be taken out of its statistics again, of the other environments' rows
        explained = compared(runner, runner.env.unwrapped.envs[0].endpoint, cut=name == "mean alone" and envs > 1)
    finally:
        runner.stop()
    frames = "input/state/frames" in explained[0].arrays
    assert frames == ("frames" in name)
    first = gym.spaces.flatten_space(runner.env.single_observation_space).shape
    observation = {key: a for key, a in explained[0].arrays.items() if key.split("/")[0] == "observation"}
    assert frames is False or sum(a.size for a in observation.values()) == first[0]  # as the environment returned it


def test_of_environments_in_processes_of_their_own_each_is_known_with_its_statistics() -> None:
    config = configured(
        "CartPole-v1", lambda: [MeanStdFilter()], num_envs_per_env_runner=3, gym_env_vectorize_mode="async"
    )
    runner = SingleAgentEnvRunner(config=config, worker_index=1)
    try:
        runner.sample(num_timesteps=1)
        runner.env.env._stream.wanted = 1  # as if a viewer had chosen it
        assert {step.environment for step in compared(runner, runner.env.env.endpoint)} == {1}
    finally:
        runner.stop()


def several_agents(*, shared: bool, envs: int) -> Any:
    return (
        configured(MultiAgentCartPole, lambda: [MeanStdFilter(multi_agent=True)], num_envs_per_env_runner=envs)
        .environment(MultiAgentCartPole, env_config={"num_agents": 2})
        .multi_agent(
            policies={"p0"} if shared else {"p0", "p1"},
            policy_mapping_fn=lambda agent, episode, **kwargs: "p0" if shared else f"p{agent}",
        )
    )


@pytest.mark.parametrize(("shared", "envs", "agent"), [(False, 2, 0), (True, 1, 0), (True, 2, 0), (True, 2, 1)])
def test_of_several_agents_each_is_known_with_its_statistics(shared: bool, envs: int, agent: int) -> None:
    watched = partial(InterpretRLlibCallback, agent=agent, **OPTIONS)
    runner = MultiAgentEnvRunner(config=several_agents(shared=shared, envs=envs).callbacks(watched), worker_index=1)
    try:
        runner.sample(num_timesteps=4)
        compared(runner, runner.env.unwrapped.envs[0].endpoint)
    finally:
        runner.stop()


def compared(runner: Any, endpoint: str, *, cut: bool = False) -> list[Step]:
    """Have a runner act until twenty steps can be compared with the replica of their version; return all received."""
    steps: list[Step] = []
    policies: dict[int, Weights] = {}
    graph = None
    deadline = time.monotonic() + 120
    with listening(endpoint) as socket:
        while sum(step.policy_version in policies for step in steps) < 20:  # of weights only the newest arrive
            assert time.monotonic() < deadline, f"{len(steps)} steps"
            runner.sample(num_timesteps=2, explore=True)
            for message in arrived(socket):
                if isinstance(message, PolicyGraph):
                    graph = message
                elif isinstance(message, Weights):
                    policies[message.policy_version] = message
                elif isinstance(message, Step) and message.policy_version:
                    steps.append(message)
                elif isinstance(message, Hello):
                    assert message.policy.problem is None, message.policy.problem
    assert graph is not None
    for step in (step for step in steps if step.policy_version in policies):
        replica = Replica.from_messages(graph, policies[step.policy_version])
        computed = replica(replica.inputs_from_step(step.arrays))
        for output in ("logits", "mean", "latent"):
            if f"output/{output}" in step.arrays:
                found, wanted = computed[output][0].numpy(), step.arrays[f"output/{output}"]
                assert np.allclose(found, wanted, atol=1e-5, rtol=1e-5), (output, found, wanted)
    # nearly all steps were recognised, not a few by chance; not where another's episode ends, of several agents
    numbers = [step.step for step in steps]
    assert cut or len(numbers) > 0.75 * (numbers[-1] - numbers[0] + 1), numbers
    return steps


@pytest.mark.parametrize("name", PIPELINES)
def test_a_policy_with_its_connectors_passes_the_contract(name: str) -> None:
    env, connectors = PIPELINES[name]
    runner = SingleAgentEnvRunner(config=configured(env, connectors).callbacks(None), worker_index=1)
    try:
        runner.sample(num_timesteps=20)
        policy = Preprocessed(runner.module, runner._env_to_module)
        report = check_policy(policy, runner.env.unwrapped.envs[0].unwrapped)
    finally:
        runner.stop()
    assert report.passed, str(report)
    assert ("state/frames becomes state/frames" in str(report)) == ("frames" in name)


class Darker(ConnectorV2):  # type: ignore[misc]
    def __call__(self, *, batch: Any, **kwargs: Any) -> Any:
        return batch


@pytest.mark.parametrize(
    ("env", "connectors", "says"),
    [
        ("CartPole-v1", lambda: [Darker()], "the connector Darker stands between"),
        (Grid, lambda: [MeanStdFilter()], "only arrays of floats"),
        (Pictures, lambda: [FOUR(), MeanStdFilter()], "MeanStdFilter comes after FrameStacking"),
    ],
)
def test_what_cannot_be_followed_is_refused_in_words(env: Any, connectors: Any, says: str) -> None:
    runner = SingleAgentEnvRunner(config=configured(env, connectors).callbacks(None), worker_index=1)
    try:
        policy = Preprocessed(runner.module, runner._env_to_module)
        with pytest.raises(PolicyTypeError, match=says):
            view_policy(policy, runner.env.unwrapped.envs[0].unwrapped)
    finally:
        runner.stop()


def test_what_no_adapter_knows_is_refused() -> None:
    with pytest.raises(PolicyTypeError, match="no adapter knows what list does before a policy of type Linear"):
        view_policy(Preprocessed(torch.nn.Linear(4, 2), []), gym.make("CartPole-v1"))
