"""How RLlib's modules act: the functions of theirs that are exported, and what they take without exploring.

All but ``predict`` work on copies of a module too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from agentwrap.hooks import device_of

from .preparation import Preparation

if TYPE_CHECKING:
    import torch
    from torch import nn

#: What RLlib calls the state of PyTorch's layers.
_STATE = {"h": "hidden", "c": "cell"}


def rates(policy: Any) -> bool:
    """Whether it has the Q-functions of an actor's actions; modules of env runners mostly have not."""
    return hasattr(policy, "pi") and getattr(policy, "qf", None) is not None and hasattr(policy, "compute_q_values")


def act(policy: Any, observation: Any) -> torch.Tensor | None:
    """Act on observations (B, …), or a dict of them; see ``_run`` for what is returned."""
    if isinstance(observation, Mapping):
        return _run(policy, {"obs": {key: part.float() for key, part in observation.items()}})
    return _run(policy, {"obs": observation.float()})


def recurrent_act(policy: Any, observation: torch.Tensor, state: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """Act on observations (B, …) that are the only one of their sequences; see ``_run`` for what is returned."""
    return _run(policy, {"obs": observation.float().unsqueeze(1), "state_in": _state_in(policy, state)})


def _run(policy: Any, batch: dict[str, Any]) -> torch.Tensor | None:
    """Act; returns what the Q-functions expect of the action taken without exploring, where there are any."""
    if hasattr(policy, "af"):
        policy.compute_q_values(batch)
        return None
    inputs = policy.forward_inference(batch)["action_dist_inputs"]
    if getattr(policy, "vf", None) is not None:
        policy.compute_values(batch)
    if not rates(policy):
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


def last(policy: nn.Module, sequence: torch.Tensor) -> torch.Tensor:
    """Return of (B, T, n) the last of each sequence; (B, n) as it is."""
    return sequence[:, -1] if sequence.dim() > 2 else sequence


def q_values_of(policy: Any, latent: torch.Tensor) -> torch.Tensor:
    """The library's Q-values of an encoded observation, however it makes them of its heads."""
    heads = {"af": policy.af, "vf": policy.vf} if policy.uses_dueling else policy.af
    q_values: torch.Tensor = policy._qf_forward_helper({}, lambda batch: {"encoder_out": latent}, heads)["qf_preds"]
    return last(policy, q_values)


def mean_of(middle: Any, half: Any, policy: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Return the mean among a Gaussian's inputs, which come between -1 and 1, in the environment's units."""
    mean = last(policy, inputs).chunk(2, dim=-1)[0]
    return inputs.new_tensor(middle) + inputs.new_tensor(half) * mean


def log_std_of(half: Any, policy: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the standard deviation among them, likewise."""
    log_std = last(policy, inputs).chunk(2, dim=-1)[1]
    return log_std + inputs.new_tensor(half).log()


def predict(
    space: gym.Space[Any],
    prepared: Preparation,
    policy: Any,
    observation: Any,
    state: Mapping[str, torch.Tensor] | None = None,
) -> Any:
    """Act as an env runner does, but for chance, with the connector that scales actions by default."""
    whole, kept = _prepared(prepared, observation, state or {}, device_of(policy))
    batch: dict[str, Any] = {"obs": whole}
    if policy.is_stateful():
        batch = {"obs": whole.unsqueeze(1), "state_in": _state_in(policy, state or {})}
    outputs = policy.forward_inference(batch)
    action = _action(policy, outputs).reshape(space.shape or ())
    if isinstance(space, gym.spaces.Box) and space.is_bounded():
        scaled = space.low + (action.numpy() + 1.0) * (space.high - space.low) / 2.0
        taken: Any = np.clip(scaled, space.low, space.high)
    else:
        taken = action.numpy() if space.shape else int(action)
    after = _state_out(outputs["state_out"]) if policy.is_stateful() else {}
    return taken if state is None else (taken, {**after, **kept})


def _prepared(
    prepared: Preparation, observation: Any, state: Mapping[str, torch.Tensor], device: torch.device | None
) -> tuple[Any, Any]:
    """Return an observation of the environment as connectors make it, batch first, and what they keep of it."""
    import torch

    given = observation.items() if isinstance(observation, Mapping) else (("", observation),)
    tensors = {key: torch.as_tensor(np.asarray(part), device=device)[None] for key, part in given}
    whole: Any = tensors.get("", tensors)
    if prepared.kept and prepared.before is not None:
        stack, kept = prepared.before(whole, state)
        return stack, {name: each.cpu() for name, each in kept.items()}
    if prepared.before is not None:
        return prepared.before(whole), {}
    return {key: part.float() for key, part in tensors.items()} if whole is tensors else whole.float(), {}


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
