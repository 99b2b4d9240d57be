"""RLlib's new API stack: a torch ``RLModule`` of one agent, as an env runner or an algorithm has it.

An env runner calls ``forward_exploration`` or ``forward_inference`` with a dict that holds a batch of observations.
What they compute is seen at the heads of the library's default modules: ``pi`` (PPO, APPO, IMPALA, BC, MARWIL, and
SAC, CQL, TQC), with ``vf`` where the module has it (in env runners it mostly has not: values are computed by the
learner), and ``af`` (DQN), whose Q-values the library's own function makes of advantages, values and atoms.
What SAC's Q-functions expect of the action that it takes (``state_action_value``) is computed by the exported module
alone, and by modules that have them: those of learners.

What connectors do with observations is part of the computation where they are told (``Preprocessed``, as
``InterpretRLlibCallback`` does), see ``rllib_connectors``; where they are not, that ``FlattenObservations`` was used is
known by the size of the module's observations. RLlib's own encoders take arrays; of a module of one's own whose space
is a dict the act begins with the first submodule that it calls.

With ``use_lstm`` observations have a time axis of length 1 in env runners, and state comes in as ``state_in``, batch
first; it is seen where PyTorch's layer gets it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from agentwrap.distributions import Categorical, Distribution, Gaussian, MultiCategorical
from agentwrap.errors import PolicyTypeError
from agentwrap.extras import RLLIB
from agentwrap.policy import PolicyView, Preprocessed, State, Watch

from .preparation import Preparation
from .recurrent import states_of
from .rllib_acting import act, last, log_std_of, mean_of, predict, q_values_of, rates, recurrent_act
from .rllib_connectors import choices_of, preparation_by

if TYPE_CHECKING:
    from torch import nn

#: Where modules have the encoder that they act with.
ENCODERS = ("pi_encoder", "encoder.encoder", "encoder.actor_encoder", "encoder")


class RLlib:
    """Adapter for torch ``RLModule``s."""

    name = "rllib"
    library = RLLIB

    def matches(self, policy: Any) -> bool:
        """Whether it is an RLModule made of torch modules, alone or with its connectors."""
        classes = type(policy.policy if isinstance(policy, Preprocessed) else policy).__mro__
        return any(cls.__module__.startswith("ray.rllib.") and cls.__name__ == "TorchRLModule" for cls in classes)

    def view(self, policy: Any, env: gym.Env[Any, Any]) -> PolicyView:
        """Describe the module by its encoder and heads.

        Raises:
            PolicyTypeError: It has none of the encoders and heads that are known, it holds those of several agents, or
                the environment's observations are changed by connectors that cannot be followed.
        """
        told = policy if isinstance(policy, Preprocessed) else Preprocessed(policy, None)
        policy = told.policy
        name = type(policy).__name__
        head = next((head for head in ("pi", "af") if hasattr(policy, head)), None)
        encoder = next((place for place in ENCODERS if _find(policy, place) is not None), None)
        if encoder is None or head is None:
            raise PolicyTypeError(
                f"{name} has no encoder with pi (as the modules of PPO, APPO, IMPALA and SAC have) or af (DQN): write "
                "an adapter, see agentwrap.policy.register_adapter"
            )
        space = env.observation_space
        prepared = _preparation(told, space)
        squashed = encoder == "pi_encoder"
        as_they_are = prepared.before is None and isinstance(space, gym.spaces.Dict)
        return PolicyView(
            agent=policy,
            watch=_watch(policy, head, env.action_space, squashed=squashed),
            entry=_first(policy, space) if as_they_are else _entry(policy, encoder),
            before=prepared.before,
            refresh=prepared.refresh,
            row=prepared.row,
            kept=prepared.kept,
            act=recurrent_act if policy.is_stateful() else act,
            state=_states(policy),
            distribution=_distribution(head, env.action_space, squashed=squashed),
            learns=False,  # that is another copy, in a learner; and DQN acts while gradients are recorded
            predict=partial(predict, env.action_space, prepared, policy),
        )


def _find(policy: Any, place: str) -> Any:
    for part in place.split("."):
        policy = getattr(policy, part, None)
    return policy


def _preparation(told: Preprocessed, given: gym.Space[Any]) -> Preparation:
    """Return what stands between the environment's observations and the module's.

    Raises:
        PolicyTypeError: That cannot be followed, or the module takes something else than what comes out.
    """
    wanted, name = told.policy.observation_space, type(told.policy).__name__
    if told.by is None:
        found, space = _told_by_size(given, wanted)
    else:
        found, space = preparation_by(told.by, given, told.agent, told.agents)
    if not _fits(space, wanted):
        raise PolicyTypeError(
            f"the environment's observations are {given}, but {name} takes {wanted}: where connectors make the one of "
            "the other, tell them (agentwrap.policy.Preprocessed(module, env_to_module)), as InterpretRLlibCallback "
            "does, or wrap the environment instead"
        )
    return found


def _told_by_size(given: gym.Space[Any], wanted: Any) -> tuple[Preparation, gym.Space[Any]]:
    """Where connectors are not known: ``FlattenObservations`` shows in the size of the module's observations."""
    choices, shape = choices_of(given), getattr(wanted, "shape", None)
    if choices is not None and given.shape != shape == (gym.spaces.flatdim(given),):
        from .preprocessing import OneVector

        return Preparation(OneVector(choices)), wanted
    return Preparation(), given


def _fits(given: gym.Space[Any], wanted: Any) -> bool:
    if isinstance(given, gym.spaces.Dict):
        return (
            isinstance(wanted, gym.spaces.Dict)
            and all(isinstance(part, gym.spaces.Box) for part in given.values())
            and {key: part.shape for key, part in given.items()} == {key: part.shape for key, part in wanted.items()}
        )
    return isinstance(given, gym.spaces.Box) and getattr(wanted, "shape", None) in (None, given.shape)


def _watch(policy: Any, head: str, space: gym.Space[Any], *, squashed: bool) -> dict[str, Watch]:
    stateful = policy.is_stateful()
    newest = last if stateful else None
    latent = Watch(head, "input", then=newest)
    if head == "af":
        plain = not policy.uses_dueling and policy.num_atoms == 1
        q_values = Watch("af", then=newest) if plain else Watch("af", "input", then=q_values_of)
        return {"q_values": q_values, "latent": latent}
    watch = {"logits": Watch("pi", then=newest)}
    if isinstance(space, gym.spaces.Box):
        middle: Any = np.zeros(1)
        half: Any = np.ones(1)
        if space.is_bounded() and not squashed:  # the default connector scales -1…1 to low…high
            middle, half = (space.low + space.high).ravel() / 2, (space.high - space.low).ravel() / 2
        mean, log_std = partial(mean_of, middle, half), partial(log_std_of, half)
        watch = {"mean": Watch("pi", then=mean), "log_std": Watch("pi", then=log_std)}
    if getattr(policy, "vf", None) is not None:
        watch["value"] = Watch("vf", then=newest)
    if rates(policy):
        watch["state_action_value"] = Watch("", of="act")
    return {**watch, "latent": latent}


def _entry(policy: Any, encoder: str) -> str:
    """The first module that is called with a tensor: encoders take a dict and hand its observations to their net."""
    for inner in ("tokenizer", "net", "lstm", "gru"):
        if _find(policy, f"{encoder}.{inner}") is not None:
            return _entry(policy, f"{encoder}.{inner}") if inner == "tokenizer" else f"{encoder}.{inner}"
    return encoder


def _first(policy: Any, space: Any) -> str:
    import torch

    from agentwrap.acting import first_called

    parameter = next(policy.parameters())
    zeros = {key: torch.zeros(1, *(part.shape or ()), device=parameter.device) for key, part in space.items()}
    return first_called(policy, act, zeros)


def _memories(policy: Any) -> Iterator[tuple[str, str, nn.RNNBase]]:
    """Where recurrent layers are: the prefix of their state's names, their names in the policy, and they themselves."""
    for encoder, prefix in (*((place, "") for place in ENCODERS), ("encoder.critic_encoder", "critic/")):
        for kind in ("lstm", "gru"):
            layer = _find(policy, f"{encoder}.{kind}")
            if layer is not None:
                yield "actor/" if encoder == "encoder.actor_encoder" else prefix, f"{encoder}.{kind}", layer


def _states(policy: Any) -> dict[str, State]:
    states: dict[str, State] = {}
    for prefix, name, layer in _memories(policy):
        states |= states_of(layer, name, prefix=prefix, used_by=("value",) if prefix == "critic/" else ())
    return states


# What follows from the outputs.


def _distribution(head: str, space: gym.Space[Any], *, squashed: bool) -> Distribution | None:
    match space:
        case gym.spaces.Discrete():
            return Categorical("q_values" if head == "af" else "logits")
        case gym.spaces.MultiDiscrete():
            return MultiCategorical(tuple(int(count) for count in space.nvec))
        case gym.spaces.Box():
            return Gaussian(space.low, space.high, squashed=squashed)
    return None
