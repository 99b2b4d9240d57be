"""Explains recorded steps: what the explainer does with a stream, with a file and as long as it takes.

``explain`` runs in any process: it is given plain values and returns bytes. A process keeps the recording and the
policy that it used last.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import torch

from agentwrap_protocol import GraphError, encode
from agentwrap_protocol.messages import DEFAULT_TARGET, SaliencyMap
from agentwrap_viewer.recording import Recording, RecordingError, open_recording
from agentwrap_viewer.saliency import SaliencyError

from .background import Background
from .job import Job, Moment
from .past import FRAMES, is_recurrent
from .settings import Settings
from .tracking import Policy

#: Identity of this process as a sender of maps.
_STREAM = uuid.uuid4().hex


class CannotExplain(RuntimeError):
    """Steps cannot be explained as asked; the text says why."""


def check(
    recording: Recording,
    *,
    method: str | None,
    options: Mapping[str, Any],
    target: str | None = None,
    version: int | None = None,
) -> None:
    """Check that a recording can be explained so.

    Raises:
        CannotExplain: It has no policy, or the method, an option or the target does not suit it.
    """
    try:
        graph = recording.graph(version).graph
        Settings().changed(graph, recording.hello, method=method, options=options, target=target)
    except (RecordingError, SaliencyError, GraphError) as error:
        raise CannotExplain(str(error)) from error


def explain(task: Mapping[str, Any], indices: Sequence[int], *, threads: int | None = None) -> list[list[bytes]]:
    """Compute the final maps of steps of a recording.

    Args:
        task: ``path`` of the recording; ``version`` of the policy to explain with, None for each step's own;
            ``method``, None for the one that suits; ``options`` of it; ``target``, None for the method's own;
            ``device``.
        indices: Which steps, by their index in the recording.
        threads: Threads to compute with; None leaves it as it is.

    Returns:
        The frames of a ``saliency_map`` message for each step.

    Raises:
        CannotExplain: A step cannot be explained; the text says which and why.
    """
    recording = _opened(task["path"])
    before = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    torch.set_num_threads(threads or before[0])
    torch.backends.cudnn.allow_tf32 = False  # see __main__
    try:
        return [_explained(recording, task, index) for index in indices]
    finally:
        torch.set_num_threads(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def _explained(recording: Recording, task: Mapping[str, Any], index: int) -> list[bytes]:
    step = recording.steps[index]
    version = task["version"] if task["version"] is not None else step.policy_version or None
    try:
        policy = _policy(task["path"], version, task["device"])
    except (RecordingError, GraphError) as error:
        raise CannotExplain(f"step {step.step} cannot be explained: {error}") from error
    chosen = {name: task[name] for name in ("method", "options", "target")}
    return [bytes(frame) for frame in encode(explain_step(recording, policy, index, **chosen))]


def explain_step(
    recording: Recording,
    policy: Policy,
    index: int,
    *,
    method: str | None = None,
    options: Mapping[str, Any] | None = None,
    target: str | None = None,
) -> SaliencyMap:
    """Return the complete maps of a step of a recording, with any version of its policy.

    Raises:
        CannotExplain: The text says why.
    """
    step = recording.steps[index]
    try:
        Background(recording, policy).remember(index)
        before = recording.steps[max(index - FRAMES, 0) : index] if is_recurrent(policy.graph) else []
        moments = [Moment.of_step(earlier) for earlier in before][::-1]
        settings = Settings(method, options or {}, target or DEFAULT_TARGET)
        assert policy.graph is not None and recording.hello is not None
        aim = settings.aim(policy.graph, recording.hello)
        job = Job(Moment.of_step(step), policy, method, settings.options, aim=aim, before=moments)
        job.explanation.complete()
        while not job.done:
            job.advance()  # the frames before
    except (RecordingError, SaliencyError, GraphError) as error:
        raise CannotExplain(f"step {step.step} cannot be explained: {error}") from error
    return msgspec.structs.replace(job.message(_STREAM), time=step.time)


#: The recording that is open, by its path.
_open: dict[str, Recording] = {}


def _opened(path: str) -> Recording:
    if path not in _open:
        while _open:
            _open.popitem()[1].close()
        _open[path] = open_recording(path)
    return _open[path]


@lru_cache(maxsize=2)
def _policy(path: str, version: int | None, device: str) -> Policy:
    return policy_of(_opened(path), version, device)


def policy_of(recording: Recording, version: int | None, device: str) -> Policy:
    """Return a version of a recording's policy, ready to explain with.

    Raises:
        RecordingError: There is no such version.
        GraphError: It cannot be run here.
    """
    policy = Policy(device)
    policy.take_graph(recording.graph(version))
    policy.take_weights(recording.weights(version))
    policy.settle()
    if policy.problem is not None:
        raise GraphError(policy.problem)
    return policy
