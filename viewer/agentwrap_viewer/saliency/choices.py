"""How a policy's logits or Q-values are options to choose from."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .errors import SaliencyError


@dataclass(frozen=True, eq=False)
class Choices:
    """Which outputs of an actor are options of the same choice, and which of them may be chosen.

    Attributes:
        counts: Options of each choice, whose outputs lie one group after the other; None for one choice among all,
            empty where the outputs are no options (switches).
        free: bool (A,), the options that the policy was free to choose; None where all were.
    """

    counts: tuple[int, ...] | None = None
    free: torch.Tensor | None = None

    @classmethod
    def of(cls, counts: Sequence[int] | None, action_mask: Any) -> Choices:
        """Make one of what ``Request`` says.

        Raises:
            SaliencyError: An option's count is no number from 1, or a mask leaves nothing to choose.
        """
        if counts is not None and any(count < 1 for count in counts):
            raise SaliencyError(f"choices={tuple(counts)!r}: each is the number of its options, from 1")
        free = None if action_mask is None else torch.as_tensor(action_mask).reshape(-1).to(torch.bool).cpu()
        if free is not None and not bool(free.any()):
            raise SaliencyError("action_mask leaves nothing to choose")
        return cls(None if counts is None else tuple(int(count) for count in counts), free)

    def check(self, actions: int) -> None:
        """Check that they are about so many outputs.

        Raises:
            SaliencyError: They are about another number.
        """
        if self.counts and sum(self.counts) != actions:
            raise SaliencyError(f"choices={self.counts!r} are {sum(self.counts)} options, but there are {actions}")
        if self.free is not None and len(self.free) != actions:
            raise SaliencyError(f"action_mask is about {len(self.free)} options, but there are {actions}")

    @property
    def several(self) -> bool:
        """Whether there is more than one choice."""
        return self.counts is not None and len(self.counts) > 1

    def groups(self, actions: int) -> list[range]:
        """Return which of so many outputs are the options of each choice."""
        ends = list(itertools.accumulate(self.counts or (actions,)))
        return [range(begin, end) for begin, end in zip([0, *ends], ends, strict=False)]

    def preferred(self, outputs: torch.Tensor) -> tuple[int, ...]:
        """Return the greatest of ``outputs`` (A,) that may be chosen, for each choice."""
        if self.free is not None:
            outputs = outputs.masked_fill(~self.free.to(outputs.device), -torch.inf)
        return tuple(group[int(outputs[group.start : group.stop].argmax())] for group in self.groups(len(outputs)))

    def rivals(self, option: int, actions: int) -> tuple[list[int], int]:
        """Return the options of an option's choice that may be chosen, itself in any case, and its place among them."""
        group = next(group for group in self.groups(actions) if option in group)
        kept = [other for other in group if other == option or self.free is None or bool(self.free[other])]
        return kept, kept.index(option)
