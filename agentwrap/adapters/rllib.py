"""RLlib's new API stack: a torch ``RLModule`` of one agent, as an env runner or an algorithm has it.

An env runner calls ``forward_exploration`` or ``forward_inference`` with a dict that holds a batch of observations, and
gets ``action_dist_inputs``. These are seen where the heads compute them: ``pi``, and ``vf`` where the module has it (in
env runners it mostly has not: values are computed by the learner). Connectors that put observations into a batch as
they are change nothing; those that change values (filters, frame stacks, one-hot numbers) cannot be followed: the
module is then never called with what the environment returned, and a warning says so.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from agentwrap.distributions import Categorical, Distribution, MultiCategorical
from agentwrap.errors import PolicyTypeError
from agentwrap.policy import PolicyView, Watch

if TYPE_CHECKING:
    import torch
    from torch import nn


class RLlib:
    """Adapter for torch ``RLModule``s."""

    name = "rllib"

    def matches(self, policy: Any) -> bool:
        """Whether it is an RLModule made of torch modules."""
        classes = type(policy).__mro__
        return any(cls.__module__.startswith("ray.rllib.") and cls.__name__ == "TorchRLModule" for cls in classes)

    def view(self, policy: Any, env: gym.Env[Any, Any]) -> PolicyView:
        """Describe the module by its encoder and heads.

        Raises:
            PolicyTypeError: It is recurrent, has none of the heads that are known, or the environment's observations
                are changed by connectors.
        """
        name = type(policy).__name__
        if policy.is_stateful():
            raise PolicyTypeError(f"{name} is recurrent: recurrent modules of RLlib cannot be watched yet")
        if not hasattr(policy, "encoder") or not hasattr(policy, "pi"):
            raise PolicyTypeError(
                f"{name} has no encoder and pi, as the modules of PPO, APPO and IMPALA have: write an adapter, see "
                "agentwrap.policy.register_adapter"
            )
        if not isinstance(env.observation_space, gym.spaces.Box):
            raise PolicyTypeError(
                f"observations of {env.observation_space} are changed by RLlib's connectors before {name} gets them, "
                "which agentwrap cannot follow: wrap the environment so that it returns arrays of numbers"
            )
        return PolicyView(
            agent=policy,
            watch=_watch(policy, env.action_space),
            entry=_entry(policy),
            act=_act,
            distribution=_distribution(env.action_space),
            predict=partial(_predict, env.action_space, policy),
        )


def _watch(policy: Any, space: gym.Space[Any]) -> dict[str, Watch]:
    watch = {"logits": Watch("pi")}
    if isinstance(space, gym.spaces.Box):
        watch = {"mean": Watch("pi", then=_first_half), "log_std": Watch("pi", then=_second_half)}
    if getattr(policy, "vf", None) is not None:
        watch["value"] = Watch("vf")
    return {**watch, "latent": Watch("pi", "input")}


def _entry(policy: Any) -> str:
    """The first module that is called with a tensor: encoders take a dict and hand its observations to their net."""
    inner = next((name for name in ("encoder", "actor_encoder") if hasattr(policy.encoder, name)), "")
    encoder = f"encoder.{inner}".rstrip(".")
    return f"{encoder}.net" if hasattr(policy.get_submodule(encoder), "net") else encoder


# These work on copies of the module too.


def _act(policy: Any, observation: torch.Tensor) -> None:
    batch = {"obs": observation.float()}
    policy.forward_inference(batch)
    if getattr(policy, "vf", None) is not None:
        policy.compute_values(batch)


def _first_half(policy: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    return inputs.chunk(2, dim=-1)[0]


def _second_half(policy: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    return inputs.chunk(2, dim=-1)[1]


def _distribution(space: gym.Space[Any]) -> Distribution | None:
    match space:
        case gym.spaces.Discrete():
            return Categorical()
        case gym.spaces.MultiDiscrete():
            return MultiCategorical(tuple(int(count) for count in space.nvec))
    return None  # continuous actions are scaled to the environment's by a connector


def _predict(space: gym.Space[Any], policy: Any, observation: Any) -> Any:
    import torch

    given = torch.as_tensor(observation, dtype=torch.float32)[None]
    inputs = policy.forward_inference({"obs": given})["action_dist_inputs"]
    action = policy.get_inference_action_dist_cls().from_logits(inputs).to_deterministic().sample()[0]
    return int(action) if isinstance(space, gym.spaces.Discrete) else action.numpy()
