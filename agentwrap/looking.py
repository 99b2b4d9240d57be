"""What a stream does while somebody watches: look at the steps that are due, and send or record them."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import numpy as np

from agentwrap_protocol.messages import Step

from .calls import Seen
from .moments import Moment, Moments
from .probing import Probing
from .publisher import Publisher
from .sampling import Sampler
from .telling import NOTHING, Reason, Telling

#: Rewards kept for the next step message; older ones are dropped.
MOST_REWARDS = 65_536


class Looking(Telling):
    """A stream while it is watched or recorded.

    Steps that are not due pass with as little as can be (``_passing``); to see one that is, hooks have to look closely
    at the policy's call before it.
    """

    __slots__ = (
        "_acted_on",
        "_action",
        "_following",
        "_looking",
        "_moment",
        "_moments",
        "_passing",
        "_probing",
        "_record_every",
        "_recording",
        "_reward",
        "_rewards",
        "_sampler",
        "_seen",
        "_step_began",
        "_unrecorded",
        "publisher",
    )

    _moments: Moments
    _probing: Probing
    _recording: bool
    _sampler: Sampler
    publisher: Publisher

    def _begin_looking_on(self, record_every: int) -> None:
        self._rewards = deque[float](maxlen=MOST_REWARDS)
        self._record_every, self._unrecorded = record_every, deque[float](maxlen=MOST_REWARDS)
        self._reward = 0.0
        self._following = False  # hooks are on the policy
        self._passing = False  # somebody watches, and nothing is due
        # of the step in progress
        self._looking = False
        self._moment: Moment | None = None
        self._seen: Seen = None
        self._acted_on: Any = None
        self._action: Any = None
        self._step_began = 0.0

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
        self._seen = self._acted_on = self._action = None
        soon = self._sampler.soon(began, time.perf_counter()) or self._is_recorded(self._steps)
        if soon is not capture.closely:
            self._guard.run("following the policy", capture.look_closely, soon)
        self._passing = not soon and self._following and not self._recording
        if self._probing.waiting:
            self._feed.work()

    def _end_passing(self, reason: Reason | None) -> None:
        self._rewards.append(self._reward)
        # nothing of the step is held while the policy computes the next: in the memory that its observation and
        # tensors leave, which is still in the caches, others are made
        seen = self._feed.capture.take()
        if reason:
            self._end_step(self._last_moment(seen), reason)
        self._acted_on = self._action = None
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
        if observation is NOTHING or not self.publisher.watched:
            return None
        if (seen is None and not self._feed.capture.glances) or not self._sampler.pick_last(now):
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
