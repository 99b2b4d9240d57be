"""TorchRL: modules that read entries of a TensorDict and write others, alone or in a row (actors, operators).

What comes out is known by the names of the entries: ``logits``, ``loc`` and ``scale`` (or ``log_scale``),
``action_value``, ``state_value``, ``hidden``. It is seen at the plain modules inside, which are called with tensors;
those that sample an action or pick one are not needed for that. An entry that no module writes is the observation. What
stands between the environment and the policy in TorchRL (transforms) is unknown here: the environment that is wrapped
has to return what the policy reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from agentwrap.distributions import Categorical, Distribution
from agentwrap.errors import PolicyTypeError
from agentwrap.policy import PolicyView, Watch

if TYPE_CHECKING:
    import torch
    from torch import nn

#: What entries are called, by the last part of their key; those first that decide the action.
OUTPUTS = {
    "logits": "logits",
    "action_value": "q_values",
    "loc": "mean",
    "param": "mean",
    "scale": "log_std",
    "log_scale": "log_std",
    "state_value": "value",
    "hidden": "latent",
    "embed": "latent",
}

_RECURRENT = {"LSTMModule", "GRUModule"}


class TorchRL:
    """Adapter for TorchRL's and TensorDict's modules."""

    name = "torchrl"

    def matches(self, policy: Any) -> bool:
        """Whether it is a module that takes a TensorDict."""
        return _is_a(policy, "TensorDictModuleBase")

    def view(self, policy: Any, env: gym.Env[Any, Any]) -> PolicyView:
        """Describe the policy by the keys that its modules read and write.

        Raises:
            PolicyTypeError: It is recurrent, reads what the environment does not return, or writes nothing of a known
                name.
        """
        parts = list(_parts(policy))
        if not parts:
            raise PolicyTypeError(f"{type(policy).__name__} consists of no torch.nn.Module whose outputs could be seen")
        observed = _observed(parts, env.observation_space)
        found = {
            OUTPUTS[_name(key)]: Watch(part.module, at=(place,) if len(part.writes) > 1 else (), then=_then(key))
            for part in parts
            for place, key in enumerate(part.writes)
            if _name(key) in OUTPUTS
        }
        watch = {name: found[name] for name in dict.fromkeys(OUTPUTS.values()) if name in found}
        if not watch.keys() & {"logits", "q_values", "mean"}:
            written = ", ".join(str(key) for part in parts for key in part.writes)
            raise PolicyTypeError(
                f"{type(policy).__name__} writes {written}; outputs are known by the names {', '.join(OUTPUTS)}: call "
                "them so (out_keys), or write an adapter, see agentwrap.policy.register_adapter"
            )
        return PolicyView(
            agent=policy,
            watch=watch,
            entry=parts[0].module,
            act=partial(_act, parts, observed),
            distribution=_distribution(watch, env.action_space),
            predict=partial(_predict, policy, observed, env.action_space) if "action" in policy.out_keys else None,
        )


@dataclass(frozen=True)
class _Part:
    """One plain module and the keys that it reads and writes.

    Attributes:
        module: Its name in the policy.
        reads: Keys of its arguments.
        writes: Keys of its results.
    """

    module: str
    reads: tuple[Any, ...]
    writes: tuple[Any, ...]


def _parts(policy: Any) -> Iterator[_Part]:
    """The plain modules of a policy, in the order in which they are called."""
    for name, module in policy.named_modules():
        inner = getattr(module, "module", None)
        if type(module).__name__ in _RECURRENT:
            raise PolicyTypeError(
                f"{type(policy).__name__} has a {type(module).__name__}: recurrent policies of TorchRL cannot be "
                "watched yet; a torch.nn.Module that is called as policy(observation, state) can"
            )
        if (
            not _is_a(module, "TensorDictModule")
            or not hasattr(inner, "named_modules")
            or type(inner).__name__ == "ModuleList"
        ):
            continue  # what takes no TensorDict, samples, or is a row of such
        if not _is_a(inner, "TensorDictModuleBase") and any(True for _ in module.parameters()):
            yield _Part(f"{name}.module".lstrip("."), tuple(module.in_keys), tuple(module.out_keys))


def _is_a(module: Any, name: str) -> bool:
    return any(cls.__name__ == name and cls.__module__.startswith("tensordict.nn") for cls in type(module).__mro__)


def _name(key: Any) -> str:
    return key if isinstance(key, str) else str(key[-1])


def _observed(parts: list[_Part], space: gym.Space[Any]) -> tuple[Any, ...]:
    """Keys of what the environment returns.

    Raises:
        PolicyTypeError: Its observations are others.
    """
    written = {key for part in parts for key in part.writes}
    read = tuple(dict.fromkeys(key for part in parts for key in part.reads if key not in written))
    if isinstance(space, gym.spaces.Dict):
        missing = [key for key in read if _name(key) not in space.spaces]
        if missing:
            raise PolicyTypeError(f"the policy reads {missing}, but the environment's observations are {space}")
    elif len(read) != 1:
        raise PolicyTypeError(f"the policy reads {list(read)}, but the environment has one observation: {space}")
    return read


# These work on copies of the modules too.


def _then(key: Any) -> Any:
    return _logarithm if _name(key) == "scale" else None


def _logarithm(policy: nn.Module, scale: torch.Tensor) -> torch.Tensor:
    return scale.log()


def _entries(observed: tuple[Any, ...], observation: Any) -> dict[Any, Any]:
    given = isinstance(observation, Mapping)
    return {key: observation[_name(key)] if given else observation for key in observed}


def _act(parts: list[_Part], observed: tuple[Any, ...], policy: nn.Module, observation: Any) -> None:
    """Call one plain module after the other with what those before wrote: a graph has no TensorDict."""
    entries = _entries(observed, observation)
    for part in parts:
        result = policy.get_submodule(part.module)(*(entries[key] for key in part.reads))
        entries.update(zip(part.writes, result if isinstance(result, tuple | list) else (result,), strict=False))


# What follows from the outputs.


def _distribution(watch: Mapping[str, Watch], space: gym.Space[Any]) -> Distribution | None:
    if isinstance(space, gym.spaces.Discrete):
        return Categorical("q_values" if "q_values" in watch else "logits")
    return None  # how loc and scale become an action is the affair of a class that the policy names


def _predict(policy: Any, observed: tuple[Any, ...], space: gym.Space[Any], observation: Any) -> Any:
    import torch
    from tensordict import TensorDict
    from tensordict.nn import InteractionType, set_interaction_type

    device = next((parameter.device for parameter in policy.parameters()), None)
    given = {key: torch.as_tensor(each, device=device) for key, each in _entries(observed, observation).items()}
    with torch.no_grad(), set_interaction_type(InteractionType.DETERMINISTIC):
        action = policy(TensorDict(given, batch_size=[]))["action"]
    if isinstance(space, gym.spaces.Discrete):  # as a number, or one switch for each action
        return int(action.argmax() if action.numel() == space.n and space.n > 1 else action)
    return action.cpu().numpy()
