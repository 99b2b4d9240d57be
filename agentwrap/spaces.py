"""Gymnasium's spaces in the protocol's words (SPEC section 5)."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from agentwrap_protocol import spaces

_MOST_ENTRIES = 256  # of a Dict or Tuple space
_MOST_COUNTS = 4096  # of a MultiDiscrete space


def describe(space: gym.Space[Any]) -> spaces.Space:
    """Describe a space. What the protocol has no words for (text, graphs, …) is described for people, as ``Other``."""
    match space:
        case gym.spaces.Box():
            # as floats first: infinity is no integer
            low = np.min(space.low.astype(np.float64), initial=np.inf)
            high = np.max(space.high.astype(np.float64), initial=-np.inf)
            return spaces.Box(shape=space.shape, dtype=str(space.dtype), low=float(low), high=float(high))
        case gym.spaces.Discrete():
            return spaces.Discrete(n=int(space.n), start=int(space.start))
        case gym.spaces.MultiDiscrete() if space.nvec.size <= _MOST_COUNTS:
            return spaces.MultiDiscrete(counts=tuple(int(count) for count in space.nvec.flat))
        case gym.spaces.MultiBinary():
            return spaces.MultiBinary(shape=tuple(int(n) for n in space.shape))
        case gym.spaces.Dict() if len(space.spaces) <= _MOST_ENTRIES:
            return spaces.Dict(spaces={str(key): describe(entry) for key, entry in space.spaces.items()})
        case gym.spaces.Tuple() if len(space.spaces) <= _MOST_ENTRIES:
            return spaces.Tuple(spaces=tuple(describe(entry) for entry in space.spaces))
    return spaces.Other(text=str(space)[:4096])


def is_image(space: gym.Space[Any]) -> bool:
    """Whether an observation of this space is a picture: (H, W), (C, H, W), (H, W, C) or a stack of such."""
    if not isinstance(space, gym.spaces.Box):
        return False
    long_axes = sum(length >= 7 for length in space.shape)
    return long_axes >= 2 and (len(space.shape) in (3, 4) or (len(space.shape) == 2 and min(space.shape) >= 16))
