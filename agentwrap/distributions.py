"""Action distributions that follow from outputs: which action is the likeliest, and what viewers are told of them.

Outputs are those of one observation, without a batch axis, as arrays.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from agentwrap_protocol.messages import DistributionInfo

from .arrays import Array

Outputs = Mapping[str, Array]


class Distribution(Protocol):
    """How outputs become an action."""

    def mode(self, outputs: Outputs) -> Any:
        """The likeliest action, or the greedy one, as the environment takes it.

        Raises:
            KeyError: An output that it needs is missing.
        """


@dataclass(frozen=True)
class Categorical:
    """One of so many actions: softmax of ``logits`` (A,), or greedy in ``q_values`` (A,).

    Attributes:
        of: The output that decides.
    """

    of: str = "logits"

    def mode(self, outputs: Outputs) -> Any:
        """The action of the largest."""
        return int(np.argmax(outputs[self.of]))


@dataclass(frozen=True)
class MultiCategorical:
    """Several choices at once: ``logits`` (sum of ``counts``,) hold one group for each.

    Attributes:
        counts: Number of options of each choice.
    """

    counts: tuple[int, ...]

    def mode(self, outputs: Outputs) -> Any:
        """The likeliest option of each choice, int64 (number of choices,)."""
        groups = np.split(outputs["logits"], np.cumsum(self.counts)[:-1])
        return np.array([np.argmax(group) for group in groups])


@dataclass(frozen=True)
class Bernoulli:
    """Independent switches: the sigmoid of ``logits`` (N,) is how likely each is on."""

    def mode(self, outputs: Outputs) -> Any:
        """Which are likelier on than off, int8 (N,)."""
        return (outputs["logits"] > 0).astype(np.int8)


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Continuous actions around ``mean``, with ``log_std`` where they are random.

    Attributes:
        low: Least action; what is below is clipped.
        high: Greatest action.
        squashed: Whether a hyperbolic tangent and then a scaling to ``low``…``high`` make the action (SAC).
    """

    low: Array
    high: Array
    squashed: bool = False

    def mode(self, outputs: Outputs) -> Any:
        """The action of the mean, shaped as ``low`` is."""
        mean = outputs["mean"].reshape(self.low.shape)
        if self.squashed:
            return self.low + 0.5 * (np.tanh(mean) + 1.0) * (self.high - self.low)
        return np.clip(mean, self.low, self.high)


@dataclass(frozen=True, eq=False)
class Deterministic:
    """Continuous actions that are ``mean`` itself, in the environment's units.

    Attributes:
        low: Least action; what is below is clipped.
        high: Greatest action.
    """

    low: Array
    high: Array

    def mode(self, outputs: Outputs) -> Any:
        """The action, shaped as ``low`` is."""
        return np.clip(outputs["mean"].reshape(self.low.shape), self.low, self.high)


def switches_of(space: gym.Space[Any], logits: tuple[int, ...]) -> MultiCategorical | None:
    """Say what logits are that have two numbers for each switch: off and on, of one switch after the other.

    One number for each needs no saying: that is how likely it is on. Two rows of numbers, all off and all on, are read
    by nobody here.

    Args:
        space: The action space.
        logits: Shape of the logits for one observation, perhaps with a batch axis of 1.
    """
    if not isinstance(space, gym.spaces.MultiBinary):
        return None
    count = math.prod(space.shape)
    shape = logits[1:] if len(logits) > 1 and logits[0] == 1 else logits
    pairs = shape == (2 * count,) or shape == (*space.shape, 2)
    return MultiCategorical((2,) * count) if pairs else None


#: Most choices or elements of an action whose counts or bounds are told to viewers (SPEC section 4).
_MOST_TOLD = 4096


def describe(distribution: Distribution | None, outputs: Collection[str]) -> DistributionInfo | None:
    """Say in the protocol's words how outputs become an action.

    Args:
        distribution: The distribution; None where it is not known.
        outputs: Names of the policy's outputs.

    Returns:
        None for what the protocol has no words for: a class of the user's own, actions of very many elements.
    """
    match distribution:
        case Categorical(of="logits"):
            return DistributionInfo(kind="categorical")
        case Categorical():
            return DistributionInfo(kind="quantiles" if "quantiles" in outputs else "deterministic")
        case MultiCategorical() if len(distribution.counts) <= _MOST_TOLD:
            return DistributionInfo(kind="multi_categorical", counts=distribution.counts)
        case Bernoulli():
            return DistributionInfo(kind="bernoulli")
        case Gaussian() | Deterministic() if distribution.low.size <= _MOST_TOLD:
            return _with_bounds(distribution)
    return None


def _with_bounds(distribution: Gaussian | Deterministic) -> DistributionInfo:
    low, high = (tuple(float(x) for x in bound.flat) for bound in (distribution.low, distribution.high))
    if isinstance(distribution, Deterministic):
        return DistributionInfo(kind="deterministic", low=low, high=high)
    return DistributionInfo(kind="squashed_gaussian" if distribution.squashed else "gaussian", low=low, high=high)
