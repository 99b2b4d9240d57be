"""TorchRL: modules that read entries of a TensorDict and write others, alone or in a row (actors, operators).

What comes out is known by the names of the entries: ``logits``, ``loc`` and ``scale`` (or ``log_scale``),
``action_value``, ``state_value``, ``hidden``. It is seen at the plain modules inside, which are called with tensors;
those that sample an action or pick one are not needed for that. An entry that no module writes is the observation. A
module that reads the action too (``state_action_value``) is asked about the one that the policy takes without
exploring, by the exported module alone: what the library asks it about is one that was drawn.

What transforms do between environment and policy is part of the computation where they are told (``Preprocessed``, as
``agentwrap.torchrl.interpret`` does), see ``torchrl_transforms``; where they are not, the environment that is wrapped
has to return what the policy reads.

``LSTMModule`` and ``GRUModule`` are seen at PyTorch's layer inside, which gets a sequence of one step when a policy
acts, and the state after ``is_init`` has emptied it. Where that state comes from (a ``TensorDictPrimer``, a collector,
a loop of one's own) does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from agentwrap.distributions import Categorical, Deterministic, Distribution
from agentwrap.errors import PolicyTypeError
from agentwrap.extras import TENSORDICT, TORCHRL
from agentwrap.hooks import device_of
from agentwrap.policy import PolicyView, Preprocessed, Watch

from .preparation import Preparation
from .recurrent import given_to
from .torchrl_parts import ACTION, RATED, Draw, Part, apart, draw_of, is_a, name_of, named, parts_of, states_of_parts

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


class TorchRL:
    """Adapter for TorchRL's and TensorDict's modules."""

    name = "torchrl"
    library = TORCHRL

    def matches(self, policy: Any) -> bool:
        """Whether it is a module that takes a TensorDict, alone or with the environment whose transforms it needs."""
        return is_a(policy.policy if isinstance(policy, Preprocessed) else policy, "TensorDictModuleBase")

    def view(self, policy: Any, env: gym.Env[Any, Any]) -> PolicyView:
        """Describe the policy by the keys that its modules read and write.

        Raises:
            PolicyTypeError: It reads what the environment does not return, or writes nothing of a known name, or a
                transform before it cannot be followed.
        """
        by = policy.by if isinstance(policy, Preprocessed) else None
        policy = policy.policy if isinstance(policy, Preprocessed) else policy
        self.library = TORCHRL if type(policy).__module__.startswith("torchrl.") else TENSORDICT
        every = named(list(parts_of(policy)))
        if not every:
            raise PolicyTypeError(f"{type(policy).__name__} consists of no torch.nn.Module whose outputs could be seen")
        continuous = isinstance(env.action_space, gym.spaces.Box)
        parts, critics = apart(every)
        observed = _read(parts) if by is not None else _observed(parts, env.observation_space)
        draw = draw_of(policy, parts) if continuous else None
        names = {**OUTPUTS, ACTION: "mean"} if continuous else OUTPUTS
        found = {
            names[name_of(key)]: _watch(part, place, key)
            for part in parts
            for place, key in enumerate(part.writes)
            if name_of(key) in names
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
        told: dict[str, torch.Tensor] = {}
        prepared = _preparation(by, env.observation_space, observed, told)
        return PolicyView(
            agent=policy,
            watch=watch,
            entry=parts[0].module,
            before=prepared.before,
            refresh=prepared.refresh,
            kept=prepared.kept,
            act=partial(_act, parts, observed, draw),
            state=states_of_parts(policy, parts),
            distribution=_distribution(watch, draw, env.action_space),
            predict=partial(_predict, policy, parts, observed, env.action_space, prepared, told)
            if "action" in policy.out_keys
            else None,
        )


def _observed(parts: list[Part], space: gym.Space[Any]) -> tuple[Any, ...]:
    """Keys of what the environment returns.

    Raises:
        PolicyTypeError: Its observations are others.
    """
    read = _read(parts)
    if isinstance(space, gym.spaces.Dict):
        missing = [key for key in read if name_of(key) not in space.spaces]
        if missing:
            raise PolicyTypeError(f"the policy reads {missing}, but the environment's observations are {space}")
    elif len(read) != 1:
        raise PolicyTypeError(f"the policy reads {list(read)}, but the environment has one observation: {space}")
    return read


def _read(parts: list[Part]) -> tuple[Any, ...]:
    written = {key for part in parts for key in part.writes}
    return tuple(dict.fromkeys(key for part in parts for key in part.reads if key not in written))


def _preparation(by: Any, given: gym.Space[Any], reads: Sequence[Any], told: dict[str, torch.Tensor]) -> Preparation:
    if by is None:
        return Preparation()
    from .torchrl_transforms import preparation_by

    return preparation_by(by, given, reads, told)


def _watch(part: Part, place: int, key: Any) -> Watch:
    if part.enters:
        return Watch(part.module, at=(0,), then=_of_one_step)
    then = _logarithm if name_of(key) == "scale" else None
    return Watch(part.module, at=(place,) if len(part.writes) > 1 else (), then=then)


# These work on copies of the modules too.


def _of_one_step(policy: nn.Module, sequence: torch.Tensor) -> torch.Tensor:
    return sequence.flatten(1, -2)[:, -1]


def _logarithm(policy: nn.Module, scale: torch.Tensor) -> torch.Tensor:
    return scale.log()


def _entries(observed: tuple[Any, ...], observation: Any) -> dict[Any, Any]:
    given = isinstance(observation, Mapping)
    return {key: observation[name_of(key)] if given else observation for key in observed}


def _act(
    parts: Sequence[Part],
    observed: tuple[Any, ...],
    draw: Draw | None,
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
        if [name_of(key) for key in part.writes] == [RATED]:
            rated = result if rated is None else rated.minimum(result)
    return None if rated is None else rated.reshape(len(rated))


def _drawn(policy: nn.Module, draw: Draw, entries: Mapping[Any, torch.Tensor]) -> torch.Tensor:
    """The action that TorchRL takes without exploring, of the distribution that the policy names."""
    module: Any = policy.get_submodule(draw.module or "")
    parameters = {name: entries[key] for name, key in draw.reads.items()}
    chances = module.distribution_class(**parameters, **module.distribution_kwargs)
    action: torch.Tensor = chances.deterministic_sample if hasattr(chances, "deterministic_sample") else chances.mode
    return action


# What follows from the outputs.


def _distribution(watch: Mapping[str, Watch], draw: Draw | None, space: gym.Space[Any]) -> Distribution | None:
    if isinstance(space, gym.spaces.Discrete):
        return Categorical("q_values" if "q_values" in watch else "logits")
    if draw is not None and draw.module is None and isinstance(space, gym.spaces.Box):
        return Deterministic(space.low, space.high)
    return None  # how loc and scale become an action is the affair of a class that the policy names


def _predict(
    policy: Any,
    parts: Sequence[Part],
    observed: tuple[Any, ...],
    space: gym.Space[Any],
    prepared: Preparation,
    told: dict[str, torch.Tensor],
    observation: Any,
    state: Mapping[str, torch.Tensor] | None = None,
) -> Any:
    import torch
    from tensordict import TensorDict
    from tensordict.nn import InteractionType, set_interaction_type

    device = device_of(policy)
    given, kept = _prepared(prepared, told, observed, observation, state or {}, device)
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
    if not memories and not kept:
        return taken
    return taken, {name: each.cpu() for name, each in kept.items()} | {
        part.prefix + name: acted[key].cpu().transpose(0, 1)
        for part in memories
        for key, name in zip(part.leaves, ("hidden", "cell"), strict=False)
    }


def _prepared(
    prepared: Preparation,
    told: dict[str, torch.Tensor],
    observed: tuple[Any, ...],
    observation: Any,
    state: Mapping[str, torch.Tensor],
    device: Any,
) -> tuple[dict[Any, Any], dict[str, torch.Tensor]]:
    """Return what the policy reads of an observation of the environment, batch first, and what is kept of it."""
    import torch

    if isinstance(observation, Mapping):
        whole: Any = {name: torch.as_tensor(each, device=device)[None] for name, each in observation.items()}
    else:
        whole = torch.as_tensor(observation, device=device)[None]
    kept: dict[str, torch.Tensor] = {}
    if prepared.kept and prepared.before is not None:
        told.update((name, state[name]) for name in prepared.kept)
        whole, kept = prepared.before(whole, state)
    elif prepared.before is not None:
        whole = prepared.before(whole)
    return _entries(observed, whole), kept
