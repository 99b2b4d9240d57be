"""RLlib's modules and env runners; skipped where RLlib is not installed, `make test` runs it where it is."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
import zmq

pytest.importorskip("ray.rllib", exc_type=ImportError)

from ray.rllib.algorithms.dqn import DQNConfig  # noqa: E402
from ray.rllib.algorithms.ppo import PPOConfig  # noqa: E402
from ray.rllib.algorithms.sac import SACConfig  # noqa: E402
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig  # noqa: E402
from ray.rllib.core.rl_module.rl_module import RLModuleSpec  # noqa: E402
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule  # noqa: E402
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner  # noqa: E402
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner  # noqa: E402
from ray.rllib.examples.envs.classes.multi_agent import MultiAgentCartPole  # noqa: E402

from agentwrap import PolicyTypeError  # noqa: E402
from agentwrap.policy import view_policy  # noqa: E402
from agentwrap.rllib import InterpretRLlibCallback  # noqa: E402
from agentwrap.testing import check_policy  # noqa: E402
from agentwrap_protocol import decode  # noqa: E402
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
        (lambda: configured(SACConfig, "Pendulum-v1"), False, "mean, log_std, latent"),
        (lambda: configured(SACConfig, "CartPole-v1"), True, "logits, latent"),
    ],
)
def test_what_is_seen_what_is_exported_and_what_the_library_does_agree(
    config: Any, inference_only: bool, outputs: str
) -> None:
    env = gym.make(config().env)
    report = check_policy(module(config(), env, inference_only=inference_only), env)
    assert report.passed and f"exported: {outputs}" in report.lines, str(report)
    assert "not compared" not in str(report)


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


def test_several_agents_are_not_streamed_and_a_warning_says_so() -> None:
    config = (
        PPOConfig()
        .environment(MultiAgentCartPole, env_config={"num_agents": 2})
        .multi_agent(policies={"p"}, policy_mapping_fn=lambda agent, episode, **kwargs: "p")
        .callbacks(InterpretRLlibCallback)
    )
    runner = MultiAgentEnvRunner(config=config)
    try:
        with pytest.warns(UserWarning, match=r"several agents act.*get_module\(id\)"):
            assert runner.sample(num_timesteps=4)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "agentwrap")
            runner.sample(num_timesteps=400)  # once is enough
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


def received(endpoint: str, meanwhile: Any) -> dict[type, Any]:
    """Return one message of each kind that is wanted; of steps one with outputs."""
    found: dict[type, Any] = {}
    deadline = time.monotonic() + 180
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.connect(endpoint)
        for kind in (Hello, Step, PolicyGraph, Weights):
            socket.subscribe(kind.kind)
        while not {Hello, Step, PolicyGraph, Weights} <= found.keys():
            assert time.monotonic() < deadline, f"of what was to come there is only {list(found)}"
            meanwhile()
            while socket.poll(50):
                message = decode(socket.recv_multipart())
                if not isinstance(message, Step) or any(name.startswith("output/") for name in message.arrays):
                    found[type(message)] = message
    return found
