"""One of the environments of a vector environment, as if it were alone: what is to be known of it, and its picture."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from .tally import Autoreset


class SubEnvironment(gym.Env[Any, Any]):
    """Describes one environment of several. It is never stepped or reset.

    Args:
        several: The vector environment.

    Attributes:
        index: Which of them.
    """

    def __init__(self, several: gym.vector.VectorEnv[Any, Any, Any]) -> None:
        self._several, self.index = several, 0
        self.observation_space, self.action_space = several.single_observation_space, several.single_action_space
        self.render_mode = several.render_mode
        base: Any = several.unwrapped
        # a vector environment that is made of functions, as CleanRL's scripts do it, has none
        self.spec = several.spec or (base.envs[0].spec if isinstance(base, gym.vector.SyncVectorEnv) else None)

    def render(self) -> Any:
        """This environment's picture; where only all can be rendered at once, they are."""
        base = self._several.unwrapped
        if isinstance(base, gym.vector.SyncVectorEnv):
            return base.envs[self.index].render()
        if isinstance(base, gym.vector.AsyncVectorEnv):
            # what call("render") does for all: of hundreds, one costs a hundredth
            pipe = base.parent_pipes[self.index]
            pipe.send(("_call", ("render", (), {})))
            frame, went_well = pipe.recv()
            if not went_well:
                raise RuntimeError("its process failed to render")
            return frame
        frames = self._several.render()
        return None if frames is None else frames[self.index]

    @property
    def unwrapped(self) -> Any:
        """One like it, where that is in this process and no vector itself: it may have names for what it observes."""
        base = self._several.unwrapped
        if isinstance(base, gym.vector.AsyncVectorEnv):
            return base  # its name is all there is to say
        return base.envs[0].unwrapped if isinstance(base, gym.vector.SyncVectorEnv) else self

    def get_action_meanings(self) -> Any:
        """What it calls its actions.

        Raises:
            AttributeError: It has no names for them, or it is in another process, which to ask would end.
        """
        base: Any = self._several.unwrapped
        if hasattr(base, "ale"):
            return [action.name for action in base.ale.get_action_set()]
        return base.envs[0].unwrapped.get_action_meanings()


def autoreset_of(several: gym.vector.VectorEnv[Any, Any, Any]) -> Autoreset:
    """Say when the environments begin new episodes; before Gymnasium 1.1 that could not be chosen."""
    mode = several.metadata.get("autoreset_mode", "NextStep")
    value: Autoreset = getattr(mode, "value", mode)
    return value


def row_of(space: gym.Space[Any], batch: Any, index: int) -> Any:
    """Return one environment's part of a batch of observations or actions.

    Args:
        space: The space of one.
        batch: Arrays with an axis for the environments in front, in dicts and tuples as the space has them, or a
            sequence with one value for each.
        index: Which.
    """
    if isinstance(space, gym.spaces.Dict):
        return {key: row_of(entry, batch[key], index) for key, entry in space.spaces.items()}
    if isinstance(space, gym.spaces.Tuple):
        return tuple(row_of(entry, part, index) for entry, part in zip(space.spaces, batch, strict=True))
    return batch[index]
