"""RLlib's new API stack: a torch ``RLModule`` of one agent, as an env runner or an algorithm has it.

An env runner calls ``forward_exploration`` or ``forward_inference`` with a dict that holds a batch of observations.
What they compute is seen at the heads of the library's default modules: ``pi`` (PPO, APPO, IMPALA, BC, MARWIL, and
SAC, CQL, TQC), with ``vf`` where the module has it (in env runners it mostly has not: values are computed by the
learner), and ``af`` (DQN), whose Q-values the library's own function makes of advantages, values and atoms. Connectors
that put observations into a batch as they are change nothing; those that change values (filters, frame stacks) cannot
be followed: the module is then never called with what the environment returned, and a warning says so.
What SAC's Q-functions expect of the action that it takes (``state_action_value``) is computed by the exported module
alone, and by modules that have them: those of learners.

RLlib's own encoders take arrays. What ``FlattenObservations`` makes of dicts and numbers is part of the computation;
that it was used is told by the size of the module's observations. Of a module of one's own whose space is a dict the
act begins with the first submodule that it calls.

With ``use_lstm`` observations have a time axis of length 1 in env runners, and state comes in as ``state_in``, batch
first; it is seen where PyTorch's layer gets it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from agentwrap.distributions import Categorical, Distribution, Gaussian, MultiCategorical
from agentwrap.errors import PolicyTypeError
from agentwrap.extras import RLLIB
from agentwrap.policy import PolicyView, State, Watch

from .recurrent import states_of

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Where modules have the encoder that they act with.
ENCODERS = ("pi_encoder", "encoder.encoder", "encoder.actor_encoder", "encoder")

#: What RLlib calls the state of PyTorch's layers.
_STATE = {"h": "hidden", "c": "cell"}


class RLlib:
    """Adapter for torch ``RLModule``s."""

    name = "rllib"
    library = RLLIB

    def matches(self, policy: Any) -> bool:
        """Whether it is an RLModule made of torch modules."""
        classes = type(policy).__mro__
        return any(cls.__module__.startswith("ray.rllib.") and cls.__name__ == "TorchRLModule" for cls in classes)

    def view(self, policy: Any, env: gym.Env[Any, Any]) -> PolicyView:
        """Describe the module by its encoder and heads.

        Raises:
            PolicyTypeError: It has none of the encoders and heads that are known, it holds those of several agents, or
                the environment's observations are changed by connectors.
        """
        name = type(policy).__name__
        head = next((head for head in ("pi", "af") if hasattr(policy, head)), None)
        encoder = next((place for place in ENCODERS if _find(policy, place) is not None), None)
        if encoder is None or head is None:
            raise PolicyTypeError(
                f"{name} has no encoder with pi (as the modules of PPO, APPO, IMPALA and SAC have) or af (DQN): write "
                "an adapter, see agentwrap.policy.register_adapter"
            )
        before = _before(name, env.observation_space, policy.observation_space)
        squashed = encoder == "pi_encoder"
        space = env.observation_space
        as_they_are = before is None and isinstance(space, gym.spaces.Dict)
        return PolicyView(
            agent=policy,
            watch=_watch(policy, head, env.action_space, squashed=squashed),
            entry=_first(policy, space) if as_they_are else _entry(policy, encoder),
            before=before,
            act=_recurrent_act if policy.is_stateful() else _act,
            state=_states(policy),
            distribution=_distribution(head, env.action_space, squashed=squashed),
            learns=False,  # that is another copy, in a learner; and DQN acts while gradients are recorded
            predict=partial(_predict, env.action_space, before, policy),
        )


def _find(policy: Any, place: str) -> Any:
    for part in place.split("."):
        policy = getattr(policy, part, None)
    return policy


def _before(name: str, given: gym.Space[Any], wanted: Any) -> nn.Module | None:
    """Return what stands between the environment's observations and the module's; None where nothing does.

    Raises:
        PolicyTypeError: The module takes something else, which other connectors may make of that.
    """
    flat, shape = _flat(given), getattr(wanted, "shape", None)
    if flat is not None and given.shape != shape == (gym.spaces.flatdim(given),):
        from .preprocessing import OneVector

        return OneVector(flat)
    if (
        isinstance(given, gym.spaces.Dict)
        and isinstance(wanted, gym.spaces.Dict)
        and all(isinstance(part, gym.spaces.Box) for part in given.values())
    ):
        fits = {key: part.shape for key, part in given.items()} == {key: part.shape for key, part in wanted.items()}
    elif isinstance(given, gym.spaces.Box):
        fits = getattr(wanted, "shape", None) in (None, given.shape)
    else:
        raise PolicyTypeError(
            f"observations of {given} are changed by RLlib's connectors before {name} gets them, which agentwrap "
            "cannot follow, but for FlattenObservations: wrap the environment so that it returns arrays of numbers, or "
            "use a module of your own that takes them as they are"
        )
    if not fits:
        raise PolicyTypeError(
            f"the environment's observations are {given}, but {name} takes {wanted}: where connectors make the one of "
            "the other, wrap the environment instead"
        )
    return None


def _flat(space: gym.Space[Any]) -> dict[str, int | None] | None:
    """Return what the elements of a flattened observation are made of, as ``OneVector`` has it, in RLlib's order."""
    parts = dict(sorted(space.items())) if isinstance(space, gym.spaces.Dict) else {"": space}
    if not all(isinstance(part, gym.spaces.Box | gym.spaces.Discrete) for part in parts.values()):
        return None
    return {key: int(part.n) if isinstance(part, gym.spaces.Discrete) else None for key, part in parts.items()}


def _watch(policy: Any, head: str, space: gym.Space[Any], *, squashed: bool) -> dict[str, Watch]:
    stateful = policy.is_stateful()
    last = _last if stateful else None
    latent = Watch(head, "input", then=last)
    if head == "af":
        plain = not policy.uses_dueling and policy.num_atoms == 1
        q_values = Watch("af", then=last) if plain else Watch("af", "input", then=_q_values)
        return {"q_values": q_values, "latent": latent}
    watch = {"logits": Watch("pi", then=last)}
    if isinstance(space, gym.spaces.Box):
        middle: Any = np.zeros(1)
        half: Any = np.ones(1)
        if space.is_bounded() and not squashed:  # the default connector scales -1…1 to low…high
            middle, half = (space.low + space.high).ravel() / 2, (space.high - space.low).ravel() / 2
        mean, log_std = partial(_mean, middle, half), partial(_log_std, half)
        watch = {"mean": Watch("pi", then=mean), "log_std": Watch("pi", then=log_std)}
    if getattr(policy, "vf", None) is not None:
        watch["value"] = Watch("vf", then=last)
    if _rates(policy):
        watch["state_action_value"] = Watch("", of="act")
    return {**watch, "latent": latent}


def _rates(policy: Any) -> bool:
    """Whether it has the Q-functions of an actor's actions; modules of env runners mostly have not."""
    return hasattr(policy, "pi") and getattr(policy, "qf", None) is not None and hasattr(policy, "compute_q_values")


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
    return first_called(policy, _act, zeros)


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


# These work on copies of the module too.


def _act(policy: Any, observation: Any) -> torch.Tensor | None:
    if isinstance(observation, Mapping):
        return _run(policy, {"obs": {key: part.float() for key, part in observation.items()}})
    return _run(policy, {"obs": observation.float()})


def _recurrent_act(policy: Any, observation: torch.Tensor, state: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    return _run(policy, {"obs": observation.float().unsqueeze(1), "state_in": _state_in(policy, state)})


def _run(policy: Any, batch: dict[str, Any]) -> torch.Tensor | None:
    """Act; returns what the Q-functions expect of the action taken without exploring, where there are any."""
    if hasattr(policy, "af"):
        policy.compute_q_values(batch)
        return None
    inputs = policy.forward_inference(batch)["action_dist_inputs"]
    if getattr(policy, "vf", None) is not None:
        policy.compute_values(batch)
    if not _rates(policy):
        return None
    if isinstance(policy.action_space, gym.spaces.Discrete):  # the Q-functions of SAC rate all actions then
        rated: torch.Tensor = policy.compute_q_values({"obs": batch["obs"]}, squeeze=False)
        return rated.gather(1, inputs.argmax(dim=1, keepdim=True)).squeeze(1)
    action = inputs.chunk(2, dim=-1)[0].tanh()  # the distribution of SAC is squashed to -1…1
    expected: torch.Tensor = policy.compute_q_values({"obs": batch["obs"], "actions": action})
    return expected


def _state_in(policy: Any, state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Return state by name as RLlib gives it: batch first, of actor and critic apart where each has its own."""
    if not any(name.startswith("actor/") for name in state):
        return {key: state[name].transpose(0, 1) for key, name in _STATE.items() if name in state}
    return {
        part: {key: _of(part, name, state).transpose(0, 1) for key, name in _STATE.items() if f"actor/{name}" in state}
        for part in ("actor", "critic")
    }


def _of(part: str, name: str, state: Mapping[str, torch.Tensor]) -> torch.Tensor:
    # the critic's may be unknown, and no output that needs it is asked for then
    return state.get(f"{part}/{name}", state[f"actor/{name}"])


def _last(policy: nn.Module, sequence: torch.Tensor) -> torch.Tensor:
    return sequence[:, -1] if sequence.dim() > 2 else sequence


def _q_values(policy: Any, latent: torch.Tensor) -> torch.Tensor:
    """The library's Q-values of an encoded observation, however it makes them of its heads."""
    heads = {"af": policy.af, "vf": policy.vf} if policy.uses_dueling else policy.af
    q_values: torch.Tensor = policy._qf_forward_helper({}, lambda batch: {"encoder_out": latent}, heads)["qf_preds"]
    return _last(policy, q_values)


def _mean(middle: Any, half: Any, policy: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    mean = _last(policy, inputs).chunk(2, dim=-1)[0]
    return inputs.new_tensor(middle) + inputs.new_tensor(half) * mean


def _log_std(half: Any, policy: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    log_std = _last(policy, inputs).chunk(2, dim=-1)[1]
    return log_std + inputs.new_tensor(half).log()


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


def _predict(space: gym.Space[Any], before: Any, policy: Any, observation: Any, state: Any = None) -> Any:
    """Act as an env runner does, but for chance, with the connector that scales actions by default."""
    import torch

    given = observation.items() if isinstance(observation, Mapping) else (("", observation),)
    tensors = {key: torch.as_tensor(np.asarray(part))[None] for key, part in given}
    whole: Any = tensors.get("", tensors)
    if before is None:
        whole = {key: part.float() for key, part in tensors.items()} if whole is tensors else whole.float()
    batch: dict[str, Any] = {"obs": whole if before is None else before(whole)}
    if state is not None:
        batch = {"obs": batch["obs"].unsqueeze(1), "state_in": _state_in(policy, state)}
    outputs = policy.forward_inference(batch)
    action = _action(policy, outputs).reshape(space.shape or ())
    if isinstance(space, gym.spaces.Box) and space.is_bounded():
        scaled = space.low + (action.numpy() + 1.0) * (space.high - space.low) / 2.0
        taken: Any = np.clip(scaled, space.low, space.high)
    else:
        taken = action.numpy() if space.shape else int(action)
    return taken if state is None else (taken, _state_out(outputs["state_out"]))


def _action(policy: Any, outputs: Mapping[str, Any]) -> torch.Tensor:
    if "actions" in outputs:
        actions: torch.Tensor = outputs["actions"]
    else:
        chances = policy.get_exploration_action_dist_cls().from_logits(outputs["action_dist_inputs"])
        # the middle of what is drawn from: RLlib itself leaves the hyperbolic tangent out where it does not explore
        squash = getattr(chances, "_squash", None)
        actions = chances.to_deterministic().sample() if squash is None else squash(chances.loc)
    return actions.detach().cpu()


def _state_out(after: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Name RLlib's new state as ``PolicyView.state`` does."""
    found: dict[str, Any] = {}
    for key, each in after.items():
        if isinstance(each, Mapping):
            found |= _state_out(each, f"{key}/")
        else:
            found[f"{prefix}{_STATE[key]}"] = each.detach().cpu().transpose(0, 1)
    return found
