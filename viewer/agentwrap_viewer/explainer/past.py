"""What a step's outputs owe to the frames before: those of past steps, or of the stack that the observation is."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from agentwrap_protocol import GraphError
from agentwrap_viewer.saliency import (
    SaliencyError,
    TemporalSaliency,
    Unanswered,
    explain_frames,
    explain_stack,
    layout_of,
)
from agentwrap_viewer.saliency.temporal import stacked

if TYPE_CHECKING:
    from .catalogue import Signature
    from .job import Moment
    from .targets import Aim
    from .tracking import Policy

#: Frames that are scored, the step's own included.
FRAMES = 8

#: Bytes of past steps that are kept, and how many steps.
MAX_BYTES, MAX_STEPS = 64 * 2**20, 4096

#: Largest difference, as a share of the largest value, between the state that entered and the one that was computed.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class PastWeights:
    """Scores of frames.

    Attributes:
        kind: Whether they are those of past ``steps`` or of the ``stack`` that the observation is.
        weights: (k,) by target, oldest first, the step's own last.
        problem: Why there are fewer than there could be, or why they may be wrong, for people.
    """

    kind: Literal["steps", "stack"]
    weights: dict[str, NDArray[np.float32]]
    problem: str | None = None


def is_recurrent(graph: Signature | None) -> bool:
    """Whether a policy carries state from one step to the next."""
    return graph is not None and any(given.next is not None for given in graph.inputs)


class Past:
    """The newest steps of a recurrent policy, bounded."""

    def __init__(self) -> None:
        self._moments: deque[Moment] = deque()
        self._bytes = 0

    def remember(self, moment: Moment) -> None:
        """Keep a step; forget the oldest until all fits."""
        self._moments.append(moment)
        self._bytes += _size(moment)
        while len(self._moments) > 1 and (self._bytes > MAX_BYTES or len(self._moments) > MAX_STEPS):
            self._bytes -= _size(self._moments.popleft())

    def clear(self) -> None:
        """Forget all: others come before the next."""
        self._moments.clear()
        self._bytes = 0

    def before(self, moment: Moment) -> list[Moment]:
        """Return the steps kept before one, the newest first."""
        return [kept for kept in reversed(self._moments) if kept.step < moment.step]


def consecutive(moment: Moment, before: Iterable[Moment]) -> tuple[list[Moment], str | None]:
    """Return the steps that lead to one without a gap in its episode, oldest first, that one last.

    Args:
        moment: The step.
        before: Steps before it, the newest first.

    Returns:
        ``FRAMES`` steps at most, and why there are fewer where the episode had more.
    """
    found = [moment]
    for earlier in before:
        if len(found) == FRAMES or earlier.episode != moment.episode:
            return found[::-1], None
        if earlier.step != found[-1].step - 1:
            skipped = found[-1].step - 1 - earlier.step
            which = "the step" if skipped == 1 else f"{skipped} steps"
            return found[::-1], f"{which} before step {found[-1].step} {'was' if skipped == 1 else 'were'} not sent"
        found.append(earlier)
    begins = len(found) == FRAMES or found[-1].episode_step == 0
    return found[::-1], None if begins else f"what was before step {found[-1].step} is not known"


def has_past(policy: Policy, observation: Any) -> bool:
    """Whether there are frames to score: the policy is recurrent, or its observation is a stack."""
    if is_recurrent(policy.graph):
        return True
    shapes = [tuple(part.shape) for part in (observation.values() if isinstance(observation, dict) else [observation])]
    return any(3 <= len(shape) <= 4 and stacked(layout_of(shape)) for shape in shapes)


def look_back(policy: Policy, moment: Moment, before: Iterable[Moment], aim: Aim) -> PastWeights | None:
    """Score the frames that a step's outputs may depend on; None where there is nothing but the step's own."""
    request = aim.request(moment.arrays)
    target = request.pop("target")
    asked = request if target is None else {"targets": (target,), **request}
    if not is_recurrent(policy.graph):
        observation, state = policy.inputs(moment.arrays)
        found = _stack(policy, observation, state, asked)
        return None if found is None else PastWeights("stack", dict(found.weights))
    steps, problem = consecutive(moment, before)
    if len(steps) == 1:
        return PastWeights("steps", {}, problem)
    try:
        found, entered = _carried(policy, steps, asked)
    except (SaliencyError, GraphError) as error:
        return PastWeights("steps", {}, str(error))
    if not _alike(found.state, entered):
        problem = (
            "the state that entered this step is another than the steps before lead to: the policy has changed since, "
            "or its state is not what it returned"
        )
    return PastWeights("steps", dict(found.weights), problem)


def _carried(
    policy: Policy, steps: Sequence[Moment], asked: Mapping[str, Any]
) -> tuple[TemporalSaliency, dict[str, torch.Tensor]]:
    assert policy.graph is not None
    carried = {given.name for given in policy.graph.inputs if given.next is not None}
    filled = [policy.inputs(step.arrays) for step in steps]
    states = [{name: part for name, part in state.items() if name in carried} for _, state in filled]
    held = [{name: part for name, part in state.items() if name not in carried} for _, state in filled]
    frames = [observed for observed, _ in filled]
    found = explain_frames(policy.replica, frames, state=states[0], held=held, **asked)
    return found, states[-1]


def _stack(policy: Policy, observation: Any, state: Any, asked: Mapping[str, Any]) -> TemporalSaliency | None:
    try:
        return explain_stack(policy.replica, observation, state=state, **asked)
    except Unanswered:
        raise
    except SaliencyError:
        return None  # the map says why


def _alike(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return all(
        bool((part - theirs[name]).abs().max() <= TOLERANCE * max(1.0, float(theirs[name].abs().max())))
        for name, part in ours.items()
    )


def _size(moment: Moment) -> int:
    return sum(array.nbytes for array in moment.arrays.values()) + 2048
