"""TorchRL: modules that read entries of a TensorDict and write others, alone or in a row (actors, operators).

What comes out is known by the names of the entries: ``logits``, ``loc`` and ``scale`` (or ``log_scale``),
``action_value``, ``state_value``, ``hidden``. It is seen at the plain modules inside, which are called with tensors;
those that sample an action or pick one are not needed for that. An entry that no module writes is the observation. A
module that reads the action too (``state_action_value``) is asked about the one that the policy takes without
exploring, by the exported module alone: what the library asks it about is one that was drawn. What
stands between the environment and the policy in TorchRL (transforms) is unknown here: the environment that is wrapped
has to return what the policy reads.

``LSTMModule`` and ``GRUModule`` are seen at PyTorch's layer inside, which gets a sequence of one step when a policy
acts, and the state after ``is_init`` has emptied it. Where that state comes from (a ``TensorDictPrimer``, a collector,
a loop of one's own) does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from agentwrap.distributions import Categorical, Deterministic, Distribution
from agentwrap.errors import PolicyTypeError
from agentwrap.extras import TORCHRL
from agentwrap.policy import PolicyView, State, Watch

from .recurrent import given_to, states_of

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

#: What modules call an action, and what one expects of it.
ACTION, RATED = "action", "state_action_value"

#: Modules with memory, and what they call PyTorch's layer inside.
_RECURRENT = {"LSTMModule": "lstm", "GRUModule": "gru"}


class TorchRL:
    """Adapter for TorchRL's and TensorDict's modules."""

    name = "torchrl"
    library = TORCHRL

    def matches(self, policy: Any) -> bool:
        """Whether it is a module that takes a TensorDict."""
        return _is_a(policy, "TensorDictModuleBase")

    def view(self, policy: Any, env: gym.Env[Any, Any]) -> PolicyView:
        """Describe the policy by the keys that its modules read and write.

        Raises:
            PolicyTypeError: It reads what the environment does not return, or writes nothing of a known name.
        """
        every = _named(list(_parts(policy)))
        if not every:
            raise PolicyTypeError(f"{type(policy).__name__} consists of no torch.nn.Module whose outputs could be seen")
        continuous = isinstance(env.action_space, gym.spaces.Box)
        parts, critics = _apart(every)
        observed = _observed(parts, env.observation_space)
        draw = _draw(policy, parts) if continuous else None
        names = {**OUTPUTS, ACTION: "mean"} if continuous else OUTPUTS
        found = {
            names[_name(key)]: _watch(part, place, key)
            for part in parts
            for place, key in enumerate(part.writes)
            if _name(key) in names
        }
        watch = {name: found[name] for name in dict.fromkeys(names.values()) if name in found}
        if critics and draw is not None:
            parts = [*parts, *critics]
            watch[RATED] = Watch("", of="act")
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
            act=partial(_act, parts, observed, draw),
            state=_states(policy, parts),
            distribution=_distribution(watch, draw, env.action_space),
            predict=partial(_predict, policy, parts, observed, env.action_space)
            if "action" in policy.out_keys
            else None,
        )


@dataclass(frozen=True)
class _Part:
    """One plain module and the keys that it reads and writes.

    Attributes:
        module: Its name in the policy.
        reads: Keys of its arguments.
        writes: Keys of its results.
        enters: Keys of the state that enters it; it has a memory then.
        leaves: Keys of what becomes of that.
        prefix: Of the names of its state.
    """

    module: str
    reads: tuple[Any, ...]
    writes: tuple[Any, ...]
    enters: tuple[Any, ...] = ()
    leaves: tuple[Any, ...] = ()
    prefix: str = ""


@dataclass(frozen=True)
class _Draw:
    """How a policy's action follows without exploring.

    Attributes:
        writes: Key of the action.
        module: Name of the module in the policy that draws it; None where a plain module computes it.
        reads: Keys of the distribution's parameters, by what its class calls them.
    """

    writes: Any
    module: str | None = None
    reads: Mapping[str, Any] = field(default_factory=dict)


def _draw(policy: Any, parts: Sequence[_Part]) -> _Draw | None:
    written = {key for part in parts for key in part.writes}
    plain = next((key for key in written if _name(key) == ACTION), None)
    if plain is not None:
        return _Draw(plain)
    for name, module in policy.named_modules():
        if _is_a(module, "ProbabilisticTensorDictModule") and _name(module.out_keys[0]) == ACTION:
            reads = dict(zip(module.dist_keys, module.in_keys, strict=True))
            return _Draw(module.out_keys[0], name, reads) if set(reads.values()) <= written else None
    return None


def _apart(parts: Sequence[_Part]) -> tuple[list[_Part], list[_Part]]:
    """Return what acts, and what rates the action; what both would need is left to what acts."""
    critics = [part for part in parts if any(_name(key) == ACTION for key in part.reads)]
    return [part for part in parts if part not in critics], [
        part for part in critics if [_name(key) for key in part.writes] == [RATED]
    ]


def _parts(policy: Any) -> Iterator[_Part]:
    """The plain modules of a policy, in the order in which they are called."""
    for name, module in policy.named_modules():
        inner = getattr(module, "module", None)
        layer = _RECURRENT.get(type(module).__name__)
        if layer is not None:
            (reads, *enters), (writes, *leaves) = module.in_keys[:-1], module.out_keys  # the last one is is_init
            yield _Part(f"{name}.{layer}".lstrip("."), (reads,), (writes,), tuple(enters), tuple(leaves))
        elif (
            not _is_a(module, "TensorDictModule")
            or not hasattr(inner, "named_modules")
            or type(inner).__name__ == "ModuleList"
        ):
            continue  # what takes no TensorDict, samples, or is a row of such
        elif not _is_a(inner, "TensorDictModuleBase") and any(True for _ in module.parameters()):
            yield _Part(f"{name}.module".lstrip("."), tuple(module.in_keys), tuple(module.out_keys))


def _named(parts: list[_Part]) -> list[_Part]:
    """Let the state of each of several memories be told from that of others."""
    if sum(bool(part.enters) for part in parts) < 2:
        return parts
    return [replace(part, prefix=f"{part.module.rpartition('.')[0]}/") if part.enters else part for part in parts]


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


def _watch(part: _Part, place: int, key: Any) -> Watch:
    if part.enters:
        return Watch(part.module, at=(0,), then=_of_one_step)
    then = _logarithm if _name(key) == "scale" else None
    return Watch(part.module, at=(place,) if len(part.writes) > 1 else (), then=then)


def _states(policy: nn.Module, parts: Sequence[_Part]) -> dict[str, State]:
    states: dict[str, State] = {}
    for part in parts:
        if part.enters:
            layer: Any = policy.get_submodule(part.module)
            states |= states_of(layer, part.module, prefix=part.prefix)
    return states


# These work on copies of the modules too.


def _of_one_step(policy: nn.Module, sequence: torch.Tensor) -> torch.Tensor:
    return sequence.flatten(1, -2)[:, -1]


def _logarithm(policy: nn.Module, scale: torch.Tensor) -> torch.Tensor:
    return scale.log()


def _entries(observed: tuple[Any, ...], observation: Any) -> dict[Any, Any]:
    given = isinstance(observation, Mapping)
    return {key: observation[_name(key)] if given else observation for key in observed}


def _act(
    parts: Sequence[_Part],
    observed: tuple[Any, ...],
    draw: _Draw | None,
    policy: nn.Module,
    observation: Any,
    state: Mapping[str, torch.Tensor] | None = None,
) -> torch.Tensor | None:
    """Call one plain module after the other with what those before wrote: a graph has no TensorDict.

    Returns:
        What is expected of the action, where a module says that.
    """
    entries, rated = _entries(observed, observation), None
    for part in parts:
        module: Any = policy.get_submodule(part.module)
        if draw is not None and draw.writes in part.reads and draw.writes not in entries:
            entries[draw.writes] = _drawn(policy, draw, entries)
        given = [entries[key] for key in part.reads]
        if part.enters:
            sequence, _ = module(given[0].unsqueeze(1), given_to(module, state, prefix=part.prefix))
            result: Any = sequence.squeeze(1)
        else:
            result = module(*given)
        entries.update(zip(part.writes, result if isinstance(result, tuple | list) else (result,), strict=False))
        if [_name(key) for key in part.writes] == [RATED]:
            rated = result if rated is None else rated.minimum(result)
    return None if rated is None else rated.reshape(len(rated))


def _drawn(policy: nn.Module, draw: _Draw, entries: Mapping[Any, torch.Tensor]) -> torch.Tensor:
    """The action that TorchRL takes without exploring, of the distribution that the policy names."""
    module: Any = policy.get_submodule(draw.module or "")
    parameters = {name: entries[key] for name, key in draw.reads.items()}
    chances = module.distribution_class(**parameters, **module.distribution_kwargs)
    action: torch.Tensor = chances.deterministic_sample if hasattr(chances, "deterministic_sample") else chances.mode
    return action


# What follows from the outputs.


def _distribution(watch: Mapping[str, Watch], draw: _Draw | None, space: gym.Space[Any]) -> Distribution | None:
    if isinstance(space, gym.spaces.Discrete):
        return Categorical("q_values" if "q_values" in watch else "logits")
    if draw is not None and draw.module is None and isinstance(space, gym.spaces.Box):
        return Deterministic(space.low, space.high)
    return None  # how loc and scale become an action is the affair of a class that the policy names


def _predict(
    policy: Any,
    parts: Sequence[_Part],
    observed: tuple[Any, ...],
    space: gym.Space[Any],
    observation: Any,
    state: Mapping[str, torch.Tensor] | None = None,
) -> Any:
    import torch
    from tensordict import TensorDict
    from tensordict.nn import InteractionType, set_interaction_type

    device = next((parameter.device for parameter in policy.parameters()), None)
    given = {key: torch.as_tensor(each, device=device)[None] for key, each in _entries(observed, observation).items()}
    memories = [part for part in parts if part.enters]
    for part in memories:
        for key, name in zip(part.enters, ("hidden", "cell"), strict=False):
            given[key] = (state or {})[part.prefix + name].transpose(0, 1)  # batch first
        given["is_init"] = torch.zeros(1, 1, dtype=torch.bool, device=device)
    with torch.no_grad(), set_interaction_type(InteractionType.DETERMINISTIC):
        acted = policy(TensorDict(given, batch_size=[1]))
    action = acted["action"][0]
    if isinstance(space, gym.spaces.Discrete):  # as a number, or one switch for each action
        taken: Any = int(action.argmax() if action.numel() == space.n and space.n > 1 else action)
    else:
        taken = action.cpu().numpy()
    if not memories:
        return taken
    return taken, {
        part.prefix + name: acted[key].cpu().transpose(0, 1)
        for part in memories
        for key, name in zip(part.leaves, ("hidden", "cell"), strict=False)
    }
