"""RLlib's modules and env runners; skipped where RLlib is not installed, `make test` runs it where it is."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import zmq

pytest.importorskip("ray.rllib", exc_type=ImportError)

from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule  # noqa: E402
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig  # noqa: E402
from ray.rllib.core.rl_module.rl_module import RLModuleSpec  # noqa: E402

from agentwrap import PolicyTypeError  # noqa: E402
from agentwrap.policy import view_policy  # noqa: E402
from agentwrap.testing import check_policy  # noqa: E402
from agentwrap_protocol import decode  # noqa: E402
from agentwrap_protocol.messages import Hello, PolicyGraph, Step  # noqa: E402

EXAMPLE = Path(__file__).parents[2] / "examples" / "rllib.py"


def module(env: gym.Env[Any, Any], *, inference_only: bool = False, **model: Any) -> Any:
    return RLModuleSpec(
        module_class=DefaultPPOTorchRLModule,
        observation_space=env.observation_space,
        action_space=env.action_space,
        model_config=DefaultModelConfig(**model),
        inference_only=inference_only,
    ).build()


@pytest.mark.parametrize(
    ("name", "options", "outputs"),
    [
        ("CartPole-v1", {}, "logits, value, latent"),
        ("CartPole-v1", {"vf_share_layers": False}, "logits, value, latent"),
        ("CartPole-v1", {"inference_only": True}, "logits, latent"),
        ("Pendulum-v1", {"inference_only": True}, "mean, log_std, latent"),
    ],
)
def test_what_is_seen_and_what_is_exported_agree(name: str, options: dict[str, Any], outputs: str) -> None:
    env = gym.make(name)
    report = check_policy(module(env, **options), env)
    assert report.passed and f"exported: {outputs}" in str(report), str(report)


def test_what_cannot_be_watched_is_refused_in_words() -> None:
    env = gym.make("CartPole-v1")
    with pytest.raises(PolicyTypeError, match="recurrent"):
        view_policy(module(env, use_lstm=True, max_seq_len=4), env)
    with pytest.raises(PolicyTypeError, match="connectors"):
        view_policy(module(env), gym.make("FrozenLake-v1"))


def test_an_env_runner_in_another_process_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    command = [sys.executable, str(EXAMPLE), "--iterations", "40", "--batch", "500"]
    example = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        announced = awaited(example, lambda: sorted((tmp_path / "agentwrap" / "streams").glob("*.json")))
        stream = json.loads(announced[0].read_text())
        assert stream["pid"] != example.pid
        messages = received(stream["endpoint"], example)
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
        assert example.poll() is None and time.monotonic() < deadline, (
            example.stdout.read() if example.poll() else "late"
        )
        time.sleep(0.1)
    return found


def received(endpoint: str, example: Any) -> dict[type, Any]:
    """Return one message of each kind that is wanted; of steps one with outputs."""
    found: dict[type, Any] = {}
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.connect(endpoint)
        for kind in (Hello, Step, PolicyGraph):
            socket.subscribe(kind.kind)

        def look() -> bool:
            while socket.poll(50):
                message = decode(socket.recv_multipart())
                if not isinstance(message, Step) or "output/logits" in message.arrays:
                    found[type(message)] = message
            return {Hello, Step, PolicyGraph} <= found.keys()

        awaited(example, look)
    return found
