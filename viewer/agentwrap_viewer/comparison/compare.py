"""Both policies' outputs and maps for a range of recorded steps, in any process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentwrap_protocol.messages import SaliencyMap
from agentwrap_viewer.explainer.offline import check, explain_step, policy_of
from agentwrap_viewer.explainer.tracking import Policy
from agentwrap_viewer.recording import Recording, RecordingError
from agentwrap_viewer.recording.scalars import action_masks

from .measures import Apart, compare_outputs, map_difference

#: Steps whose outputs are computed at a time.
BATCH = 64

Weights = int | str | os.PathLike[str]


@dataclass(frozen=True)
class Comparison:
    """Two policies on k recorded steps.

    Attributes:
        names: What the left and the right one are called.
        versions: Their versions in the recording; files of weights are added to it as further ones.
        steps: int64 (k,): numbers of the steps.
        outputs: What each computes for them, by name, (k, …).
        apart: How far apart they are: ``distance`` (k,), ``disagree`` (k,), ``actions``.
        maps: For each step the left and the right one's map, complete; empty where none were asked for.
    """

    names: tuple[str, str]
    versions: tuple[int, int]
    steps: NDArray[np.int64]
    outputs: tuple[Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]]]
    apart: Apart
    maps: tuple[tuple[SaliencyMap, SaliencyMap], ...] = ()

    def difference(self, index: int) -> dict[str, NDArray[np.float32]]:
        """Return what the right one looks at more than the left one at a step: see ``map_difference``."""
        return map_difference(*self.maps[index])


def compare(
    recording: Recording,
    left: Weights,
    right: Weights,
    *,
    start: int = 0,
    stop: int | None = None,
    maps: bool = False,
    method: str | None = None,
    options: Mapping[str, Any] | None = None,
    target: str | None = None,
    device: str = "cpu",
) -> Comparison:
    """Compare two policies on the same recorded steps.

    Args:
        recording: An open recording; both policies have the architecture of the one that was recorded.
        left: A version of the recorded policy, or a safetensors file of weights.
        right: The other one, likewise.
        start: Index of the first step.
        stop: Index behind the last step; None for all that are there. Negative ones count from the end.
        maps: Compute both policies' maps too.
        method: Saliency method; None for the one that suits.
        options: Its options, as far as they are not at their defaults.
        target: What of the policies is explained: ``actor``, ``critic``, ``chosen``, ``choice:<i>``, an action's name
            or index; None for the method's own.
        device: Where to compute.

    Raises:
        RecordingError: A version or a file is not there, or of another architecture.
        CannotExplain: A step cannot be explained so.
        GraphError: A step lacks what the policy takes.
    """
    versions = (_version(recording, left), _version(recording, right))
    policies = policy_of(recording, versions[0], device), policy_of(recording, versions[1], device)
    begin, end, _ = slice(start, stop).indices(len(recording.steps))
    hello = recording.hello
    if hello is None or begin >= end:
        raise RecordingError(f"{recording.path} has no steps from {start} to {stop}: there is nothing to compare")
    outputs = _outputs(recording, policies[0], begin, end), _outputs(recording, policies[1], begin, end)
    if maps:
        for version in versions:
            check(recording, method=method, options=options or {}, target=target, version=version)
    explained = (
        tuple(
            explain_step(recording, policy, index, method=method, options=options, target=target) for policy in policies
        )
        for index in (range(begin, end) if maps else ())
    )
    return Comparison(
        names=(recording.name_of(versions[0]), recording.name_of(versions[1])),
        versions=versions,
        steps=np.asarray(recording.array("step", begin, end), np.int64),
        outputs=outputs,
        apart=compare_outputs(*outputs, hello.action_space, _free(recording, outputs[0], begin, end)),
        maps=tuple((left_map, right_map) for left_map, right_map in explained),
    )


def _free(recording: Recording, outputs: Mapping[str, NDArray[Any]], begin: int, end: int) -> NDArray[np.bool_] | None:
    rated = outputs.get("logits", outputs.get("q_values"))
    return None if rated is None else action_masks(recording, begin, end, rated[0].size)


def _version(recording: Recording, weights: Weights) -> int:
    return weights if isinstance(weights, int) else recording.add_weights(weights)


def _outputs(recording: Recording, policy: Policy, begin: int, end: int) -> dict[str, NDArray[Any]]:
    parts = [
        policy.outputs_of_steps([step.arrays for step in recording.steps[first : min(first + BATCH, end)]])
        for first in range(begin, end, BATCH)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
