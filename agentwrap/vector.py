"""The one line of code for a vector environment: one of its environments is watched, and viewers choose which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

import gymnasium as gym
import numpy as np

from .options import Options
from .streaming import Stream
from .sub_environment import SubEnvironment, autoreset_of, row_of
from .tally import Tally
from .telling import NOTHING

if TYPE_CHECKING:
    from agentwrap_protocol.messages import Follow

    from .recorder import Recorder


# generic for type checkers; when it runs, only from Gymnasium 1.3 on
if TYPE_CHECKING:
    _VectorWrapper = gym.vector.VectorWrapper[Any, Any, Any, Any, Any]
else:
    _VectorWrapper = gym.vector.VectorWrapper


class InterpretVectorWrapper(_VectorWrapper):
    """Streams one environment of a vector environment; the agent notices nothing.

    Results of ``step`` and ``reset`` are the vector environment's own objects. All environments share one stream,
    however many they are: the episodes of each are counted, in a few operations for all, and viewers are told once a
    second how each does; what is looked at closely is one of them, which viewers choose. Of a policy that is called
    with the observations of all, the row of that one is shown.

    All autoreset modes of Gymnasium are understood. Where environments render, only the picture of the one that is
    watched is made, as far as the vector environment allows that.

    Args:
        env: The vector environment: Gymnasium's own, synchronous or not, ALE's, or any other.
        policy: What the agent calls with observations, see ``InterpretWrapper``.
        environment: Index of the environment to watch, until viewers choose another.
        follow: ``best``, ``worst`` or ``newest``: choose it anew whenever its episode ends, the one whose last episode
            returned most, or least, or whose episode began last; ``none`` stays with one.
        options: Those of ``InterpretWrapper``.

    Attributes:
        stream: Identity of the stream.
        endpoint: Where it is.

    Raises:
        TypeError: The environment is no vector environment.
        ValueError: There is no environment of that index, or the environment returns only some of them at a time, or
            another option is out of its range. ``InterpretWrapper`` says what else is raised.

    Example:
        >>> import gymnasium as gym
        >>> import torch
        >>> from agentwrap import InterpretVectorWrapper
        >>> policy = torch.nn.Linear(4, 2)
        >>> envs = InterpretVectorWrapper(gym.make_vec("CartPole-v1", num_envs=3), policy, quiet=True)
        >>> observations, infos = envs.reset(seed=0)
        >>> actions = policy(torch.as_tensor(observations)).argmax(dim=1).numpy()
        >>> observations, rewards, terminations, truncations, infos = envs.step(actions)
        >>> envs.close()
    """

    def __init__(
        self,
        env: gym.vector.VectorEnv[Any, Any, Any],
        policy: Any,
        *,
        environment: int = 0,
        follow: Follow = "none",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(env)
        count = getattr(env.unwrapped, "batch_size", env.num_envs)
        if count != env.num_envs:
            raise ValueError(
                f"the environment returns {count} of {env.num_envs} environments at a time: which one is which "
                "changes from step to step; make it with a batch_size of all"
            )
        if not 0 <= environment < count:
            raise ValueError(f"there is no environment {environment}: they are numbered from 0 to {count - 1}")
        if follow not in ("none", "best", "worst", "newest"):
            raise ValueError(f"follow must be none, best, worst or newest, not {follow!r}")
        self._tally = Tally(env.num_envs, autoreset_of(env))
        self._sub = SubEnvironment(env)
        self._stream = Stream(self._sub, policy, tally=self._tally, **options)
        self._stream.wanted, self._stream.follow = environment, follow
        self._observations: Any = None
        spaces = (self._sub.observation_space, self._sub.action_space)
        self._is_plain = not any(isinstance(space, gym.spaces.Dict | gym.spaces.Tuple) for space in spaces)
        self.stream, self.endpoint = self._stream.id, self._stream.endpoint

    @property
    def recorder(self) -> Recorder | None:
        """The recording, or None."""
        return self._stream.recorder

    def __reduce__(self) -> tuple[Any, ...]:
        return _inner, (self.env,)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step the environments and return what they return."""
        stream = self._stream
        if stream.wanted != stream.shown:
            self._show()
        resetting = self._tally.resetting
        resets = resetting is not None and bool(resetting[stream.shown])
        if not resets:
            stream.begin(self._row(self._sub.action_space, actions))
        result = self.env.step(actions)
        try:
            self._count(result, resets)
        except Exception as error:  # broken environments return all kinds of things
            stream.warn_of(error)
        return result

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environments, or those of ``options["reset_mask"]``, and return what they return."""
        mask = None if options is None else options.get("reset_mask")  # some environments take it out
        if self._stream.wanted != self._stream.shown:
            self._show()
        result = self.env.reset(seed=seed, options=options)
        self._observations = result[0]
        self._tally.reset(mask)
        shown = self._stream.shown
        if mask is None or mask[shown]:
            self._stream.restart(self._row(self._sub.observation_space, result[0]), _seed_of(seed, shown, mask))
        return result

    def wait_for_viewer(self, timeout: float = 60.0) -> bool:
        """Wait until a viewer asks for the policy, at most ``timeout`` seconds; returns whether one has asked."""
        return self._stream.wait_for_viewer(timeout)

    def policy_changed(self) -> None:
        """Say that the policy computes something else from now on, see ``InterpretWrapper.policy_changed``."""
        self._stream.policy_changed()

    def close(self, **kwargs: Any) -> None:
        """End the stream and close the environments."""
        self._stream.close()
        self.env.close(**kwargs)

    def _count(self, result: Any, resets: bool) -> None:
        self._observations, rewards, terminations, truncations, info = result
        self._tally.step(rewards, terminations, truncations)
        stream, shown = self._stream, self._stream.shown
        observation = self._row(self._sub.observation_space, self._observations)
        if resets:
            stream.restart(observation)
            return
        terminated, truncated = terminations[shown], truncations[shown]
        reward = rewards.item(shown) if type(rewards) is np.ndarray else rewards[shown]
        stream.end((observation, reward, terminated, truncated, info))
        if (terminated or truncated) and self._tally.autoreset == "SameStep":
            stream.restart(observation)  # of the next episode: what the one before ended with is in info

    def _show(self) -> None:
        """Turn to the environment that is wanted."""
        stream, tally = self._stream, self._tally
        index = self._sub.index = stream.wanted
        over = tally.resetting is not None and bool(tally.resetting[index])
        length, episode_return = (0, 0.0) if over else (int(tally.lengths[index]), float(tally.running[index]))
        observation: Any = NOTHING
        if self._observations is not None:
            observation = self._row(self._sub.observation_space, self._observations)
        began = float(tally.began[index])
        stream.show(index, observation, length=length, episode_return=episode_return, began=began)

    def _row(self, space: gym.Space[Any], batch: Any) -> Any:
        try:
            if self._is_plain:  # nearly always
                return batch[self._sub.index]
            return row_of(space, batch, self._sub.index)
        except Exception as error:
            self._stream.warn_of(error)
            return None


def _inner(env: gym.vector.VectorEnv[Any, Any, Any]) -> gym.vector.VectorEnv[Any, Any, Any]:
    """What a wrapper is copied and pickled as."""
    return env


def _seed_of(seed: Any, index: int, mask: Any) -> int | None:
    """The seed that one environment was reset with, where that is known."""
    if isinstance(seed, int | np.integer):
        return int(seed) + index
    if seed is None or (mask is not None and len(seed) != len(mask)):
        return None
    return None if seed[index] is None else int(seed[index])
