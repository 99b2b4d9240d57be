"""Environments in which several agents act, at once or in turns, as RLlib has them: one of them is streamed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import gymnasium as gym

from .guard import Guard
from .streaming import Stream

#: What goes wrong under this name is told once, and then nothing more is shown.
SHOWING = "showing one of several agents"


class Episode(Protocol):
    """What is asked of an episode."""

    def module_for(self, agent: Any) -> Any:
        """Return which module acts for an agent."""


class OneOfSeveral(gym.Wrapper[Any, Any, Any, Any]):
    """Streams the agent for which one module acts, out of an environment whose step takes and returns dicts by agent.

    A step of the stream lasts from an action of the agent to its next observation: where agents act in turns, over
    several steps of the environment, whose rewards add up. Which module acts for whom is looked up when it has acted,
    so that the mapping is never asked for by us. Another agent may have the module in the next episode, and is shown
    then; an episode in which nobody has it is not shown.

    Args:
        env: The environment, which other code steps.
        module: Id of the module, by default that of the agent shown first.
        agent: Id of the agent, by default the first that has the module.
        begin: Begins the stream, given the agent as an environment of its own, the module's id and the agent's.
        strict: Raise what goes wrong, instead of warning of it.

    Attributes:
        endpoint: Where the stream is, None before the first step.
        module: Id of the module shown, None while it is not known.
        agent: Id of the agent shown in this episode, None where there is none.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        *,
        module: Any = None,
        agent: Any = None,
        begin: Callable[[OneAgent, Any, Any], Stream],
        strict: bool = False,
    ) -> None:
        super().__init__(env)
        self.endpoint: str | None = None
        self.module, self.agent, self._wanted = module, None, agent
        self._begin_stream, self._guard = begin, Guard(strict)
        self._stream: Stream | None = None
        self._spaces: Any = None
        self._episode: Episode | None = None
        self._known = False  # whose episode this is
        self._acting = self._over = False  # between its action and its next observation; it acts no more
        self._last: dict[Any, Any] = {}  # observations by agent
        self._reward = 0.0

    def begins(self, episode: Episode) -> None:
        """Take note of an episode that begins with the next reset."""
        self._episode = episode

    def step(self, action: Any) -> Any:
        """Step the environment inside and return what it returns."""
        self._guard.run(SHOWING, self._before, action)
        result: Any = self.env.step(action)
        self._guard.run(SHOWING, self._after, result)
        return result

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Reset the environment inside and return what it returns."""
        result = self.env.reset(seed=seed, options=options)
        self._guard.run(SHOWING, self._restarted, result[0], seed)
        return result

    def close(self) -> None:
        """End the stream and close the environment inside."""
        if self._stream is not None:
            self._stream.close()
        self.env.close()

    def _restarted(self, observations: Mapping[Any, Any], seed: int | None) -> None:
        if self._acting:
            self._end(terminated=False, truncated=True)
        self._known, self._over, self._last = False, False, dict(observations)
        if self._stream is not None and self.agent in self._last:  # most likely the same as before
            self._stream.restart(self._last[self.agent], seed)

    def _before(self, actions: Mapping[Any, Any]) -> None:
        if not self._known and actions:
            self._choose(actions)
        if self._stream is not None and self.agent in actions and not (self._acting or self._over):
            self._acting, self._reward = True, 0.0
            self._stream.begin(actions[self.agent])

    def _choose(self, actions: Mapping[Any, Any]) -> None:
        """Find who is shown in this episode among those who act, once there is somebody."""
        candidates = [agent for agent in actions if self._wanted in (None, agent) and agent in self._last]
        if not candidates or self._episode is None:
            return
        modules = {agent: self._episode.module_for(agent) for agent in candidates}
        if self.module is None:
            self.module = modules[candidates[0]]
        found = [agent for agent in candidates if modules[agent] == self.module and self._fits(agent)]
        self._known = bool(found) or self._wanted is not None  # in turns, somebody else may act later
        before, self.agent = self.agent, next(iter(found), None)
        if self.agent is None:
            return
        if self._stream is None:
            self._spaces = self._spaces_of(self.agent)
            self._stream = self._begin_stream(OneAgent(self.env, *self._spaces), self.module, self.agent)
            self.endpoint = self._stream.endpoint
        elif before == self.agent:
            return  # the reset has told already
        self._stream.restart(self._last[self.agent])

    def _fits(self, agent: Any) -> bool:
        return self._spaces is None or self._spaces_of(agent) == self._spaces

    def _spaces_of(self, agent: Any) -> tuple[Any, Any]:
        inner: Any = self.env.unwrapped
        return inner.get_observation_space(agent), inner.get_action_space(agent)

    def _after(self, result: Any) -> None:
        observations, rewards, terminateds, truncateds, _ = result
        self._last.update(observations)
        if not self._acting:
            return
        self._reward += float(rewards.get(self.agent, 0.0))
        terminated, truncated = (
            bool(each.get(self.agent, False) or each.get("__all__", False)) for each in (terminateds, truncateds)
        )
        if terminated or truncated or self.agent in observations:
            self._end(terminated=terminated, truncated=truncated)

    def _end(self, *, terminated: bool, truncated: bool) -> None:
        assert self._stream is not None
        self._acting, self._over = False, terminated or truncated
        self._stream.end((self._last[self.agent], self._reward, terminated, truncated and not terminated, {}))


class OneAgent(gym.Env[Any, Any]):
    """One of several agents as if it were alone: its spaces, and the picture of them all. It is never stepped."""

    def __init__(self, several: gym.Env[Any, Any], observation_space: Any, action_space: Any) -> None:
        self._several = several
        self.observation_space, self.action_space = observation_space, action_space
        self.render_mode, self.spec = several.render_mode, several.spec

    @property
    def unwrapped(self) -> gym.Env[Any, Any]:
        """What all act in."""
        return self._several.unwrapped

    def render(self) -> Any:
        """The picture of them all."""
        return self._several.render()
