"""Watching a model of Stable-Baselines3 while it learns, in its own stack of environments."""

from __future__ import annotations

from typing import Any, Unpack

import gymnasium as gym

from .extras import SB3
from .options import Options
from .wrapper import InterpretWrapper

with SB3.imported():
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize, VecTransposeImage


class InterpretCallback(BaseCallback):
    """Streams one of the environments in which a model learns: ``model.learn(..., callback=InterpretCallback())``.

    It is the first of the model's own ``VecEnv``, whatever that is made of. Observations and rewards are shown as they
    are before the library's outermost ``VecNormalize`` and ``VecTransposeImage``, whose part in the policy is known;
    frames that ``VecFrameStack`` has stacked are stacked. Nothing of the stack is replaced, but while the model learns
    three methods of one of its objects are stood in for. The first step is not shown: it begins before a callback is
    asked.

    Args:
        options: Those of ``InterpretWrapper``.

    Attributes:
        env: The stream, an ``InterpretWrapper``; None but while learning.

    Example:
        >>> from stable_baselines3 import PPO
        >>> from agentwrap.callbacks import InterpretCallback
        >>> model = PPO("MlpPolicy", "CartPole-v1", n_steps=64, device="cpu")
        >>> _ = model.learn(64, callback=InterpretCallback(quiet=True))
    """

    def __init__(self, **options: Unpack[Options]) -> None:
        super().__init__()
        self.env: InterpretWrapper | None = None
        self._options = options
        self._stand_in: _StandIn | None = None

    def _on_training_start(self) -> None:
        self._on_training_end()  # learning that failed has not come there
        inner: Any = self.training_env
        while isinstance(inner, VecNormalize | VecTransposeImage):
            inner = inner.venv
        shown = _Shown(inner)
        self.env = InterpretWrapper(shown, self.model, **self._options)
        self._stand_in = _StandIn(inner, shown, self.env)

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        if self._stand_in is not None and self.env is not None:
            self._stand_in.remove()
            self.env.close()
            self.env = self._stand_in = None


class _Shown(gym.Env[Any, Any]):
    """The first of several environments, as one: what it returns was returned to the library."""

    def __init__(self, several: VecEnv) -> None:
        self._several = several
        self.observation_space, self.action_space = several.observation_space, several.action_space
        self.render_mode = several.render_mode
        self.spec = several.get_attr("spec", 0)[0]
        self.actions: Any = None  # of all, for the next step
        self.results: Any = None  # of all, of the newest step
        self._start, self._wait = several.step_async, several.step_wait
        self._first: Any = None

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step all environments; what is observed at an episode's end is its last, not the next one's first."""
        self._start(self.actions)
        self.results = observations, rewards, dones, infos = self._wait()
        self._first, info, done = _row(observations), infos[0], bool(dones[0])
        truncated = done and bool(info.get("TimeLimit.truncated", False))
        last = info["terminal_observation"] if done else self._first
        return last, float(rewards[0]), done and not truncated, truncated, info

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Nothing is reset: the library has done it."""
        return self._first, {}

    def began(self, observations: Any) -> None:
        """Take the first observations after the library has reset all environments."""
        self._first = _row(observations)

    def render(self) -> Any:
        """The first environment's picture."""
        return self._several.env_method("render", indices=0)[0]

    @property
    def unwrapped(self) -> gym.Env[Any, Any]:
        """The first environment itself, where it is in this process: it may have names for what it observes."""
        inner: Any = self._several.unwrapped
        return inner.envs[0].unwrapped if isinstance(inner, DummyVecEnv) else self

    def get_action_meanings(self) -> Any:
        """What the first environment calls its actions.

        Raises:
            AttributeError: It has no names for them.
        """
        if not self._several.has_attr("get_action_meanings"):  # to ask all the same would end its process
            raise AttributeError("the environment has no names for its actions")
        return self._several.env_method("get_action_meanings", indices=0)[0]


class _StandIn:
    """Stands in for ``step_async``, ``step_wait`` and ``reset`` of one object, so that the wrapper sees them pass."""

    def __init__(self, several: VecEnv, shown: _Shown, env: InterpretWrapper) -> None:
        self._several, self._shown, self._env = several, shown, env
        self._reset = several.reset
        several.step_async = self.step_async  # type: ignore[method-assign]
        several.step_wait = self.step_wait  # type: ignore[method-assign]
        several.reset = self.reset  # type: ignore[method-assign]

    def step_async(self, actions: Any) -> None:
        """Keep the actions: a picture of the moment before cannot be taken of environments that have begun to step."""
        self._shown.actions = actions

    def step_wait(self) -> Any:
        """Step all environments, in the wrapper's sight; return what they return."""
        _, _, terminated, truncated, _ = self._env.step(self._shown.actions[0])
        if terminated or truncated:
            self._env.reset()
        return self._shown.results

    def reset(self) -> Any:
        """Reset all environments, in the wrapper's sight; return what they return."""
        observations = self._reset()
        self._shown.began(observations)
        self._env.reset()
        return observations

    def remove(self) -> None:
        """Leave the object with its own methods."""
        for name in ("step_async", "step_wait", "reset"):
            vars(self._several).pop(name, None)


def _row(observations: Any) -> Any:
    """The first environment's observation, a copy: libraries reuse their buffers."""
    if isinstance(observations, dict):
        return {key: value[0].copy() for key, value in observations.items()}
    return observations[0].copy()
