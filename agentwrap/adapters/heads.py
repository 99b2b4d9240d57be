"""Finds the submodules that compute an agent's outputs by what they compute, where their names do not tell.

The agent acts once, as a copy, and what each submodule returned is compared with what the agent said of its action:
the logits are those under which the action has the log probability that was returned, the value is what was returned as
such.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from agentwrap.hooks import device_of, first_tensor
from agentwrap_export.call import isolated_copy
from agentwrap_export.random_states import kept_random_states


@dataclass(frozen=True)
class Heads:
    """Names of the submodules that compute an agent's outputs.

    Attributes:
        actor: That whose output are logits, or means of continuous actions.
        critic: That whose output is the value; None where no submodule's is.
        log_std: The agent's own parameter with the logarithm of the standard deviation; None for logits.
    """

    actor: str
    critic: str | None = None
    log_std: str | None = None


def find_heads(agent: nn.Module, act: Callable[[nn.Module, torch.Tensor], Any], env: gym.Env[Any, Any]) -> Heads | None:
    """Have a copy of the agent act once, and return where its outputs were computed; None where no submodule fits.

    Args:
        agent: Neither its mode, nor buffers, nor random states are touched.
        act: Calls it with observations and returns (action, log probability, entropy, value, …), rows first.
        env: The environment it acts in; its spaces' generators are left alone.
    """
    copied = isolated_copy(agent)
    returned: dict[str, torch.Tensor] = {}
    for name, module in copied.named_modules():
        if name:
            module.register_forward_hook(_keeper(returned, name))
    observation = _observation(env.observation_space, device_of(agent))
    with kept_random_states([observation]), torch.no_grad():
        action, log_prob, _, value, *_ = act(copied, observation)
    # the outermost of several: a head of several layers returns what its last one does
    found = sorted(returned.items(), key=lambda item: item[0].count("."))
    critic = next((name for name, tensor in found if _alike(tensor, value)), None)
    for name, tensor in found:
        for log_std in _log_stds(copied, env.action_space):
            parameter = None if log_std is None else copied.get_parameter(log_std)
            if _explains(tensor, parameter, action, log_prob, env.action_space):
                return Heads(name, critic, log_std)
    return None


def _keeper(returned: dict[str, torch.Tensor], name: str) -> Callable[[nn.Module, Any, Any], None]:
    def keep(_: nn.Module, args: Any, result: Any) -> None:
        tensor = first_tensor(result)
        if tensor is not None:
            returned[name] = tensor.detach().clone()

    return keep


def _observation(space: gym.Space[Any], device: torch.device | None) -> torch.Tensor:
    """Return some observation, with a row's axis: of zeros alone, all heads of a new agent may return zeros."""
    row = np.random.default_rng(0).random(space.shape or ())
    if isinstance(space, gym.spaces.Box):
        row = np.clip(row * (1 if np.issubdtype(space.dtype, np.floating) else 255), space.low, space.high)
    return torch.as_tensor(row.astype(np.float32), device=device)[None]


def _log_stds(agent: nn.Module, space: gym.Space[Any]) -> Iterator[str | None]:
    if isinstance(space, gym.spaces.Discrete):
        yield None
    elif isinstance(space, gym.spaces.Box):
        size = int(np.prod(space.shape))
        yield from (name for name, each in agent.named_parameters() if "." not in name and each.numel() == size)


def _explains(
    tensor: torch.Tensor, log_std: torch.Tensor | None, action: torch.Tensor, log_prob: torch.Tensor, space: Any
) -> bool:
    """Whether the action has this log probability where a submodule's output are its logits, or its mean."""
    if log_std is None:
        if tensor.numel() != space.n or not 0 <= int(action) < space.n:
            return False
        expected = tensor.reshape(-1).log_softmax(0)[int(action)]
    else:
        if tensor.numel() != action.numel():
            return False
        std = log_std.detach().exp().reshape(-1)
        off = (action.reshape(-1) - tensor.reshape(-1)) / std
        expected = -off.square() / 2 - std.log() - math.log(2 * math.pi) / 2
        expected = expected if log_prob.numel() == expected.numel() else expected.sum()
    return _alike(expected, log_prob)


def _alike(one: torch.Tensor, other: Any) -> bool:
    if not isinstance(other, torch.Tensor) or one.numel() != other.numel():
        return False
    return torch.allclose(one.reshape(-1).float(), other.detach().reshape(-1).float(), atol=1e-6)
