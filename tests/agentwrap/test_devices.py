"""Whole runs of policies that compute elsewhere: what is seen, exported, probed and explained is as on the processor.

Each case runs on a GPU where there is one, and on the made-up device of `elsewhere` in any case. That one is for the
whole process, so it is tried in one of its own, which this file is too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from recordings import messages_in, steps_in
from sb3_contrib import QRDQN, MaskablePPO, RecurrentPPO
from sb3_models import Mixed, Pictures, make
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.envs import CatFrames, Compose, GymEnv, TransformedEnv, VecNorm
from torchrl.modules import LSTMModule, QValueActor

from agentwrap import InterpretVectorWrapper, InterpretWrapper
from agentwrap.module_box import ModuleBox
from agentwrap.policy import Preprocessed
from agentwrap.testing import check_policy
from agentwrap_protocol.messages import Hello, PolicyGraph, Weights
from agentwrap_viewer.replica import Replica
from agentwrap_viewer.saliency import explain

Case = Callable[[torch.device, Path], None]


class Seeing(nn.Module):
    """Logits and value of pictures (B, H, W, 4), which a buffer scales; exports."""

    def __init__(self) -> None:
        super().__init__()
        self.eye = nn.Sequential(nn.Conv2d(4, 4, 8, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 16), nn.ReLU())
        self.actor, self.critic = nn.Linear(16, 3), nn.Linear(16, 1)
        self.register_buffer("scale", torch.tensor([1 / 255] * 4))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.eye((x.to(self.actor.weight.dtype) * self.scale).permute(0, 3, 1, 2).contiguous())
        return self.actor(hidden), self.critic(hidden)


class Sorting(nn.Module):
    """Branches on what it sees, so that it is probed."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.head(row) * (1 if float(row.sum()) > 0 else 2) for row in x])


class Remembering(nn.Module):
    """Has memories that are kernels of their own on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.long, self.short, self.head = nn.LSTMCell(4, 6), nn.GRUCell(6, 6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor, state: Any) -> Any:
        hidden, cell = self.long(x, state[:2])
        short = self.short(hidden, state[2])
        return self.head(short), (hidden, cell, short)


class Both(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.eye, self.head = nn.Sequential(nn.Flatten(), nn.LazyLinear(8)), nn.Linear(11, 5)
        self.eye(torch.zeros(1, 36, 36, 4))

    def forward(self, observation: dict[str, torch.Tensor]) -> torch.Tensor:
        camera = self.eye(observation["camera"].float() / 255)
        return self.head(torch.cat([camera, observation["joints"]], 1))


class Agent(nn.Module):
    """As CleanRL has it, with a memory."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.lstm = nn.Linear(4, 6), nn.LSTM(6, 8)
        self.actor, self.critic = nn.Linear(8, 2), nn.Linear(8, 1)

    def get_action_and_value(self, x: torch.Tensor, state: Any, done: torch.Tensor, action: Any = None) -> Any:
        kept = (1 - done).view(1, -1, 1)
        hidden, state = self.lstm(self.network(x)[None], (kept * state[0], kept * state[1]))
        logits = self.actor(hidden[0])
        return logits.argmax(1), logits, logits, self.critic(hidden[0]), state


def on(device: torch.device, observation: Any) -> Any:
    if isinstance(observation, dict):
        return {key: on(device, part) for key, part in observation.items()}
    return torch.as_tensor(observation, device=device)[None]


def watched(path: Path, env: gym.Env[Any, Any], policy: Any, act: Callable[[Any], torch.Tensor]) -> list[Any]:
    """Take ten steps that are recorded, weights doubled after five; returns the logits as the loop has seen them."""
    several = isinstance(env.action_space, gym.spaces.MultiDiscrete)
    wrapped = InterpretWrapper(
        env, policy, record=path, quiet=True, strict=True, weights_every=1e-9, probe_ms_per_s=1e4
    )
    observation, _ = wrapped.reset(seed=0)
    seen = []
    for step in range(10):
        with torch.no_grad():
            logits = act(observation)
        seen.append(logits[0].float().cpu().numpy())
        observation, *_ = wrapped.step(np.zeros(2, int) if several else step % 2)
        if step == 4 and isinstance(policy, nn.Module):
            with torch.no_grad():
                for weight in policy.parameters():
                    weight.mul_(2)
    wrapped.close()
    return seen


def runs(make_module: Callable[[], nn.Module], make_env: Callable[[], Any], tolerance: float = 1e-4) -> Case:
    """A module that the loop calls: what is sent is what it saw, and replicas, here and there, compute it again."""

    def run(device: torch.device, path: Path) -> None:
        module = make_module().to(device)
        state: list[Any] = [None]

        def act(observation: Any) -> torch.Tensor:
            given = on(device, observation)
            if isinstance(module, Remembering):
                state[0] = state[0] or (torch.zeros(1, 6, device=device),) * 3
                logits, state[0] = module(given, state[0])
                return logits
            result = module(given)
            return result[0] if isinstance(result, tuple) else result

        seen = watched(path / "run.mcap", make_env(), module, act)
        steps, messages = steps_in(path / "run.mcap"), messages_in(path / "run.mcap")
        assert [each.policy_version for each in steps] == [1] * 5 + [2] * 5
        graph = next(each for each in messages if isinstance(each, PolicyGraph))
        versions = {each.policy_version: each for each in messages if isinstance(each, Weights)}
        for version, where in ((1, "cpu"), (2, device)):
            replica = Replica.from_messages(graph, versions[version], device=where)
            for step, logits in zip(steps, seen, strict=True):
                assert np.allclose(np.array(step.arrays["output/logits"], np.float32), logits, atol=1e-6)
                if step.policy_version == version:
                    again = replica(replica.inputs_from_step(step.arrays))["logits"][0].float().cpu()
                    assert np.allclose(again, logits, atol=tolerance), (again, logits)
        if isinstance(module, Seeing) and tolerance == 1e-4:
            maps_agree(Replica.from_messages(graph, versions[2]), replica, torch.tensor(steps[0].arrays["observation"]))

    return run


def maps_agree(here: Replica, there: Replica, observation: torch.Tensor) -> None:
    found = [explain(policy, observation, method="occlusion", patch=6, target=None) for policy in (here, there)]
    one, other = ((each if isinstance(each, tuple) else (each,))[0].grid for each in found)
    assert np.abs(one).max() > 0 and np.allclose(one, other, atol=1e-4 * np.abs(one).max())


def a_function(device: torch.device, path: Path) -> None:
    """It is called for its outputs, and gives them where it computes."""
    head = nn.Linear(4, 2).to(device)

    def policy(observation: Any) -> torch.Tensor:
        return head(torch.as_tensor(observation, device=device))

    seen = watched(path / "run.mcap", gym.make("CartPole-v1"), policy, lambda observation: policy(observation)[None])
    sent = [step.arrays.get("output/logits") for step in steps_in(path / "run.mcap")]
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(sent, seen, strict=True))


def what_is_probed(device: torch.device, path: Path) -> None:
    module = Sorting().to(device)
    watched(path / "run.mcap", gym.make("CartPole-v1"), module, lambda observation: module(on(device, observation)))
    told = [each for each in messages_in(path / "run.mcap") if isinstance(each, Hello)][-1].policy
    assert (
        told.graph == "failed" and told.probe is not None and "output/logits" in steps_in(path / "run.mcap")[-1].arrays
    )
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    box = ModuleBox(module, (torch.zeros(1, 4, device=device),), {}, names=("logits",), batched=True)
    wanted = np.concatenate([module(on(device, row)).detach().cpu().numpy() for row in rows])
    assert np.allclose(box({"observation": rows})["logits"], wanted, atol=1e-6)


def several_at_once(device: torch.device, path: Path) -> None:
    module = Seeing().to(device)
    inner = gym.vector.SyncVectorEnv([Pictures] * 3)
    file = path / "run.mcap"
    envs = InterpretVectorWrapper(inner, module, environment=1, record=file, quiet=True, strict=True)
    observations, _ = envs.reset(seed=0)
    wanted = []
    for _ in range(5):
        with torch.no_grad():
            logits, _ = module(torch.as_tensor(observations, device=device))
        wanted.append(logits[1].cpu().numpy())
        observations, *_ = envs.step(logits.argmax(1).cpu().numpy())
    envs.close()
    found = [step.arrays["output/logits"] for step in steps_in(file)]
    assert np.allclose(found, wanted, atol=1e-6)


def checks(make_policy: Callable[[torch.device], Any], make_env: Callable[[], Any]) -> Case:
    """What an adapter knows: see ``check_policy``."""

    def run(device: torch.device, path: Path) -> None:
        report = check_policy(make_policy(device), make_env())
        assert report.passed and "exported: " in str(report), str(report)

    return run


def compiled_in_place(module: nn.Module) -> nn.Module:
    module.compile(backend="eager")
    return module


def model(algorithm: Any, env: Any, policy: str = "MlpPolicy", **options: Any) -> Callable[[torch.device], Any]:
    def make_policy(device: torch.device) -> Any:
        made = make(algorithm, env(), policy, **options)
        made.policy.to(device)
        made.device = device
        return made

    return make_policy


def cartpole() -> Any:
    return gym.make("CartPole-v1")


def pendulum() -> Any:
    return gym.make("Pendulum-v1")


def normalised() -> Any:
    stack = VecNormalize(DummyVecEnv([cartpole]))
    stack.obs_rms.mean, stack.obs_rms.var = np.array([1.0, -1, 0, 2]), np.array([2.0, 3, 4, 5])
    return stack


def transformed(device: torch.device) -> Any:
    """Kept frames and running statistics, in an environment on the processor."""
    keys = ["observation"]
    env = TransformedEnv(
        GymEnv("CartPole-v1", categorical_action_encoding=True),
        Compose(VecNorm(in_keys=keys, decay=0.9), CatFrames(N=3, dim=-1, in_keys=keys)),
    )
    policy = QValueActor(nn.Linear(12, 2), in_keys=keys, action_space="categorical")
    with torch.no_grad():
        env.rollout(4, policy)
    return Preprocessed(policy.to(device), env)


def remembering(device: torch.device) -> Any:
    memory = LSTMModule(input_size=4, hidden_size=8, in_key="observation", out_key="hidden")
    return nn.Sequential(memory, TensorDictModule(nn.Linear(8, 2), ["hidden"], ["logits"])).to(device)


SMALL = {"buffer_size": 100}
LSTM = {"policy_kwargs": {"lstm_hidden_size": 8}}

CASES: dict[str, Case] = {
    "a module": runs(Seeing, Pictures),
    "of half precision": runs(lambda: Seeing().bfloat16(), Pictures, 5e-2),
    "frozen": runs(lambda: Seeing().requires_grad_(False).eval(), Pictures),
    "of dict observations": runs(Both, Mixed),
    "with a state": runs(Remembering, cartpole),
    "a function": a_function,
    "beyond export": what_is_probed,
    "vector environment": several_at_once,
    "DQN, pictures": checks(model(DQN, Pictures, "CnnPolicy", **SMALL), Pictures),
    "QR-DQN": checks(model(QRDQN, cartpole, **SMALL), cartpole),
    "PPO, normalised": checks(model(PPO, normalised), cartpole),
    "MaskablePPO": checks(model(MaskablePPO, cartpole), cartpole),
    "A2C, dict": checks(model(A2C, Mixed, "MultiInputPolicy"), Mixed),
    "SAC": checks(model(SAC, pendulum, **SMALL), pendulum),
    "TD3": checks(model(TD3, pendulum, **SMALL), pendulum),
    "RecurrentPPO": checks(model(RecurrentPPO, cartpole, "MlpLstmPolicy", **LSTM), cartpole),
    "CleanRL": checks(lambda device: Agent().to(device), cartpole),
    "TorchRL, transforms": checks(transformed, cartpole),
}

#: What the made-up device is too little of a device for.
GPU_CASES: dict[str, Case] = {
    "compiled": runs(lambda: torch.compile(Seeing(), backend="eager"), Pictures),  # type: ignore[arg-type, return-value]
    "compiled in place": runs(lambda: compiled_in_place(Seeing()), Pictures),
}


def main() -> None:
    """Try all cases elsewhere; print a JSON line for each."""
    from elsewhere import DEVICE

    for name, case in CASES.items():
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as directory:
            try:
                case(DEVICE, Path(directory))
                wrong = None
            except Exception:
                wrong = traceback.format_exc()
        print(json.dumps({"case": name, "wrong": wrong}), flush=True)


@pytest.fixture(scope="module")
def found() -> dict[str, str | None]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, timeout=280)
    assert child.returncode == 0, child.stderr[-3000:]
    return {line["case"]: line["wrong"] for line in map(json.loads, child.stdout.splitlines())}


@pytest.mark.parametrize("case", CASES)
def test_elsewhere(case: str, found: dict[str, str | None]) -> None:
    assert found[case] is None, found[case]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("case", CASES | GPU_CASES)
def test_on_a_gpu(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.manual_seed(0)
    (CASES | GPU_CASES)[case](torch.device("cuda"), tmp_path)


if __name__ == "__main__":
    main()
