"""The one line of code: an environment that lets viewers see why its agent acts."""

from __future__ import annotations

import math
import os
import sys
import time
import uuid
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, SupportsFloat

import gymnasium as gym
import numpy as np

from agentwrap_protocol import VERSION, Announcement
from agentwrap_protocol.messages import EpisodeEnd, Hello, PolicyGraph, Step

from .announce import announce
from .arrays import Array
from .capture import Seen
from .ending import Ending
from .episodes import EpisodeLog
from .guard import Guard
from .identity import Identity
from .policy import view_policy
from .policy_feed import PolicyFeed
from .publisher import Publisher
from .sampling import Sampler
from .snapshot import Snapshots, shares_memory
from .viewer_process import start_viewer

if TYPE_CHECKING:
    from .outlets import Outlets
    from .recorder import OnFull, Recorder

#: Rewards kept for the next step message; older ones are dropped.
MOST_REWARDS = 65_536

#: Why an episode is over.
Reason = Literal["terminated", "truncated", "reset", "closed"]

_NOTHING = object()  # no observation was seen yet


class InterpretWrapper(gym.Wrapper[Any, Any, Any, Any]):
    """Streams what an agent sees, does and computes to viewers on this machine; the agent notices nothing.

    Results of ``step`` and ``reset`` are the environment's own objects. While nobody watches, a step only counts. While
    somebody does, at most ``fps`` steps per second are copied and handed to a thread that sends them; the policy's
    outputs are seen by forward hooks in the calls that the agent's own code makes. A slow or dead viewer makes steps
    get dropped, never wait. When a viewer first asks for the policy's computation, exporting it takes about a second,
    once.

    Not every step is sent, but returns and lengths of episodes count every one. A step that is sent holds what belongs
    together: the observation that the policy saw, the picture of that moment, what the policy computed, the action, and
    what came of it. Where an episode ends between two samples, its last step is sent all the same (one in six
    may be such a step), but has no picture, for that cannot be taken afterwards.

    With ``record`` everything is written to a file besides, watched or not, and nothing is left out: where the disk is
    slower than the agent, the agent waits for it. A disk that is full ends the recording with a warning; the agent
    goes on, and what was written stays.

    ``spec`` is that of the environment inside, and a copy of the wrapper is a copy of the environment inside: neither
    streams.

    Args:
        env: The environment, with ``render_mode="rgb_array"`` for its own pictures.
        policy: The ``torch.nn.Module`` that the agent calls with observations.
        endpoint: Where to stream: ``tcp://127.0.0.1:<port>`` or ``ipc://<path>``. By default what the environment
            variable ``AGENTWRAP_ENDPOINT`` says, or else the first free port of 5590…5689.
        name: The stream's name for people; by default the environment's id.
        fps: Most steps per second that are sent.
        layers: Submodules whose outputs are sent too, by their names in ``policy.named_modules()``.
        outputs: Names of the policy's outputs, for example ``"q_values"``, where they should be others than
            ``agentwrap.outputs.output_names`` gives.
        action_meanings: A name for each discrete action; by default what the environment or its documentation says.
        feature_names: A name for each element of a vector observation; likewise.
        weights_every: Least seconds between two copies of changing weights.
        record: File to record to, an MCAP file; ``agentwrap_viewer.open_recording`` reads it. Needs
            ``pip install "agentwrap-rl[record]"``.
        record_every: Record one step in so many; ends of episodes and the policy's weights are recorded in any case.
        on_full: What to do when the disk is slower than the agent: ``wait``, or ``drop`` steps.
        overwrite: Replace the file of ``record`` if there is one.
        view: Start the viewer too, and end it with the agent. Needs ``pip install "agentwrap-rl[viewer]"``.
        quiet: Print nothing.
        strict: Raise what goes wrong in the instrument, instead of warning once and carrying on without that part.

    Attributes:
        stream: Identity of the stream.
        endpoint: Where it is.
        recorder: The recording, or None.

    Raises:
        PolicyTypeError: The policy is of a kind that cannot be watched.
        UnknownLayerError: The policy has no submodule of that name.
        EndpointError: The endpoint is malformed or reaches beyond this machine.
        PortTakenError: Something else listens there.
        RecordingError: The file exists already, or cannot be written.
        MissingExtraError: ``view`` without the viewer installed, or ``record`` without what it needs.
        ValueError: Another option is out of its range.

    Example:
        >>> import gymnasium as gym
        >>> import torch
        >>> from agentwrap import InterpretWrapper
        >>> policy = torch.nn.Linear(4, 2)
        >>> env = InterpretWrapper(gym.make("CartPole-v1"), policy, quiet=True)
        >>> observation, info = env.reset(seed=0)
        >>> action = policy(torch.as_tensor(observation)).argmax().item()
        >>> observation, reward, terminated, truncated, info = env.step(action)
        >>> env.close()
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        policy: Any,
        *,
        endpoint: str | None = None,
        name: str | None = None,
        fps: float = 60,
        layers: Sequence[str] | str | None = None,
        outputs: Sequence[str] | str | None = None,
        action_meanings: Sequence[str] | None = None,
        feature_names: Sequence[str] | None = None,
        weights_every: float = 2.0,
        record: str | os.PathLike[str] | None = None,
        record_every: int = 1,
        on_full: OnFull = "wait",
        overwrite: bool = False,
        view: bool = False,
        quiet: bool = False,
        strict: bool = False,
    ) -> None:
        super().__init__(env)
        seen_as = view_policy(policy, env)
        for option, value in (("fps", fps), ("weights_every", weights_every)):
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{option} must be a positive number, not {value!r}")
        if record_every < 1:
            raise ValueError(f"record_every must be at least 1, not {record_every!r}")
        self.stream = uuid.uuid4().hex
        self._quiet, self._fps = quiet, float(fps)
        self._identity = Identity(env, name=name, action_meanings=action_meanings, feature_names=feature_names)
        self._guard = Guard(strict)
        self._snapshots, self._sampler = Snapshots(env, self._guard), Sampler(fps)
        self._feed = PolicyFeed(
            seen_as,
            env.action_space,
            type_name=type(policy).__name__,
            outputs=outputs,
            layers=[layers] if isinstance(layers, str) else list(layers or ()),
            weights_every=weights_every,
            guard=self._guard,
            quiet=quiet,
        )
        self._episodes, self._rewards = EpisodeLog(), deque[float](maxlen=MOST_REWARDS)
        self._observation: Any = _NOTHING
        self._steps = self._episode = self._length = 0
        self._return = self._reward = self._began = 0.0
        self._following = self._passing = False
        self._record_every, self._unrecorded = record_every, deque[float](maxlen=MOST_REWARDS)
        self.recorder: Recorder | None = None
        self._recording = False
        self._publisher = Publisher(self.stream, endpoint, hello=self._hello, progress=self._progress)
        self._outlets: Publisher | Outlets = self._publisher  # with a recording, both
        self.endpoint = self._publisher.endpoint
        ending = Ending(self._publisher, self._feed, quiet=quiet)
        # happens when the wrapper is closed or forgotten or the process ends, whichever comes first
        self._end = weakref.finalize(self, ending)
        try:
            if record is not None:
                self.recorder = ending.recorder = self._record(record, on_full, overwrite)
            ending.announcement = self._guard.run("announcing the stream", self._announce)
            ending.viewer = start_viewer(self.endpoint) if view else None
        except BaseException:
            self._end()
            raise
        self._say_where(view)

    def _record(self, path: str | os.PathLike[str], on_full: OnFull, overwrite: bool) -> Recorder:
        from .outlets import Outlets
        from .recorder import Recorder

        recorder = Recorder(path, on_full=on_full, overwrite=overwrite)
        recorder.begin(self._hello(None), record_every=str(self._record_every))
        self._outlets, self._recording = Outlets(self._publisher, recorder, self._recorded_hello), True
        return recorder

    def _say_where(self, view: bool) -> None:
        if not self._quiet:
            look = "the viewer starts" if view else 'run "agentwrap view" to look'
            print(
                f"agentwrap: streaming {self._identity.name} on {self.endpoint} - {look}", file=sys.stderr, flush=True
            )

    @property
    def spec(self) -> Any:  # type: ignore[override]
        """The spec of the environment inside: one that is made from it opens no second stream."""
        return self.env.spec

    def __reduce__(self) -> tuple[Any, ...]:
        return _inner, (self.env,)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the environment inside and return what it returns."""
        if self._passing:
            return self._passing_step(action)
        if self._outlets.watched or self._following:
            return self._watched_step(action)
        if not self._length:
            self._began = time.perf_counter()
        result = self.env.step(action)
        if reason := self._count(result):
            self._end_episode(reason)
        return result

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment inside and return what it returns. An episode that was not over ends here."""
        result = self.env.reset(seed=seed, options=options)
        if self._length:
            self._end_episode("reset")
        self._observation = result[0]
        if self.recorder is not None and seed is not None:
            self.recorder.seeded(self._episode, seed)
        if self._outlets.watched or self._following:
            self._guard.run("following the policy", self._follow)
        return result

    def wait_for_viewer(self, timeout: float = 60.0) -> bool:
        """Wait until a viewer asks for the policy, so that a short run is explained from its first step.

        Args:
            timeout: Most seconds to wait.

        Returns:
            Whether one has asked.
        """
        deadline = time.monotonic() + timeout
        while not self._publisher.wants(PolicyGraph.kind):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def close(self) -> None:
        """End the stream and close the environment inside."""
        if self._end.alive:
            if self._length:
                self._end_episode("closed")
            self._end()
            if self._recording and self.recorder is not None and self.recorder.error is not None:
                self._stop_recording(self.recorder.error)
        self.env.close()

    # Counting, whether somebody watches or not.

    def _count(self, result: Any) -> Reason | None:
        """Count a step. Broken environments return all kinds of things: whatever it is, it must not stop the agent."""
        self._steps += 1
        self._length += 1
        try:
            self._observation, reward, terminated, truncated, _ = result
            self._reward = reward if type(reward) is float else _number(reward)
            self._return += self._reward
            return "terminated" if terminated else "truncated" if truncated else None
        except (TypeError, ValueError) as error:
            self._reward = math.nan
            self._guard.warn_once("results", f"step() of the environment returned something unusual: {error}")
            return None

    def _end_episode(self, reason: Reason) -> None:
        self._episodes.add(self._episode, self._return, self._length)
        if self._outlets.wants(EpisodeEnd.kind):
            self._outlets.publish(
                EpisodeEnd(
                    stream=self.stream,
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

    # While somebody watches.

    def _follow(self) -> None:
        """Bring the hooks in line with whether somebody watches."""
        self._passing = False
        capture = self._feed.capture
        if not self._outlets.watched:
            self._following = False
            capture.detach()
            return
        if not self._following:
            self._following = True
            self._rewards.clear()
            capture.attach()
        capture.expect(self._observation)
        capture.take()  # calls before a reset are not about what follows it

    def _watched_step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        if self._outlets.watched is not self._following:
            self._guard.run("following the policy", self._follow)
        if self._guard.strict and self._publisher.error is not None:
            raise self._publisher.error
        capture, observation, began = self._feed.capture, self._observation, time.perf_counter()
        if not self._length:
            self._began = began
        seen = capture.take()
        looked = capture.closely or not capture.attached  # or there is nothing to look at
        moment = self._begin_moment(seen, action, began) if looked else None
        result = self.env.step(action)
        reason = self._count(result)
        self._collect_reward()
        if reason and moment is None:
            moment = self._last_moment(seen, observation, action, began)
        self._end_step(moment, reason)
        soon = self._sampler.soon(began, time.perf_counter()) or self._is_recorded(self._steps)
        if soon is not capture.closely:
            self._guard.run("following the policy", capture.look_closely, soon)
        self._passing = not soon and self._following and not self._recording
        return result

    def _passing_step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step while somebody watches and nothing is due: most steps, so nothing more is touched than has to be."""
        observation, began = self._observation, time.perf_counter()
        if not self._length:
            self._began = began
        result = self.env.step(action)
        reason = self._count(result)
        self._rewards.append(self._reward)
        if reason:
            self._end_step(self._last_moment(self._feed.capture.take(), observation, action, began), reason)
        if self._sampler.soon(began, time.perf_counter()):
            self._passing = False
            self._guard.run("following the policy", self._feed.capture.look_closely, True)
        return result

    def _end_step(self, moment: _Moment | None, reason: Reason | None) -> None:
        if moment is not None:
            self._guard.run("sending steps", self._send, moment, reason)
        if reason:
            self._end_episode(reason)

    def _begin_moment(self, seen: Seen, action: Any, now: float) -> _Moment | None:
        """See all there is to see before a step that is to be sent or recorded; None where it is not."""
        if self._observation is _NOTHING:
            return None
        sent = self._publisher.watched and self._sampler.pick(now)
        recorded = self._is_recorded(self._steps)
        if not (sent or recorded):
            return None
        moment = _Moment(time.time(), self._steps, self._episode, self._length, seen, sent=sent, recorded=recorded)
        self._guard.run("taking snapshots", self._look, moment, action)
        return moment

    def _last_moment(self, seen: Seen, observation: Any, action: Any, now: float) -> _Moment | None:
        """See what is left to see of an episode's last step, which was known as such only when it was over."""
        if observation is _NOTHING or not self._publisher.watched or not self._sampler.pick_last(now):
            return None
        moment = _Moment(time.time(), self._steps - 1, self._episode, self._length - 1, seen, sent=True)
        self._guard.run("taking snapshots", self._look_back, moment, observation, action)
        return moment

    def _collect_reward(self) -> None:
        if self._publisher.watched:
            self._rewards.append(self._reward)
        elif self._rewards:
            self._rewards.clear()  # for whoever comes next, counting begins anew
        if self._recording:
            self._unrecorded.append(self._reward)

    def _is_recorded(self, step: int) -> bool:
        return self._recording and step % self._record_every == 0

    def _look(self, moment: _Moment, action: Any) -> None:
        """See all there is to see before a step."""
        source = self._snapshots.frame
        arrays = self._snapshots.take(self._observation, action)
        if self._snapshots.frame != source:
            self._outlets.publish_hello()
        self._see_policy(moment, arrays)

    def _look_back(self, moment: _Moment, observation: Any, action: Any) -> None:
        """See what is left to see of a step after it, if the environment has not reused the observation's memory."""
        if not shares_memory(observation, self._observation):
            self._see_policy(moment, self._snapshots.values(observation, action))

    def _see_policy(self, moment: _Moment, arrays: dict[str, Array]) -> None:
        capture, reading = self._feed.capture, "reading the policy's outputs"
        call = self._guard.run(reading, capture.choose, moment.seen, arrays)
        self._feed.update(call, moment.step, self._outlets)
        if call is not None:
            arrays.update(self._guard.run(reading, capture.arrays, call) or {})
        moment.arrays = arrays

    def _send(self, moment: _Moment, reason: Reason | None) -> None:
        if moment.sent and moment.arrays:
            self._publisher.publish(self._step_message(moment, reason, self._rewards))
        if moment.recorded and self.recorder is not None:
            self.recorder.put(self._step_message(moment, reason, self._unrecorded))
            if self.recorder.error is not None:
                self._stop_recording(self.recorder.error)

    def _stop_recording(self, error: Exception) -> None:
        """Go on without: the file is kept as far as it was written."""
        self._outlets, self._recording = self._publisher, False
        self._guard.switch_off("recording", error)

    def _step_message(self, moment: _Moment, reason: str | None, rewards: deque[float]) -> Step:
        """Make the message of a step; rewards since the one before go with it and are cleared."""
        since = np.array(rewards, np.float32)
        rewards.clear()
        return Step(
            stream=self.stream,
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
            arrays={**moment.arrays, "rewards": since},
        )

    # What the publisher's thread asks for.

    def _recorded_hello(self) -> Hello:
        return self._hello(None)

    def _hello(self, control: str | None) -> Hello:
        identity = self._identity
        return Hello(
            stream=self.stream,
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
            arrays=self._episodes.arrays(),
        )

    def _progress(self) -> tuple[int, int]:
        return self._steps, self._episode

    def _announce(self) -> Path:
        return announce(
            Announcement(
                stream=self.stream,
                endpoint=self.endpoint,
                name=self._identity.name,
                env_id=self._identity.env_id,
                pid=os.getpid(),
                started=time.time(),
                version=VERSION,
            )
        )


@dataclass(slots=True)
class _Moment:
    """A step that may be sent: which one it is, and what was seen of it. Without arrays it is not sent."""

    time: float
    step: int
    episode: int
    episode_step: int
    seen: Seen
    arrays: dict[str, Array] = field(default_factory=dict)
    sent: bool = False
    recorded: bool = False


def _inner(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """What a wrapper is copied and pickled as."""
    return env


def _number(reward: Any) -> float:
    """A reward as a number: environments return integers, NumPy's and PyTorch's scalars, arrays of one. Else NaN."""
    try:
        return float(reward.item() if hasattr(reward, "item") else reward)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return math.nan
