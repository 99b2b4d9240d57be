"""What a policy says about a batch of observations, and what of it is explained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from .choices import Choices
from .errors import SaliencyError

#: ``actor``: all logits, Q-values or means. ``critic``: the value. ``chosen``: the action the policy prefers.
#: ``choice:<i>``: all options of one of several choices. Or an action's index: of means, that of a dimension.
Target = str | int

#: A target as methods get it: ``chosen`` is the action's index, or where there are several choices one for each.
Resolved = str | int | tuple[int, ...]

#: Names of outputs that stand for the actor, the first present one is taken.
ACTOR_NAMES = ("logits", "q_values", "mean")

#: Names of outputs that stand for the critic, likewise: V(s), or Q(s, a) of the action that the actor takes.
CRITIC_NAMES = ("value", "state_action_value")

#: How a target that is one of several choices begins.
CHOICE = "choice:"


@dataclass(frozen=True)
class Outputs:
    """Outputs for a batch.

    Attributes:
        q: float32 (B, A): raw logits, Q-values, or means of a continuous policy; None where there are none.
        value: float32 (B,), or None where the policy has no critic.
        discrete: Whether the columns of ``q`` are actions to choose from.
        named: Everything the policy returned, by name.
        choices: Which columns of ``q`` are options of the same choice, and may be chosen.
    """

    q: torch.Tensor | None
    value: torch.Tensor | None
    discrete: bool
    named: Mapping[str, torch.Tensor]
    choices: Choices = Choices()

    @classmethod
    def from_named(
        cls, named: Mapping[str, torch.Tensor], batch: int, *, grad: bool = False, choices: Choices | None = None
    ) -> Outputs:
        """Pick actor and critic out of named outputs and check that they are usable.

        Args:
            named: What the policy returned, by name.
            batch: The number of observations it was given.
            grad: Whether to leave the outputs attached to what they were computed from.
            choices: How logits or Q-values are options, where that is known.

        Raises:
            SaliencyError: Neither is there, the batch has the wrong size, something is not finite, or ``choices`` are
                about another number of options.
        """
        choices = choices or Choices()
        name, of_critic = (next((n for n in names if n in named), None) for names in (ACTOR_NAMES, CRITIC_NAMES))
        if name is None and of_critic is None:
            raise SaliencyError(
                f"the policy's outputs are {', '.join(named) or 'empty'}; "
                f"one of {', '.join((*ACTOR_NAMES, *CRITIC_NAMES))} is needed"
            )
        q = None if name is None else _batched(name, named[name], batch, grad)
        value = None if of_critic is None else _batched(of_critic, named[of_critic], batch, grad)
        if value is not None and value.shape[1] != 1:
            raise SaliencyError(f"the policy's {of_critic} has {value.shape[1]} numbers for each observation, not one")
        discrete = name in ("logits", "q_values") and choices.counts != ()
        if q is not None and discrete:
            choices.check(q.shape[1])
        return cls(q, None if value is None else value[:, 0], discrete, named, choices)

    @property
    def targets(self) -> tuple[str, ...]:
        """The named targets that these outputs allow."""
        actor: tuple[str, ...] = () if self.q is None else ("actor", "chosen") if self.discrete else ("actor",)
        if self.discrete and self.choices.several:
            actor = (*actor, *(f"{CHOICE}{index}" for index in range(len(self.choices.counts or ()))))
        return actor if self.value is None else (*actor, "critic")

    def action(self) -> int | tuple[int, ...]:
        """Return the preferred action of the first observation: the argmax of ``q``, or of each choice's part of it.

        Raises:
            SaliencyError: The policy chooses among no options.
        """
        if not self.discrete:
            raise self._not_offered("chosen")
        found = self.choices.preferred(self.logits()[0])
        return found if self.choices.several else found[0]

    def option_of(self, choice: str) -> int:
        """Return the preferred option of a choice, ``choice:<i>``.

        Raises:
            SaliencyError: There is no such choice.
        """
        return self.choices.preferred(self.logits()[0])[self._choice(choice)]

    def _choice(self, target: str) -> int:
        if target not in self.targets or not target.startswith(CHOICE):
            raise self._not_offered(target)
        return int(target.removeprefix(CHOICE))

    def logits(self) -> torch.Tensor:
        """Return ``q`` (B, A) of a policy that chooses among actions."""
        if self.q is None or not self.discrete:
            raise SaliencyError("this asks for a policy with logits or q_values; this one has none")
        return self.q

    def options(self, target: Resolved) -> list[tuple[torch.Tensor, int]]:
        """Return for each option that ``target`` names the logits (B, n) of its choice, and its place among them.

        Raises:
            SaliencyError: It names none.
        """
        self.columns(target)
        logits, found = self.logits(), []
        for option in (target,) if isinstance(target, int) else target:
            if not isinstance(option, int):
                raise self._not_offered(target)
            kept, place = self.choices.rivals(option, logits.shape[1])
            found.append((logits[:, kept], place))
        return found

    def probability(self, target: Resolved) -> torch.Tensor:
        """Return how likely an action is by the softmax of logits, (B,): of several choices, all options together."""
        parts = [logits.softmax(1)[:, place] for logits, place in self.options(target)]
        return torch.stack(parts).prod(0)

    def columns(self, target: Resolved) -> torch.Tensor:
        """Return what ``target`` stands for, (B, k): ``actor``, ``critic``, a choice, or indices of actions.

        Raises:
            SaliencyError: There is no such thing; the text says what there is.
        """
        if target == "critic" and self.value is not None:
            return self.value[:, None]
        if target == "actor" and self.q is not None:
            return self.q
        if isinstance(target, str) and target.startswith(CHOICE):
            group = self.choices.groups(self.logits().shape[1])[self._choice(target)]
            return self.logits()[:, group.start : group.stop]
        indices = (target,) if isinstance(target, int) else target
        if self.q is not None and not isinstance(indices, str) and all(0 <= i < self.q.shape[1] for i in indices):
            return self.q[:, list(indices)]
        raise self._not_offered(target)

    def _not_offered(self, target: Resolved) -> SaliencyError:
        actions = "" if self.q is None else f", or an index below {self.q.shape[1]}"
        return SaliencyError(f"target {target!r}: this policy offers {', '.join(self.targets)}{actions}")


def _batched(name: str, tensor: torch.Tensor, batch: int, grad: bool) -> torch.Tensor:
    if tensor.ndim == 0 or tensor.shape[0] != batch:
        raise SaliencyError(f"the policy's {name} has shape {tuple(tensor.shape)} for a batch of {batch} observations")
    flat = (tensor if grad else tensor.detach()).to(torch.float32).reshape(batch, -1)
    if not bool(torch.isfinite(flat).all()):
        what = "NaN" if bool(torch.isnan(flat).any()) else "infinite"
        raise SaliencyError(f"the policy's output {name} is {what}")
    return flat
