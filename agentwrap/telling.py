"""How far a stream is, and what it tells of itself to those who ask."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from agentwrap_protocol.messages import Environments, EpisodeEnd, Follow, Hello, Watch

from .broadcast import Broadcast
from .episodes import EpisodeLog
from .guard import Guard
from .heartbeat import Progress
from .identity import Identity
from .policy_feed import PolicyFeed
from .publisher import Publisher
from .snapshot import Snapshots
from .tally import Tally

if TYPE_CHECKING:
    from .outlets import Outlets
    from .recorder import Recorder

#: Why an episode is over.
Reason = Literal["terminated", "truncated", "reset", "closed"]

#: Stands for an observation where none was seen yet.
NOTHING: Any = object()


class Telling:
    """The counts of a stream and who it is.

    The publisher's thread asks for messages about both (``_hello``, ``_progress``, ``_describe_environments``) and
    hands over which environment viewers want to see (``_watch``); the agent's thread counts.
    """

    __slots__ = (
        "_began",
        "_broadcast",
        "_episode",
        "_episodes",
        "_feed",
        "_fps",
        "_guard",
        "_identity",
        "_length",
        "_observation",
        "_outlets",
        "_return",
        "_snapshots",
        "_steps",
        "_tally",
        "follow",
        "id",
        "shown",
        "wanted",
    )

    _broadcast: Broadcast
    _feed: PolicyFeed
    _fps: float
    _guard: Guard
    _identity: Identity
    _outlets: Publisher | Outlets
    _snapshots: Snapshots
    _tally: Tally | None
    follow: Follow
    id: str
    shown: int
    wanted: int

    def _begin_counting(self) -> None:
        self._episodes = EpisodeLog()
        self._observation: Any = NOTHING
        self._steps = self._episode = self._length = 0
        self._return = self._began = 0.0

    @property
    def recorder(self) -> Recorder | None:
        """The recording, or None."""
        return self._broadcast.recorder

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
