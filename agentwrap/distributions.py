"""The action distributions that follow from a policy's outputs: as far as needed to say which action is the likeliest.

Outputs are those of one observation, without a batch axis, as arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

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
