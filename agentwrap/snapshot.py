"""What is to be seen at the moment before a step: observation, picture, action."""

from __future__ import annotations

from sys import getrefcount
from typing import Any, Literal

import gymnasium as gym
import numpy as np

from .arrays import Array, copied, parts, travels
from .guard import Guard
from .spaces import is_image

#: What becomes one array.
_PLAIN = frozenset({np.ndarray, np.int64, np.float64, np.float32, int, float})

FrameSource = Literal["render", "observation", "none"]


class Snapshots:
    """Takes copies, for environments reuse their buffers.

    Attributes:
        frame: Where pictures come from: ``render`` where the environment renders RGB arrays, ``observation`` where
            that is a picture itself, or ``none``. Falls back when rendering fails.

    Args:
        env: The environment.
        guard: Told of what goes wrong.
    """

    def __init__(self, env: gym.Env[Any, Any], guard: Guard) -> None:
        self._env, self._guard = env, guard
        self._fallback: FrameSource = "observation" if _has_image(env.observation_space) else "none"
        self.frame: FrameSource = "render" if env.render_mode == "rgb_array" else self._fallback

    def take(self, observation: Any, action: Any) -> dict[str, Array]:
        """Return ``observation``, ``action`` and, where the environment renders, ``frame``, all of this moment."""
        arrays = self.values(observation, action)
        if self.frame == "render":
            frame = self._guard.run("rendering", self._render)
            if frame is not None:
                arrays["frame"] = frame
            elif not self._guard.is_on("rendering"):
                self.frame = self._fallback
        return arrays

    def values(self, observation: Any, action: Any) -> dict[str, Array]:
        """Return ``observation`` and ``action``."""
        arrays: dict[str, Array] = {}
        for name, value in (("observation", observation), ("action", action)):
            if type(value) in _PLAIN:  # nearly always
                array = np.array(value)
                if travels(array):
                    arrays[name] = array
                    continue
            found, left_out = copied(name, value)
            arrays.update(found)
            if left_out:
                self._guard.warn_once(
                    name, f"{', '.join(left_out)[:200]} cannot be shown: neither numbers nor arrays of such"
                )
        return arrays

    def _render(self) -> Array:
        frame = self._env.render()
        ours = getrefcount(frame) <= _ALONE
        frame = np.asarray(frame)
        if frame.dtype != np.uint8 or frame.ndim not in (2, 3) or (frame.ndim == 3 and frame.shape[2] != 3):
            raise TypeError(f"render() returned {frame.dtype} {frame.shape}, not uint8 (H, W, 3)")
        if ours and frame.flags.owndata and frame.flags.c_contiguous:  # drawn anew, and nobody else can reach it
            return frame
        return np.array(frame, order="C")


def shares_memory(old: Any, new: Any) -> bool:
    """Whether two observations may lie in the same memory, so that the old one is not what it was."""
    news = [value for _, value in parts("", new) if isinstance(value, np.ndarray)]
    olds = [value for _, value in parts("", old) if isinstance(value, np.ndarray)]
    return any(np.may_share_memory(one, other) for one in olds for other in news)


def _count_alone() -> int:
    """References to what a function has just been given back, and nobody else holds; other Pythons count otherwise."""
    made = _make()
    return getrefcount(made)


def _make() -> Any:
    return np.empty(1)


_ALONE = _count_alone()


def _has_image(space: gym.Space[Any]) -> bool:
    if isinstance(space, gym.spaces.Dict):
        return any(_has_image(entry) for entry in space.spaces.values())
    return is_image(space)
