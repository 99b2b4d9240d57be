"""How many perturbed observations a policy is given at a time: the fastest size, found while first maps are made."""

from __future__ import annotations

import math
from typing import Any
from weakref import WeakKeyDictionary

import torch

from .incremental.costs import WORTH

#: Numbers in a usual batch of perturbed observations: its activations mostly stay in a processor's cache.
USUAL_NUMBERS = 2**20

#: Numbers in the largest that is tried.
MOST_NUMBERS = 2 * USUAL_NUMBERS

#: Fewest and most observations in a batch.
BOUNDS = (8, 512)

#: Batches of each size that are measured; the first, which sets things up, does not count.
TURNS = 4


class Chunks:
    """Sizes of batch for a policy and a shape of observation: the usual one, half and twice of it.

    Nothing is evaluated in order to measure: until each has been measured, batches have these sizes in turns. Another
    than the usual is taken where it took less for each observation by a tenth; less than that is noise.

    Args:
        usual: What is taken until more is known.
        most: The largest that may be tried.
    """

    def __init__(self, usual: int, most: int) -> None:
        self.usual = usual
        sizes = dict.fromkeys(size for size in (usual, usual // 2, 2 * usual) if BOUNDS[0] <= size <= max(usual, most))
        self._turns = dict.fromkeys(sizes, 0)
        self._least = dict.fromkeys(sizes, math.inf)

    @classmethod
    def of(cls, policy: Any, shape: torch.Size, device: torch.device) -> Chunks:
        """Return those of a policy, which are kept as long as it is, apart for each number of torch's threads."""
        try:
            kept = _KEPT.setdefault(policy, {})
        except TypeError:  # what cannot be a key: found anew for each map
            kept = {}
        key = (shape, device, torch.get_num_threads())
        if key not in kept:
            kept[key] = cls(usual_size(shape.numel()), min(BOUNDS[1], MOST_NUMBERS // max(shape.numel(), 1)))
        return kept[key]

    @property
    def measuring(self) -> bool:
        """Whether the time of a batch says something that is not known yet."""
        return any(turns < TURNS for turns in self._turns.values())

    @property
    def best(self) -> int:
        """The size that took least of those measured, the usual one unless another took less by a tenth."""
        known = [size for size, turns in self._turns.items() if turns == TURNS]
        fastest = min(known, key=self._least.__getitem__, default=self.usual)
        return fastest if self._least[fastest] < WORTH * self._least[self.usual] else self.usual

    def next(self, left: int) -> int:
        """Return how many of those that are left to evaluate at once: a size to be measured, or the best."""
        untried = [size for size, turns in self._turns.items() if turns < TURNS and self.usual <= left >= size]
        return min(untried, key=self._turns.__getitem__) if untried else min(self.best, left)

    def took(self, size: int, seconds: float) -> None:
        """Learn how long a batch took."""
        turns = self._turns.get(size, TURNS)
        if turns == TURNS:
            return
        if turns:
            self._least[size] = min(self._least[size], seconds / size)
        self._turns[size] = turns + 1


_KEPT: WeakKeyDictionary[Any, dict[tuple[torch.Size, torch.device, int], Chunks]] = WeakKeyDictionary()


def usual_size(numbers: int) -> int:
    """Return the usual number of observations in a batch, of so many numbers each."""
    low, high = BOUNDS
    return min(max(USUAL_NUMBERS // max(numbers, 1), low), high)
