"""Modules as people make them to be fast or to be left alone: compiled, data-parallel, of half precision, frozen.

Each is watched in its own loop with a recording, and what is exported of it computes what it computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from recordings import messages_in, steps_in
from torch import nn

from agentwrap import InterpretWrapper
from agentwrap_protocol.messages import Hello, PolicyGraph, Weights
from agentwrap_viewer.replica import Replica


class ActorCritic(nn.Module):
    """Logits and value; observations come as the environment has them."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.actor, self.critic = (
            nn.Sequential(nn.Linear(4, 16), nn.Tanh()),
            nn.Linear(16, 2),
            nn.Linear(16, 1),
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        latent = self.body(x.to(self.actor.weight.dtype))
        return self.actor(latent), self.critic(latent)


class Agent(nn.Module):
    """As CleanRL has it."""

    def __init__(self) -> None:
        super().__init__()
        self.actor = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))
        self.critic = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))

    def get_action_and_value(self, x: torch.Tensor, action: Any = None) -> Any:
        x = x.to(self.actor[0].weight.dtype)
        logits = self.actor(x)
        probs = torch.distributions.Categorical(logits=logits.float())
        action = probs.sample() if action is None else action
        return action, probs.log_prob(action), probs.entropy(), self.critic(x)


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def compiled_in_place(module: nn.Module) -> nn.Module:
    module.compile(backend="eager")
    return module


MAKE: dict[str, Callable[[nn.Module], nn.Module]] = {
    "plain": lambda module: module,
    "compiled": lambda module: torch.compile(module, backend="eager"),  # type: ignore[dict-item, return-value]
    "compiled in place": compiled_in_place,
    "data-parallel": nn.parallel.DistributedDataParallel,
    "data-parallel of compiled": lambda module: nn.parallel.DistributedDataParallel(
        torch.compile(module, backend="eager")  # type: ignore[arg-type]
    ),
    "compiled data-parallel": lambda module: torch.compile(  # type: ignore[dict-item, return-value]
        nn.parallel.DistributedDataParallel(module), backend="eager"
    ),
    "bfloat16": lambda module: module.bfloat16(),
    "float16": lambda module: module.half(),
    "frozen": lambda module: module.requires_grad_(False).eval(),
}


def close_to(policy: nn.Module) -> float:
    """Half precision is seen as it was computed, but others may add in another order."""
    return 1e-4 if next(policy.parameters()).dtype == torch.float32 else 2e-2


def play(path: Path, policy: Any, act: Callable[[torch.Tensor], torch.Tensor]) -> list[torch.Tensor]:
    """Take twelve steps that are recorded; returns the logits of each as the loop itself has seen them."""
    env = InterpretWrapper(gym.make("CartPole-v1"), policy, record=path, quiet=True, strict=True)
    observation, _ = env.reset(seed=0)
    seen = []
    for _ in range(12):
        with torch.no_grad():
            logits = act(torch.as_tensor(observation)[None])
        seen.append(logits[0].float())
        observation, *_ = env.step(len(seen) % 2)  # the pole stands for so long
    env.close()
    return seen


def agrees(path: Path, seen: list[torch.Tensor], tolerance: float) -> None:
    """What was recorded is what the loop saw, and the replica of what was exported computes it again."""
    steps, messages = steps_in(path), messages_in(path)
    hello = [each for each in messages if isinstance(each, Hello)][-1]
    assert hello.policy.graph == "exported", hello.policy.problem
    graph, weights = (next(each for each in messages if isinstance(each, kind)) for kind in (PolicyGraph, Weights))
    replica = Replica.from_messages(graph, weights)
    assert len(steps) == 12
    for each, logits in zip(steps, seen, strict=True):
        found = torch.as_tensor(np.array(each.arrays["output/logits"], np.float32))
        assert torch.allclose(found, logits, atol=1e-6)
        again = replica(replica.inputs_from_step(each.arrays))["logits"][0].float()
        assert torch.allclose(again, logits, atol=tolerance), (again, logits)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("kind", MAKE)
def test_a_module_that_is_called_itself(kind: str, process_group: None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    policy = MAKE[kind](ActorCritic())

    def act(observation: torch.Tensor) -> torch.Tensor:
        return policy(observation)[0]

    agrees(tmp_path / "run.mcap", play(tmp_path / "run.mcap", policy, act), close_to(policy))
    latent = "output/latent" in steps_in(tmp_path / "run.mcap")[-1].arrays
    assert latent is ("compiled" not in kind)  # the layers of what is compiled are not run as modules
    assert not any(module._forward_hooks for module in policy.modules())


@pytest.mark.parametrize("kind", ["plain", "bfloat16", "frozen"])
def test_an_agent_like_cleanrls(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    agent: Any = MAKE[kind](Agent())

    def act(observation: torch.Tensor) -> torch.Tensor:
        agent.get_action_and_value(observation)
        return agent.actor(observation.to(agent.actor[0].weight.dtype))

    agrees(tmp_path / "run.mcap", play(tmp_path / "run.mcap", agent, act), close_to(agent))


@pytest.mark.parametrize("kind", ["compiled in place", "frozen", "compiled network"])
def test_a_model_of_stable_baselines3(kind: str, tmp_path: Path) -> None:
    from stable_baselines3 import PPO

    model = PPO("MlpPolicy", gym.make("CartPole-v1"), n_steps=8, batch_size=8, seed=0, device="cpu")
    if kind == "compiled network":
        model.policy.mlp_extractor.policy_net.compile(backend="eager")
    elif kind == "compiled in place":
        model.policy.compile(backend="eager")  # its own predict does not call it
    else:
        MAKE[kind](model.policy)

    def act(observation: torch.Tensor) -> torch.Tensor:
        model.predict(observation[0].numpy(), deterministic=True)
        return model.policy.get_distribution(observation).distribution.logits

    path = tmp_path / "run.mcap"
    seen = play(path, model, act)
    steps = steps_in(path)
    for each, logits in zip(steps, seen, strict=True):
        found = torch.as_tensor(np.array(each.arrays["output/logits"]))
        assert torch.allclose(torch.log_softmax(found, 0), torch.log_softmax(logits, 0), atol=1e-5)
