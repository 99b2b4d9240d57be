"""Modules as people make them to be fast or to be left alone: compiled, data-parallel, of half precision, frozen.

Each is watched in its own loop with a recording; what is exported of it computes what it computed, and is explained by
the maps of the plain module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from recordings import messages_in, steps_in
from sb3_models import Pictures
from torch import nn

from agentwrap import InterpretWrapper
from agentwrap_protocol.messages import Hello, PolicyGraph, Weights
from agentwrap_viewer import open_recording
from agentwrap_viewer.explainer.offline import explain_step, policy_of
from agentwrap_viewer.replica import Replica
from agentwrap_viewer.saliency import explain

Act = Callable[[Any, torch.Tensor], torch.Tensor]


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


def maps_of(path: Path) -> dict[str, Any]:
    """The maps of a step in the middle, as ``agentwrap explain`` computes them."""
    with open_recording(path) as recording:
        message = explain_step(recording, policy_of(recording, 1, "cpu"), 8, method="feature_perturbation")
    return {name: array for name, array in message.arrays.items() if name.startswith("features/")}


def has_the_maps_of_the_plain(path: Path, policy: nn.Module, plain: nn.Module, act: Act) -> None:
    """What was recorded of a policy is explained as the plain module is, with the same weights on the same steps."""
    reference = path.with_name("plain.mcap")
    play(reference, plain, lambda observation: act(plain, observation))
    found, expected = maps_of(path), maps_of(reference)
    assert set(found) == set(expected) == {"features/actor", "features/critic"}
    share = 1e-4 if close_to(policy) == 1e-4 else 0.1  # squares of differences: of half precision two digits are left
    for name, scores in expected.items():
        assert scores.max() > 0
        assert np.allclose(found[name], scores, rtol=0, atol=share * scores.max()), (name, found[name], scores)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("kind", MAKE)
def test_a_module_that_is_called_itself(kind: str, process_group: None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = ActorCritic()
    policy, path = MAKE[kind](deepcopy(plain)), tmp_path / "run.mcap"

    def act(policy: Any, observation: torch.Tensor) -> torch.Tensor:
        return policy(observation)[0]

    agrees(path, play(path, policy, partial(act, policy)), close_to(policy))
    has_the_maps_of_the_plain(path, policy, plain, act)
    latent = "output/latent" in steps_in(path)[-1].arrays
    assert latent is ("compiled" not in kind)  # the layers of what is compiled are not run as modules
    assert not any(module._forward_hooks for module in policy.modules())


class Seeing(nn.Module):
    """Looks at pictures, in whatever precision it is of."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, 8, 5, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(), nn.Flatten())
        self.actor, self.critic = nn.Linear(392, 3), nn.Linear(392, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        latent = self.body(x.permute(0, 3, 1, 2).to(self.actor.weight.dtype) / 255)
        return self.actor(latent), self.critic(latent)


def pictures_explained(policy: nn.Module, path: Path) -> dict[str, Any]:
    """Maps of the third picture, by what explains recordings and by ``explain`` with the module itself."""
    env = InterpretWrapper(Pictures(), policy, record=path, quiet=True, strict=True)
    observation, _ = env.reset(seed=0)
    for _ in range(3):
        shown = torch.as_tensor(observation)
        with torch.no_grad():
            policy(shown[None])
        observation, *_ = env.step(0)
    env.close()
    with open_recording(path) as recording:
        found = dict(explain_step(recording, policy_of(recording, 1, "cpu"), 2, method="perturbation").arrays)
    for one in explain(policy, shown, method="perturbation", target=("actor", "critic")):
        found[f"module/{one.target}"] = one.heatmap
    return {name: array for name, array in found.items() if name.split("/")[0] in ("heatmap", "module")}


def test_maps_of_pictures_are_the_same_in_any_precision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = Seeing()
    expected = pictures_explained(plain, tmp_path / "plain.mcap")
    assert set(expected) == {f"{by}/{target}" for by in ("heatmap", "module") for target in ("actor", "critic")}
    for precision in (torch.float16, torch.bfloat16, torch.float64):
        found = pictures_explained(deepcopy(plain).to(precision), tmp_path / f"{precision}.mcap")
        for name, scores in expected.items():
            assert np.corrcoef(found[name].ravel(), scores.ravel())[0, 1] > 0.99, (name, precision)


@pytest.mark.parametrize("kind", ["plain", "bfloat16", "frozen"])
def test_an_agent_like_cleanrls(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = Agent()
    agent, path = MAKE[kind](deepcopy(plain)), tmp_path / "run.mcap"

    def act(agent: Any, observation: torch.Tensor) -> torch.Tensor:
        agent.get_action_and_value(observation)
        return agent.actor(observation.to(agent.actor[0].weight.dtype))

    agrees(path, play(path, agent, partial(act, agent)), close_to(agent))
    has_the_maps_of_the_plain(path, agent, plain, act)


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
