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
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import gymnasium as gym
import numpy as np

from agentwrap_protocol.messages import Environments, EpisodeEnd, Follow, Hello, PolicyGraph, Step, Watch

from .broadcast import Broadcast
from .capture import Seen
from .episodes import EpisodeLog
from .guard import Guard
from .identity import Identity
from .moments import Moment, Moments
from .policy import view_policy
from .policy_feed import PolicyFeed
from .publisher import Progress, Publisher
from .sampling import Sampler
from .snapshot import Snapshots
from .tally import Tally

if TYPE_CHECKING:
    from .outlets import Outlets
    from .recorder import OnFull, Recorder

#: Rewards kept for the next step message; older ones are dropped.
MOST_REWARDS = 65_536

#: Why an episode is over.
Reason = Literal["terminated", "truncated", "reset", "closed"]

#: Stands for an observation where none was seen yet.
NOTHING: Any = object()


class Stream:
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

    # what a step that nobody watches touches lies close together in memory
    __slots__ = (
        "__weakref__",
        "_acted_on",
        "_action",
        "_began",
        "_broadcast",
        "_end",
        "_episode",
        "_episodes",
        "_feed",
        "_following",
        "_fps",
        "_guard",
        "_identity",
        "_length",
        "_looking",
        "_moment",
        "_moments",
        "_observation",
        "_outlets",
        "_passing",
        "_probing",
        "_record_every",
        "_recording",
        "_return",
        "_reward",
        "_rewards",
        "_sampler",
        "_seen",
        "_snapshots",
        "_step_began",
        "_steps",
        "_tally",
        "_unrecorded",
        "endpoint",
        "follow",
        "id",
        "publisher",
        "shown",
        "wanted",
    )

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
            type_name=type(policy).__name__,
            outputs=outputs,
            layers=[layers] if isinstance(layers, str) else list(layers or ()),
            weights_every=weights_every,
            probe_ms_per_s=probe_ms_per_s,
            guard=self._guard,
            quiet=quiet,
            rows=None if tally is None else len(tally.last),
        )
        self._tally = tally
        self.follow: Follow = "none"
        self.shown = self.wanted = 0
        self._probing = self._feed.probing
        self._moments = Moments(self._snapshots, self._feed, self._guard)
        self._begin_counting(record_every)
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
            self._outlets: Publisher | Outlets = self._broadcast.outlets
            self._recording = record is not None
            self._broadcast.open(view=view)
        except BaseException:
            self._end()
            raise

    def _begin_counting(self, record_every: int) -> None:
        self._episodes, self._rewards = EpisodeLog(), deque[float](maxlen=MOST_REWARDS)
        self._record_every, self._unrecorded = record_every, deque[float](maxlen=MOST_REWARDS)
        self._observation: Any = NOTHING
        self._steps = self._episode = self._length = 0
        self._return = self._reward = self._began = 0.0
        self._following = False  # hooks are on the policy
        self._passing = False  # somebody watches, and nothing is due
        # of the step in progress
        self._looking = False
        self._moment: Moment | None = None
        self._seen: Seen = None
        self._acted_on: Any = None
        self._action: Any = None
        self._step_began = 0.0

    @property
    def recorder(self) -> Recorder | None:
        """The recording, or None."""
        return self._broadcast.recorder

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

    def _end_episode(self, reason: Reason) -> None:
        self._episodes.add(self._episode, self._return, self._length)
        if self._outlets.wants(EpisodeEnd.kind):
            self._outlets.publish(
                EpisodeEnd(
                    stream=self.id,
                    time=time.time(),
                    episode=self._episode,
                    step=self._steps - 1,
                    length=self._length,
                    episode_return=self._return,
                    seconds=time.perf_counter() - self._began,
                    reason=reason,
                )
            )
        self._episode += 1
        self._length, self._return = 0, 0.0
        if self._tally is not None and self.follow != "none":
            self.wanted = self._tally.pick(self.follow)

    # While somebody watches.

    def _follow(self) -> None:
        """Bring the hooks in line with whether somebody watches."""
        self._passing = False
        capture = self._feed.capture
        if not self._outlets.watched:
            self._following = False
            capture.detach()
            self._probing.forget()
            return
        if not self._following:
            self._following = True
            self._rewards.clear()
            capture.attach()
        capture.expect(self._observation)
        capture.take()  # calls before a reset are not about what follows it

    def _begin_looking(self, action: Any) -> None:
        if self._outlets.watched is not self._following:
            self._guard.run("following the policy", self._follow)
        if self._guard.strict and self.publisher.error is not None:
            raise self.publisher.error
        capture = self._feed.capture
        self._acted_on, self._action, self._step_began = self._observation, action, time.perf_counter()
        if not self._length:
            self._began = self._step_began
        self._seen = capture.take()
        looked = capture.closely or not capture.attached  # or there is nothing to look at
        self._moment = self._begin_moment() if looked else None

    def _end_looking(self, reason: Reason | None) -> None:
        capture, moment, began = self._feed.capture, self._moment, self._step_began
        self._moment = None
        self._collect_reward()
        if reason and moment is None:
            moment = self._last_moment(self._seen)
        self._end_step(moment, reason)
        soon = self._sampler.soon(began, time.perf_counter()) or self._is_recorded(self._steps)
        if soon is not capture.closely:
            self._guard.run("following the policy", capture.look_closely, soon)
        self._passing = not soon and self._following and not self._recording
        if self._probing.waiting:
            self._feed.work()

    def _end_passing(self, reason: Reason | None) -> None:
        self._rewards.append(self._reward)
        if reason:
            self._end_step(self._last_moment(self._feed.capture.take()), reason)
        if self._sampler.soon(self._step_began, time.perf_counter()):
            self._passing = False
            self._guard.run("following the policy", self._feed.capture.look_closely, True)
        if self._probing.waiting:
            self._feed.work()

    def _end_step(self, moment: Moment | None, reason: Reason | None) -> None:
        if moment is not None:
            self._guard.run("sending steps", self._send, moment, reason)
        if reason:
            self._end_episode(reason)

    def _begin_moment(self) -> Moment | None:
        """See all there is to see before a step that is to be sent or recorded; None where it is not."""
        if self._observation is NOTHING:
            return None
        sent = self.publisher.watched and self._sampler.pick(self._step_began)
        recorded = self._is_recorded(self._steps)
        if not (sent or recorded):
            return None
        moment = Moment(self._steps, self._episode, self._length, self._seen, sent=sent, recorded=recorded)
        self._moments.look(moment, self._observation, self._action, self._outlets)
        return moment

    def _last_moment(self, seen: Seen) -> Moment | None:
        """See what is left to see of an episode's last step, which was known as such only when it was over."""
        observation, now = self._acted_on, self._step_began
        if observation is NOTHING or not self.publisher.watched or not self._sampler.pick_last(now):
            return None
        moment = Moment(self._steps - 1, self._episode, self._length - 1, seen, sent=True)
        self._moments.look_back(moment, observation, self._action, self._observation, self._outlets)
        return moment

    def _collect_reward(self) -> None:
        if self.publisher.watched:
            self._rewards.append(self._reward)
        elif self._rewards:
            self._rewards.clear()  # for whoever comes next, counting begins anew
        if self._recording:
            self._unrecorded.append(self._reward)

    def _is_recorded(self, step: int) -> bool:
        return self._recording and step % self._record_every == 0

    def _send(self, moment: Moment, reason: Reason | None) -> None:
        if moment.sent and moment.arrays:
            self.publisher.publish(self._step_message(moment, reason, self._rewards))
        if moment.recorded and self.recorder is not None:
            self.recorder.put(self._step_message(moment, reason, self._unrecorded))
            if self.recorder.error is not None:
                self._stop_recording(self.recorder.error)

    def _stop_recording(self, error: Exception) -> None:
        self._recording = False
        self._broadcast.stop_recording(error)
        self._outlets = self._broadcast.outlets

    def _step_message(self, moment: Moment, reason: str | None, rewards: deque[float]) -> Step:
        """Make the message of a step; rewards since the one before go with it and are cleared."""
        since = np.array(rewards, np.float32)
        rewards.clear()
        return Step(
            stream=self.id,
            time=moment.time,
            step=moment.step,
            episode=moment.episode,
            episode_step=moment.episode_step,
            reward=self._reward,
            episode_return=self._return,
            terminated=reason == "terminated",
            truncated=reason == "truncated",
            policy_version=self._feed.version,
            policy_stale=self._feed.stale,
            environment=self.shown,
            arrays={"rewards": since, **moment.arrays},
        )

    # What the publisher's thread asks for.

    def _recorded_hello(self) -> Hello:
        return self._hello(None)

    def _hello(self, control: str | None) -> Hello:
        identity = self._identity
        return Hello(
            stream=self.id,
            time=time.time(),
            name=identity.name,
            env_id=identity.env_id,
            software=identity.software,
            observation_space=identity.observation_space,
            action_space=identity.action_space,
            action_meanings=identity.action_meanings,
            feature_names=identity.feature_names,
            frame=self._snapshots.frame,
            fps=self._fps,
            control=control,
            policy=self._feed.info,
            environments=1 if self._tally is None else len(self._tally.last),
            arrays=self._episodes.arrays(),
        )

    def _progress(self) -> Progress:
        recorder = self.recorder
        if recorder is None:
            return Progress(self._steps, self._episode)
        return Progress(self._steps, self._episode, recorder.steps, recorder.waited_seconds)

    def _describe_environments(self) -> Environments:
        if self._tally is not None:
            arrays = self._tally.arrays()
        else:
            arrays = {
                "episodes": np.array([self._episode], np.int64),
                "return": np.array([self._episodes.newest_return]),
                "running": np.array([self._return]),
                "length": np.array([self._length], np.int64),
            }
        return Environments(stream=self.id, time=time.time(), shown=self.shown, follow=self.follow, arrays=arrays)

    def _watch(self, request: Watch) -> str | None:
        """Have another environment shown; returns what stands in the way."""
        if request.source != self.id:
            return f"this is the stream {self.id}, not {request.source}"
        count = 1 if self._tally is None else len(self._tally.last)
        if request.follow == "none" and request.environment >= count:
            return f"there is no environment {request.environment}: they are numbered from 0 to {count - 1}"
        if self._tally is not None:
            picked = request.environment if request.follow == "none" else self._tally.pick(request.follow)
            self.follow, self.wanted = request.follow, picked
        return None


def _number(reward: Any) -> float:
    """A reward as a number: environments return integers, NumPy's and PyTorch's scalars, arrays of one. Else NaN."""
    try:
        return float(reward.item() if hasattr(reward, "item") else reward)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return math.nan
