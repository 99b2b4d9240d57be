"""RLlib's modules and env runners; skipped where RLlib is not installed, `make test` runs it where it is."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

pytest.importorskip("ray.rllib", exc_type=ImportError)

from ray.rllib.algorithms.dqn import DQNConfig  # noqa: E402
from ray.rllib.algorithms.ppo import PPOConfig  # noqa: E402
from ray.rllib.algorithms.sac import SACConfig  # noqa: E402
from ray.rllib.connectors.env_to_module import FlattenObservations  # noqa: E402
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig  # noqa: E402
from ray.rllib.core.rl_module.rl_module import RLModuleSpec  # noqa: E402
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule  # noqa: E402
from ray.rllib.env.multi_agent_env import MultiAgentEnv  # noqa: E402
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner  # noqa: E402
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner  # noqa: E402
from ray.rllib.examples.envs.classes.multi_agent import MultiAgentCartPole  # noqa: E402
from streams import received  # noqa: E402

from agentwrap import PolicyTypeError  # noqa: E402
from agentwrap.policy import view_policy  # noqa: E402
from agentwrap.rllib import InterpretRLlibCallback  # noqa: E402
from agentwrap.testing import check_policy  # noqa: E402
from agentwrap_protocol.messages import Hello, PolicyGraph, Step, Weights  # noqa: E402
from agentwrap_viewer.replica import Replica  # noqa: E402

EXAMPLE = Path(__file__).parents[2] / "examples" / "rllib.py"


DISTRIBUTIONAL = {"num_atoms": 5, "v_min": -5.0, "v_max": 5.0}
LSTM = {"use_lstm": True, "max_seq_len": 4, "lstm_cell_size": 8}


def configured(algorithm: Any, env: str, model: dict[str, Any] | None = None, **training: Any) -> Any:
    config = algorithm().environment(env).training(**training)
    return config.rl_module(model_config=DefaultModelConfig(**model)) if model else config


def module(config: Any, env: gym.Env[Any, Any], *, inference_only: bool = True) -> Any:
    return config.get_rl_module_spec(env=env, inference_only=inference_only).build()


@pytest.mark.parametrize(
    ("config", "inference_only", "outputs"),
    [
        (lambda: configured(PPOConfig, "CartPole-v1"), False, "logits, value, latent"),
        (lambda: configured(PPOConfig, "CartPole-v1", {"vf_share_layers": False}), False, "logits, value, latent"),
        (lambda: configured(PPOConfig, "CartPole-v1"), True, "logits, latent"),
        (lambda: configured(PPOConfig, "Pendulum-v1"), True, "mean, log_std, latent"),
        (lambda: configured(DQNConfig, "CartPole-v1"), True, "q_values, latent"),
        (lambda: configured(DQNConfig, "CartPole-v1", dueling=False), False, "q_values, latent"),
        (lambda: configured(DQNConfig, "CartPole-v1", **DISTRIBUTIONAL), True, "q_values, latent"),
        (lambda: configured(SACConfig, "Pendulum-v1"), True, "mean, log_std, latent"),
        (lambda: configured(SACConfig, "Pendulum-v1"), False, "mean, log_std, state_action_value, latent"),
        (lambda: configured(SACConfig, "CartPole-v1"), True, "logits, latent"),
        (lambda: configured(SACConfig, "CartPole-v1"), False, "logits, state_action_value, latent"),
    ],
)
def test_what_is_seen_what_is_exported_and_what_the_library_does_agree(
    config: Any, inference_only: bool, outputs: str
) -> None:
    env = gym.make(config().env)
    report = check_policy(module(config(), env, inference_only=inference_only), env)
    assert report.passed and f"exported: {outputs}" in report.lines, str(report)
    assert "not compared" not in str(report)


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "CartPole-v1"])
def test_the_critic_rates_the_action_that_is_taken(env_id: str) -> None:
    env = gym.make(env_id)
    policy = module(configured(SACConfig, env_id), env, inference_only=False)
    view = view_policy(policy, env)
    observation = torch.as_tensor(env.reset(seed=0)[0])[None]
    rated = view.module(observation)["state_action_value"]
    batch = {"obs": observation}
    inputs = policy.forward_inference(batch)["action_dist_inputs"]
    if env_id == "Pendulum-v1":
        taken = policy.get_inference_action_dist_cls().from_logits(inputs).to_deterministic().sample().tanh()
        wanted = torch.min(
            *(
                head(encoder({**batch, "actions": taken})["encoder_out"])
                for encoder, head in ((policy.qf_encoder, policy.qf), (policy.qf_twin_encoder, policy.qf_twin))
            )
        )[:, 0]
    else:
        wanted = policy.compute_q_values(batch, squeeze=False)[:, int(inputs.argmax())]
    assert torch.allclose(rated, wanted)


class BothModule(TorchRLModule):
    """Takes a picture and a vector as they are."""

    def setup(self) -> None:
        self.eye = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.LazyLinear(4))
        self.ear = torch.nn.Linear(3, 4)
        self.encoder = torch.nn.Identity()
        self.pi = torch.nn.Linear(8, 2)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        seen, heard = self.eye(batch["obs"]["picture"]), self.ear(batch["obs"]["vector"])
        return {"action_dist_inputs": self.pi(self.encoder(torch.cat([seen, heard], dim=1)))}


class Both(gym.Env[Any, Any]):
    observation_space = gym.spaces.Dict(
        {"picture": gym.spaces.Box(0, 255, (1, 8, 8), np.uint8), "vector": gym.spaces.Box(-1, 1, (3,), np.float32)}
    )
    action_space = gym.spaces.Discrete(2)

    def __init__(self, config: Any = None) -> None:
        self.observation_space.seed(0)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 1.0, False, False, {}


def test_dict_observations_of_a_module_that_takes_them() -> None:
    both = RLModuleSpec(BothModule, observation_space=Both.observation_space, action_space=Both.action_space).build()
    both.eye(torch.zeros(1, 1, 8, 8))  # makes its lazy layer
    report = check_policy(both, Both())
    assert report.passed and "exported: logits, latent" in report.lines, str(report)


@pytest.mark.parametrize(
    ("config", "state"),
    [
        (lambda: configured(PPOConfig, "CartPole-v1", LSTM), "hidden"),
        (lambda: configured(PPOConfig, "Pendulum-v1", LSTM), "cell"),
        (lambda: configured(PPOConfig, "CartPole-v1", {**LSTM, "vf_share_layers": False}), "critic/hidden"),
        (lambda: configured(DQNConfig, "CartPole-v1", LSTM), "cell"),
    ],
)
def test_the_state_of_a_recurrent_module_is_seen_and_carried_on(config: Any, state: str) -> None:
    env = gym.make(config().env)
    report = check_policy(module(config(), env), env, steps=4)
    assert report.passed and f"state/{state} becomes state/{state}" in str(report), str(report)


def test_what_cannot_be_watched_is_refused_in_words() -> None:
    class Own(TorchRLModule):
        def setup(self) -> None:
            self.layer = torch.nn.Linear(4, 2)

    env = gym.make("CartPole-v1")
    own = RLModuleSpec(Own, observation_space=env.observation_space, action_space=env.action_space).build()
    with pytest.raises(PolicyTypeError, match="Own has no encoder with pi.*or af.*register_adapter"):
        view_policy(own, env)
    with pytest.raises(PolicyTypeError, match=r"observations are Box.*\(3,\).*takes Box.*\(4,\)"):
        view_policy(module(configured(PPOConfig, "CartPole-v1"), env), gym.make("Pendulum-v1"))
    with pytest.raises(PolicyTypeError, match="connectors"):
        view_policy(module(configured(PPOConfig, "CartPole-v1"), env), gym.make("FrozenLake-v1"))


@pytest.mark.parametrize(
    ("config", "mode"),
    [
        (lambda: configured(DQNConfig, "CartPole-v1"), "sync"),
        (lambda: configured(SACConfig, "Pendulum-v1"), "sync"),
        (lambda: configured(PPOConfig, "CartPole-v1", LSTM), "sync"),
        (lambda: configured(PPOConfig, "CartPole-v1"), "async"),
        (lambda: configured(PPOConfig, "CartPole-v1", LSTM), "async"),
    ],
)
def test_what_an_env_runner_does_is_streamed(config: Any, mode: str) -> None:
    options = partial(InterpretRLlibCallback, endpoint="tcp://127.0.0.1:*", fps=1e6, quiet=True, strict=True)
    config = config().env_runners(num_envs_per_env_runner=2, gym_env_vectorize_mode=mode).callbacks(options)
    runner = SingleAgentEnvRunner(config=config, worker_index=1)
    try:
        before = len(runner.sample(num_timesteps=4))
        wrapper = runner.env.env if mode == "async" else runner.env.unwrapped.envs[0]
        messages = received(wrapper.endpoint, lambda: runner.sample(num_timesteps=4, explore=True))
    finally:
        runner.stop()
    assert before and messages[Hello].name == f"{config.env}, env runner 1"
    step = messages[Step]
    replica = Replica.from_messages(messages[PolicyGraph], messages[Weights])
    computed = replica(replica.inputs_from_step(step.arrays))
    outputs = {name.removeprefix("output/"): a for name, a in step.arrays.items() if name.startswith("output/")}
    assert outputs.keys() >= {"latent"} and len(outputs) >= 2
    for name, array in outputs.items():
        assert np.allclose(computed[name][0].numpy(), array, atol=1e-4), name
    assert ("input/state/hidden" in step.arrays) == config.model_config.get("use_lstm", False)


class Mixed(Both):
    """A number of a choice and a vector."""

    observation_space = gym.spaces.Dict(
        {"vector": gym.spaces.Box(-1, 1, (3,), np.float32), "choice": gym.spaces.Discrete(4)}
    )


@pytest.mark.parametrize("env", [Mixed, "FrozenLake-v1"])
def test_what_flatten_observations_makes_of_dicts_and_numbers_is_followed(env: Any) -> None:
    options = partial(InterpretRLlibCallback, **OPTIONS)
    config = PPOConfig().environment(env).callbacks(options)
    config.env_runners(env_to_module_connector=lambda env, spaces, device: FlattenObservations())
    runner = SingleAgentEnvRunner(config=config, worker_index=1)
    try:
        runner.sample(num_timesteps=2)
        wrapper = runner.env.unwrapped.envs[0]
        report = check_policy(runner.module, wrapper.unwrapped)
        assert report.passed, str(report)
        messages = received(wrapper.endpoint, lambda: runner.sample(num_timesteps=4, explore=True))
    finally:
        runner.stop()
    step, replica = messages[Step], Replica.from_messages(messages[PolicyGraph], messages[Weights])
    computed = replica(replica.inputs_from_step(step.arrays))["logits"][0].numpy()
    assert np.allclose(computed, step.arrays["output/logits"], atol=1e-4)


OPTIONS = {"endpoint": "tcp://127.0.0.1:*", "fps": 1e6, "quiet": True, "strict": True}


def several(env: Any = MultiAgentCartPole, **options: Any) -> Any:
    """Two agents, each with a module of its own."""
    return (
        PPOConfig()
        .environment(env, env_config={"num_agents": 2})
        .multi_agent(policies={"p0", "p1"}, policy_mapping_fn=lambda agent, episode, **kwargs: f"p{agent}")
        .env_runners(num_envs_per_env_runner=2)
        .callbacks(partial(InterpretRLlibCallback, **{**OPTIONS, **options}))
    )


@pytest.mark.parametrize(
    ("options", "shown"),
    [({}, (0, "p0")), ({"module": "p1"}, (1, "p1")), ({"agent": 1}, (1, "p1"))],
)
def test_one_of_several_agents_is_streamed_with_its_module(options: dict[str, Any], shown: tuple[Any, Any]) -> None:
    runner = MultiAgentEnvRunner(config=several(**options), worker_index=1)
    try:
        runner.sample(num_timesteps=4)
        env = runner.env.unwrapped.envs[0]
        assert (env.agent, env.module) == shown
        messages = received(env.endpoint, lambda: runner.sample(num_timesteps=8, explore=True))
        module = runner.module[env.module]
    finally:
        runner.stop()
    assert messages[Hello].name.endswith(f"agent {shown[0]}, module {shown[1]}, env runner 1")
    step, outputs = messages[Step], module.forward_inference
    observation = torch.tensor(step.arrays["observation"])[None]
    computed = outputs({"obs": observation})["action_dist_inputs"][0].detach()
    assert np.allclose(step.arrays["output/logits"], computed, atol=1e-5)
    replica = Replica.from_messages(messages[PolicyGraph], messages[Weights])
    assert np.allclose(replica(replica.inputs_from_step(step.arrays))["logits"][0], computed, atol=1e-4)


class Turns(MultiAgentEnv):
    """Two agents act in turns; each gets 1 for its own action and 0.5 for the other's."""

    def __init__(self, config: Any = None) -> None:
        super().__init__()
        self.possible_agents = self.agents = [0, 1]
        self.observation_spaces = dict.fromkeys(self.agents, gym.spaces.Box(-100, 100, (1,), np.float32))
        self.action_spaces = dict.fromkeys(self.agents, gym.spaces.Discrete(2))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.moves = 0
        return self._seen(), {}

    def step(self, action_dict: Any) -> Any:
        (mover,) = action_dict
        self.moves += 1
        over = {"__all__": self.moves == 6}
        return self._seen(), {mover: 1.0, 1 - mover: 0.5}, over, {"__all__": False}, {}

    def _seen(self) -> dict[int, Any]:
        return {self.moves % 2: np.array([self.moves], np.float32)}


def test_a_step_of_an_agent_that_acts_in_turns_lasts_until_it_acts_again() -> None:
    runner = MultiAgentEnvRunner(config=several(Turns).env_runners(num_envs_per_env_runner=1), worker_index=1)
    ends: list[tuple[float, int]] = []
    try:
        for _ in range(3):
            runner.sample(num_episodes=1)
            stream = runner.env.unwrapped.envs[0]._stream
            newest = stream._episodes.arrays()
            ends.append((float(newest["episodes/return"][-1]), int(newest["episodes/length"][-1])))
    finally:
        runner.stop()
    assert ends == [(4.5, 3)] * 3  # three moves of its own, three of the other's


def test_modules_and_agents_that_are_not_there_are_refused_by_name() -> None:
    for options, said in (({"module": "q"}, r"module='q'.*'p0'"), ({"agent": 7}, r"agent=7.*\[0, 1\]")):
        runner = MultiAgentEnvRunner(config=several(**options), worker_index=1)
        try:
            with pytest.raises(ValueError, match=said):
                runner.sample(num_timesteps=1)
        finally:
            runner.stop()


def test_an_env_runner_in_another_process_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    command = [sys.executable, str(EXAMPLE), "--iterations", "40", "--batch", "500"]
    example = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        announced = awaited(example, lambda: sorted((tmp_path / "agentwrap" / "streams").glob("*.json")))
        stream = json.loads(announced[0].read_text())
        assert stream["pid"] != example.pid
        messages = received(stream["endpoint"], lambda: running(example))
    finally:
        example.terminate()
        example.wait(60)
    assert messages[Hello].name == "CartPole-v1, env runner 1"
    assert messages[Step].arrays["output/logits"].shape == (2,)
    assert messages[Step].arrays["observation"].dtype == np.float32
    assert [given.name for given in messages[PolicyGraph].graph.inputs] == ["observation"]


def awaited(example: Any, look: Any) -> Any:
    deadline = time.monotonic() + 180
    while not (found := look()):
        running(example)
        assert time.monotonic() < deadline, "late"
        time.sleep(0.1)
    return found


def running(example: Any) -> None:
    assert example.poll() is None, example.stdout.read()
