"""A policy that cannot be exported, asked in the agent's process: the same maps as of one that can."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from agentwrap import InterpretWrapper
from agentwrap.errors import AgentwrapWarning
from agentwrap_protocol.messages import Explainer, SaliencyMap
from agentwrap_viewer.saliency import explain

PATIENCE = 60  #: Seconds after which a test gives up.


class Fixed(gym.Env[Any, Any]):
    """Always shows the same."""

    action_space = spaces.Discrete(3)

    def __init__(self, observation: np.ndarray) -> None:
        self.observation = observation
        low, high = (0, 255) if observation.dtype == np.uint8 else (-10, 10)
        self.observation_space = spaces.Box(low, high, observation.shape, observation.dtype.type)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self.observation, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation, 0.0, False, False, {}


@contextmanager
def acting(observation: np.ndarray, policy: Any, call: Callable[[], object], **options: Any) -> Iterator[Any]:
    """An agent that makes steps in a thread of its own, until the test is over."""
    env, over = InterpretWrapper(Fixed(observation), policy, quiet=True, **options), threading.Event()
    failed: list[Exception] = []

    def act() -> None:
        env.reset()
        try:
            while not over.wait(0.002):
                call()
                env.step(0)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield env
    finally:
        over.set()
        thread.join(PATIENCE)
        env.close()
        assert not thread.is_alive() and not failed


class Branching(torch.nn.Module):
    """Cannot be exported: it looks at values."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> Any:
        assert float(x.sum()) > 0
        return self.inner(x)


def as_function(module: torch.nn.Module) -> Callable[[Any], Any]:
    """The module's outputs as a function of NumPy arrays, which nothing is known about."""

    def policy(observations: np.ndarray) -> Any:
        with torch.no_grad():
            result = module(torch.from_numpy(observations))
        named = dict(zip(("logits", "value"), result, strict=True)) if isinstance(result, tuple) else result
        return {name: tensor.numpy() for name, tensor in named.items()}

    return policy


def compare(found: SaliencyMap, module: torch.nn.Module, observation: np.ndarray) -> None:
    expected = explain(module, observation, target=found.targets)
    for target, wanted in zip(found.targets, expected, strict=True):
        kind = "heatmap" if observation.ndim > 1 else "features"
        scale = max(float(np.abs(wanted.heatmap).max()), 1e-6)
        assert np.abs(found.arrays[f"{kind}/{target}"] - wanted.heatmap).max() <= 1e-4 * scale
    assert found.replica_max_abs_diff is not None and found.replica_max_abs_diff < 1e-4


@pytest.mark.parametrize("way", ["function", "module"])
def test_a_probed_policy_gets_the_maps_of_the_exported_one(explainers: Any, eye: Any, way: str) -> None:
    observation, module = eye.observe(0), Branching(eye.module)
    given = as_function(eye.module) if way == "function" else module

    def call() -> None:
        if way == "module":
            module(torch.from_numpy(observation)[None])

    with acting(observation, given, call, probe_ms_per_s=500.0) as env:
        explainer = explainers("--source", env.endpoint, "--budget-ms", "60000").connect()
        found = explainer.wait_for(lambda m: isinstance(m, SaliencyMap) and m.refined == 1, "whole map")
        compare(found, eye.module, observation)
        state = explainer.wait_for_state("ready")
        assert "perturbation" in {method.name for method in state.methods}
        reply = explainer.configure(method="gradient")
        assert not reply.ok and "takes gradients" in reply.problem


def test_features_of_a_function_without_torch(explainers: Any, touch: Any) -> None:
    scale, observation = np.array([4.0, 2.0, 1.0, 0.0], np.float32), touch.observe(3)
    threads: set[int] = set()

    def policy(x: np.ndarray) -> dict[str, np.ndarray]:
        threads.add(threading.get_ident())
        total = (x * scale).sum(-1)
        return {"logits": np.stack([total, -total], -1), "value": total}

    with acting(observation, policy, lambda: None) as env:
        explainer = explainers("--source", env.endpoint, "--budget-ms", "60000").connect()
        found = explainer.wait_for(lambda m: isinstance(m, SaliencyMap) and m.refined == 1, "whole map")
        assert found.policy_version == 0 and len(threads) == 1  # never in another thread than the agent's
        assert found.arrays["features/actor"].shape == (4,) and found.arrays["features/actor"][3] == 0


def test_a_function_that_says_that_it_has_changed_is_asked_anew(explainers: Any, touch: Any) -> None:
    scale, observation = np.array([4.0, 2.0, 1.0, 0.0], np.float32), touch.observe(3)

    def policy(x: np.ndarray) -> np.ndarray:
        total = (x * scale).sum(-1)
        return np.stack([total, -total, 2 * total], -1)

    with acting(observation, policy, lambda: None, probe_ms_per_s=500.0, weights_every=0.01) as env:
        explainer = explainers("--source", env.endpoint, "--budget-ms", "60000").connect()
        found = explainer.wait_for(lambda m: isinstance(m, SaliencyMap) and m.refined == 1, "whole map")
        assert found.policy_version == 0 and found.replica_max_abs_diff < 1e-4
        scale[:] = [0.0, 0.0, 0.0, 4.0]
        env.policy_changed()
        found = explainer.wait_for(
            lambda m: isinstance(m, SaliencyMap) and m.refined == 1 and m.policy_version == 1, "map of the new version"
        )
        assert found.replica_max_abs_diff < 1e-4, "no answer is left of what it was before"
        assert explainer.wait_for(lambda m: isinstance(m, Explainer) and m.policy_version == 1, "its version")


def test_a_killed_explainer_leaves_the_agent_going(explainers: Any, eye: Any) -> None:
    observation = eye.observe(0)
    with acting(observation, as_function(eye.module), lambda: None) as env:
        explainer = explainers("--source", env.endpoint).connect()
        explainer.wait_for(lambda m: isinstance(m, SaliencyMap), "map")
        os.kill(explainer.process.pid, signal.SIGKILL)
        explainer.process.wait(PATIENCE)
        probing, steps = env._stream._probing, env._stream.steps
        deadline = time.monotonic() + PATIENCE
        # what was asked is worked off or forgotten, and the agent goes on
        while (probing.waiting or env._stream.steps < steps + 100) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not probing.waiting and env._stream.steps >= steps + 100
        again = explainers("--source", env.endpoint).connect()
        again.wait_for(lambda m: isinstance(m, SaliencyMap), "map")


def test_a_function_that_begins_to_raise_is_reported_and_left_alone(explainers: Any, touch: Any) -> None:
    broken = threading.Event()

    def policy(x: np.ndarray) -> np.ndarray:
        if broken.is_set():
            raise RuntimeError("the service is gone")
        return np.stack([x.sum(-1), x[..., 0], -x.sum(-1)], -1)

    with pytest.warns(AgentwrapWarning, match="the service is gone"):
        with acting(touch.observe(0), policy, lambda: None) as env:
            explainer = explainers("--source", env.endpoint).connect()
            explainer.wait_for(lambda m: isinstance(m, SaliencyMap), "map")
            broken.set()
            found = explainer.wait_for(lambda m: isinstance(m, Explainer) and m.state == "unable", "unable")
            assert "the service is gone" in found.problem
