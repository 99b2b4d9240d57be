"""What a policy says about a batch of observations, and what of it is explained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from .errors import SaliencyError

#: ``actor``: all logits, Q-values or means. ``critic``: the value. ``chosen``: the action the policy prefers. Or an
#: action's index.
Target = str | int

#: Names of outputs that stand for the actor, the first present one is taken.
ACTOR_NAMES = ("logits", "q_values", "mean")


@dataclass(frozen=True)
class Outputs:
    """Outputs for a batch.

    Attributes:
        q: float32 (B, A): raw logits, Q-values, or means of a continuous policy; None where there are none.
        value: float32 (B,), or None where the policy has no critic.
        discrete: Whether the columns of ``q`` are actions to choose from.
        named: Everything the policy returned, by name.
    """

    q: torch.Tensor | None
    value: torch.Tensor | None
    discrete: bool
    named: Mapping[str, torch.Tensor]

    @classmethod
    def from_named(cls, named: Mapping[str, torch.Tensor], batch: int, *, grad: bool = False) -> Outputs:
        """Pick actor and critic out of named outputs and check that they are usable.

        Args:
            named: What the policy returned, by name.
            batch: The number of observations it was given.
            grad: Whether to leave the outputs attached to what they were computed from.

        Raises:
            SaliencyError: Neither is there, the batch has the wrong size, or something is not finite.
        """
        name = next((name for name in ACTOR_NAMES if name in named), None)
        if name is None and "value" not in named:
            raise SaliencyError(
                f"the policy's outputs are {', '.join(named) or 'empty'}; "
                f"one of {', '.join(ACTOR_NAMES)} or value is needed"
            )
        q = None if name is None else _batched(name, named[name], batch, grad)
        value = _batched("value", named["value"], batch, grad) if "value" in named else None
        if value is not None and value.shape[1] != 1:
            raise SaliencyError(f"the policy's value has {value.shape[1]} numbers for each observation, not one")
        return cls(q, None if value is None else value[:, 0], name in ("logits", "q_values"), named)

    @property
    def targets(self) -> tuple[str, ...]:
        """The named targets that these outputs allow."""
        actor = () if self.q is None else ("actor", "chosen") if self.discrete else ("actor",)
        return actor if self.value is None else (*actor, "critic")

    def action(self) -> int:
        """Return the preferred action of the first observation: the argmax of ``q``."""
        return int(self.logits()[0].argmax())

    def logits(self) -> torch.Tensor:
        """Return ``q`` (B, A) of a policy that chooses among actions."""
        if self.q is None or not self.discrete:
            raise SaliencyError("this asks for a policy with logits or q_values; this one has none")
        return self.q

    def columns(self, target: Target) -> torch.Tensor:
        """Return what ``target`` stands for, (B, k): ``actor``, ``critic`` or an action's index."""
        if target == "critic" and self.value is not None:
            return self.value[:, None]
        if target == "actor" and self.q is not None:
            return self.q
        if isinstance(target, int) and self.q is not None and 0 <= target < self.q.shape[1]:
            return self.q[:, target : target + 1]
        actions = "" if self.q is None else f", or an index below {self.q.shape[1]}"
        raise SaliencyError(f"target {target!r}: this policy offers {', '.join(self.targets)}{actions}")


def _batched(name: str, tensor: torch.Tensor, batch: int, grad: bool) -> torch.Tensor:
    if tensor.ndim == 0 or tensor.shape[0] != batch:
        raise SaliencyError(f"the policy's {name} has shape {tuple(tensor.shape)} for a batch of {batch} observations")
    flat = (tensor if grad else tensor.detach()).to(torch.float32).reshape(batch, -1)
    if not bool(torch.isfinite(flat).all()):
        what = "NaN" if bool(torch.isnan(flat).any()) else "infinite"
        raise SaliencyError(f"the policy's output {name} is {what}")
    return flat
