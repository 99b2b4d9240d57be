"""A stream: an environment and its policy as they are told to whoever watches, step by step.

Whoever steps the environment says when a step begins and what came of it; the wrappers and the callback do nothing
else. Every step is counted. While somebody watches, those that are due are looked at and sent.
"""

from __future__ import annotations

import math
import os
import time
import uuid
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from agentwrap_protocol.messages import PolicyGraph

from .broadcast import Broadcast
from .guard import Guard
from .identity import Identity
from .looking import Looking
from .moments import Moments
from .policy import Preprocessed, view_policy
from .policy_feed import PolicyFeed
from .sampling import Sampler
from .snapshot import Snapshots
from .tally import Tally
from .telling import Reason

if TYPE_CHECKING:
    from .recorder import OnFull


class Stream(Looking):
    """Counts steps and episodes, decides what a step message holds, and hands it over.

    ``begin`` and ``end`` stand around each step, ``restart`` follows each reset. They take what the environment takes
    and returns, copy what they send, and raise nothing unless ``strict``.

    Args:
        env: The environment: its spaces, its names, its picture. It is never stepped here.
        policy: What acts in it.
        tally: How each of several environments does that share the stream; the stream is about the one that is
            ``shown``, and whoever steps them calls ``show`` where it is not the one that is ``wanted``.
        endpoint: These and the others are explained at ``InterpretWrapper``.

    Attributes:
        id: Identity of the stream.
        endpoint: Where it is.
        publisher: Its sockets.
        shown: Index of the environment that is shown, where several share the stream.
        wanted: Index of the one to be shown from the next step on.
        follow: How that is chosen anew whenever the episode that is shown ends.

    Raises:
        PolicyTypeError: These and the others are explained at ``InterpretWrapper``.
    """

    __slots__ = ("__weakref__", "_end", "endpoint")

    def __init__(
        self,
        env: gym.Env[Any, Any],
        policy: Any,
        *,
        tally: Tally | None = None,
        endpoint: str | None = None,
        name: str | None = None,
        fps: float = 60,
        layers: Sequence[str] | str | None = None,
        outputs: Sequence[str] | str | None = None,
        action_meanings: Sequence[str] | None = None,
        feature_names: Sequence[str] | None = None,
        weights_every: float = 2.0,
        probe_ms_per_s: float = 50.0,
        record: str | os.PathLike[str] | None = None,
        record_every: int = 1,
        on_full: OnFull = "wait",
        overwrite: bool = False,
        view: bool = False,
        quiet: bool = False,
        strict: bool = False,
    ) -> None:
        seen_as = view_policy(policy, env)
        for option, value in (("fps", fps), ("weights_every", weights_every)):
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{option} must be a positive number, not {value!r}")
        if not (probe_ms_per_s >= 0 and math.isfinite(probe_ms_per_s)):
            raise ValueError(f"probe_ms_per_s must be a number from 0, not {probe_ms_per_s!r}")
        if record_every < 1:
            raise ValueError(f"record_every must be at least 1, not {record_every!r}")
        self.id = uuid.uuid4().hex
        self._fps, self._guard = float(fps), Guard(strict)
        self._identity = Identity(env, name=name, action_meanings=action_meanings, feature_names=feature_names)
        self._snapshots, self._sampler = Snapshots(env, self._guard), Sampler(fps)
        self._feed = PolicyFeed(
            seen_as,
            env.observation_space,
            env.action_space,
            type_name=type(policy.policy if isinstance(policy, Preprocessed) else policy).__name__,
            outputs=outputs,
            layers=[layers] if isinstance(layers, str) else list(layers or ()),
            weights_every=weights_every,
            probe_ms_per_s=probe_ms_per_s,
            guard=self._guard,
            quiet=quiet,
            rows=None if tally is None else len(tally.last),
        )
        self._tally = tally
        self.follow = "none"
        self.shown = self.wanted = 0
        self._probing = self._feed.probing
        self._moments = Moments(self._snapshots, self._feed, self._guard)
        self._begin_counting()
        self._begin_looking_on(record_every)
        self._broadcast = Broadcast(
            self.id,
            self._identity,
            feed=self._feed,
            guard=self._guard,
            endpoint=endpoint,
            hello=self._hello,
            progress=self._progress,
            environments=self._describe_environments,
            watch=self._watch,
            quiet=quiet,
        )
        self.endpoint, self.publisher = self._broadcast.endpoint, self._broadcast.publisher
        # happens when the stream is closed or forgotten or the process ends, whichever comes first
        self._end = weakref.finalize(self, self._broadcast.ending)
        try:
            if record is not None:
                self._broadcast.record(
                    record, self._recorded_hello, record_every=record_every, on_full=on_full, overwrite=overwrite
                )
            self._outlets = self._broadcast.outlets
            self._recording = record is not None
            self._broadcast.open(view=view)
        except BaseException:
            self._end()
            raise

    @property
    def steps(self) -> int:
        """Steps so far."""
        return self._steps

    def begin(self, action: Any) -> None:
        """Take note that the environment is about to be stepped with an action."""
        if self._passing:  # most steps that are watched, so nothing more is touched than has to be
            self._acted_on, self._action, self._step_began = self._observation, action, time.perf_counter()
            if not self._length:
                self._began = self._step_began
        elif self._outlets.watched or self._following:
            self._looking = True
            self._begin_looking(action)
        elif not self._length:
            self._began = time.perf_counter()

    def end(self, result: tuple[Any, Any, Any, Any, Any]) -> None:
        """Take note of what the environment returned: observation, reward, terminated, truncated, info."""
        self._steps += 1
        self._length += 1
        reason: Reason | None = None
        # broken environments return all kinds of things: whatever it is, it must not stop the agent
        try:
            self._observation, reward, terminated, truncated, _ = result
            self._reward = reward if type(reward) is float else _number(reward)
            self._return += self._reward
            reason = "terminated" if terminated else "truncated" if truncated else None
        except (TypeError, ValueError) as error:
            self._reward = math.nan
            self.warn_of(error)
        if self._passing:
            self._end_passing(reason)
        elif self._looking:
            self._looking = False
            self._end_looking(reason)
        elif reason:
            self._end_episode(reason)

    def warn_of(self, error: Exception) -> None:
        """Say that what the environment took or returned cannot be understood."""
        self._guard.warn_once("results", f"step() of the environment returned something unusual: {error}")

    def restart(self, observation: Any, seed: int | None = None) -> None:
        """Take note of what a reset has returned. An episode that was not over ends here."""
        if self._length:
            self._end_episode("reset")
        self._observation = observation
        if self.recorder is not None and seed is not None:
            self.recorder.seeded(self._episode, seed)
        if self._outlets.watched or self._following:
            self._guard.run("following the policy", self._follow)
            if self._probing.waiting:
                self._feed.work()

    def show(self, index: int, observation: Any, *, length: int, episode_return: float, began: float) -> None:
        """Show another environment; its episode in progress goes on.

        Args:
            index: Which.
            observation: What it returned last, or ``NOTHING``.
            length: Steps so far.
            episode_return: Return so far.
            began: When the episode began, in seconds of ``time.perf_counter``.
        """
        self._episode += self._length > 0  # what was shown of the other's is one of its own
        self.shown = self._feed.capture.row = index
        self._observation, self._length, self._return, self._began = observation, length, episode_return, began

    def policy_changed(self) -> None:
        """Take note that the policy computes something else from now on; from any thread."""
        self._feed.policy_changed()

    def wait_for_viewer(self, timeout: float) -> bool:
        """Wait until a viewer asks for the policy, at most ``timeout`` seconds; returns whether one has asked."""
        return self._broadcast.wait_for(PolicyGraph.kind, timeout)

    def close(self) -> None:
        """End the stream; may be called again."""
        if self._end.alive:
            if self._length:
                self._end_episode("closed")
            self._end()
            if self._recording and self.recorder is not None and self.recorder.error is not None:
                self._stop_recording(self.recorder.error)


def _number(reward: Any) -> float:
    """A reward as a number: environments return integers, NumPy's and PyTorch's scalars, arrays of one. Else NaN."""
    try:
        return float(reward.item() if hasattr(reward, "item") else reward)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return math.nan
