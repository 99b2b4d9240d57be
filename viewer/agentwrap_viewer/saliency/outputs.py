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

#: A target as methods get it: ``chosen`` is the action's index, or where there are several choices one for each. Of
#: switches it says how each is preferred: ``i`` is switch i put on, ``~i`` the same put off.
Resolved = str | int | tuple[int, ...]

#: Names of outputs that stand for the actor, the first present one is taken.
ACTOR_NAMES = ("logits", "q_values", "mean")

#: Names of outputs that stand for the critic, likewise: V(s), or Q(s, a) of the action that the actor takes.
CRITIC_NAMES = ("value", "state_action_value")

#: How a target that is one of several choices begins.
CHOICE = "choice:"

#: Asks for the first of a method's own targets that the policy has.
FIRST = "first"


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
        return cls(q, None if value is None else value[:, 0], discrete, named, Choices() if name == "mean" else choices)

    @property
    def switches(self) -> bool:
        """Whether the columns of ``q`` are logits of independent switches."""
        return self.q is not None and not self.discrete and self.choices.counts == ()

    @property
    def continuous(self) -> bool:
        """Whether ``q`` are means."""
        return self.q is not None and not self.discrete and not self.switches

    @property
    def targets(self) -> tuple[str, ...]:
        """The named targets that these outputs allow."""
        actor: tuple[str, ...] = () if self.q is None else ("actor",) if self.continuous else ("actor", "chosen")
        if self.discrete and self.choices.several:
            actor = (*actor, *(f"{CHOICE}{index}" for index in range(len(self.choices.counts or ()))))
        return actor if self.value is None else (*actor, "critic")

    def action(self) -> int | tuple[int, ...]:
        """Return the preferred action of the first observation: the argmax of ``q``, or of each choice's part of it.

        Raises:
            SaliencyError: The policy chooses among no options.
        """
        if self.switches and self.q is not None:
            return tuple(index if on else ~index for index, on in enumerate((self.q[0] > 0).tolist()))
        if not self.discrete:
            raise self.not_offered("chosen")
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
            raise self.not_offered(target)
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
        found = []
        for option in (target,) if isinstance(target, int) else target:
            if not isinstance(option, int):
                raise self.not_offered(target)
            if self.switches:  # off and on, whose logits differ by that of the switch
                on = self.columns(option if option >= 0 else ~option)
                found.append((torch.cat([torch.zeros_like(on), on], dim=1), int(option >= 0)))
                continue
            logits = self.logits()
            kept, place = self.choices.rivals(option, logits.shape[1])
            found.append((logits[:, kept], place))
        return found

    def probability(self, target: Resolved) -> torch.Tensor:
        """Return how likely an action is by the softmax of logits, (B,): of several choices, all options together."""
        parts = [logits.softmax(1)[:, place] for logits, place in self.options(target)]
        return torch.stack(parts).prod(0)

    def columns(self, target: Resolved) -> torch.Tensor:
        """Return what ``target`` stands for, (B, k): ``actor``, ``critic``, a choice, or indices of actions.

        Of a switch that is put off it is the logit of that, the negative of its own.

        Raises:
            SaliencyError: There is no such thing; the text says what there is.
        """
        if target == "critic" and self.value is not None:
            return self.value[:, None]
        if target == "actor" and self.q is not None:
            return self.q
        if isinstance(target, str) and target.startswith(CHOICE):
            index = self._choice(target)
            group = self.choices.groups(self.logits().shape[1])[index]
            return self.logits()[:, group.start : group.stop]
        indices = (target,) if isinstance(target, int) else target
        if self.q is not None and not isinstance(indices, str):
            off = [self.switches and i < 0 for i in indices]
            places = [~i if negative else i for i, negative in zip(indices, off, strict=True)]
            if all(0 <= place < self.q.shape[1] for place in places):
                found = self.q[:, places]
                return found * found.new_tensor([-1 if negative else 1 for negative in off]) if any(off) else found
        raise self.not_offered(target)

    def not_offered(self, target: Resolved) -> SaliencyError:
        """Return the error for a target that these outputs do not allow."""
        actions = "" if self.q is None else f", or an index below {self.q.shape[1]}"
        return SaliencyError(f"target {target!r}: this policy offers {', '.join(self.targets)}{actions}")


def probability(clean: Outputs, perturbed: Outputs, target: Resolved) -> torch.Tensor:
    """Return how likely ``target`` still is under perturbations, (B,), in 0..1.

    Among options it is the softmax's probability. An action of a continuous policy has only a density; what is returned
    then is how likely the action of each perturbed mean is to the policy that sees everything, as a share of how likely
    its own is: exp(-`departure`).
    """
    return (-departure(clean, perturbed, target)).exp() if clean.continuous else perturbed.probability(target)


def departure(clean: Outputs, perturbed: Outputs, target: Resolved) -> torch.Tensor:
    """Return how far the mean of a continuous policy moves, (B,): ½·Σ ((μ − μ′) / σ)², with σ of the clean outputs.

    That is the fall of the clean policy's log-density from the action it takes to the one it would take, and the
    Kullback-Leibler divergence of two normal distributions of that σ. A squashing function that follows changes
    neither. Without ``log_std`` σ is 1: half the squared distance of Greydanus et al. 2018.

    Args:
        clean: Outputs for the observation itself, a batch of one.
        perturbed: Outputs for B perturbed ones.
        target: ``actor``, all dimensions, or the index of one.

    Raises:
        SaliencyError: There is no such dimension, or ``log_std`` has another number of them.
    """
    moved, log_std = clean.columns(target) - perturbed.columns(target), clean.named.get("log_std")
    if log_std is None or clean.q is None:
        return 0.5 * moved.square().sum(1)
    spread = log_std.detach().to(moved).reshape(-1)
    if spread.numel() not in (1, clean.q.shape[1]):
        raise SaliencyError(f"the policy's log_std has {spread.numel()} numbers for a mean of {clean.q.shape[1]}")
    spread = spread.expand(clean.q.shape[1])
    return 0.5 * (moved / spread[target if isinstance(target, int) else slice(None)].exp()).square().sum(1)


def _batched(name: str, tensor: torch.Tensor, batch: int, grad: bool) -> torch.Tensor:
    if tensor.ndim == 0 or tensor.shape[0] != batch:
        raise SaliencyError(f"the policy's {name} has shape {tuple(tensor.shape)} for a batch of {batch} observations")
    flat = (tensor if grad else tensor.detach()).to(torch.float32).reshape(batch, -1)
    if not bool(torch.isfinite(flat).all()):
        what = "NaN" if bool(torch.isnan(flat).any()) else "infinite"
        raise SaliencyError(f"the policy's output {name} is {what}")
    return flat
