"""Which of a policy's ratings, its logits or Q-values, are options of the same choice."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentwrap_protocol.spaces import MultiBinary, MultiDiscrete, Space


def choices(ratings: NDArray[Any], space: Space) -> list[NDArray[Any]]:
    """Return the ratings of each choice apart, (k, options).

    Args:
        ratings: (k, n), -inf for what was masked.
        space: The action space. The counts of a MultiDiscrete say which belong together. Those of a MultiBinary are
            switches where there is one for each: choices of off, rated 0, and on. Where there are two for each they
            are off and on, as sb3-contrib has them.
    """
    count = ratings.shape[1]
    if isinstance(space, MultiDiscrete) and sum(space.counts) == count:
        return np.split(ratings, np.cumsum(space.counts)[:-1], axis=1)
    if isinstance(space, MultiBinary):
        switches = math.prod(space.shape)
        if count == switches:
            return [np.stack([np.zeros_like(on), on], axis=1) for on in ratings.T]
        if count == 2 * switches:
            return np.split(ratings, switches, axis=1)
    return [ratings]
