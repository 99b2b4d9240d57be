"""How far apart two policies are on the same observations, and how their maps differ.

What is compared is what the policies output for a recorded step, whatever was done there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentwrap_protocol.messages import SaliencyMap
from agentwrap_protocol.spaces import Box, Space
from agentwrap_viewer.recording.choices import choices

Floats = NDArray[np.float64]
Outputs = Mapping[str, NDArray[Any]]

#: Distance from which continuous policies count as disagreeing; discrete ones do where they would act differently.
DISAGREE = 0.5


@dataclass(frozen=True)
class Apart:
    """How far apart two policies are on k steps.

    Attributes:
        distance: float64 (k,), 0 for the same and 1 for the opposite. Of ``logits``: the total variation distance of
            the action distributions, the largest difference in probability that they give to any set of actions (of
            several choices at once, or of switches, the largest of theirs). Of ``q_values``: what each loses by the
            other's best action, as a share of the range of its Q-values, on average of the two. Of ``mean`` and
            ``log_std``: the Hellinger distance of the normal distributions. Of ``mean`` alone: the largest difference
            of an action's element, as a share of the action space's range, or of 2 where that is unbounded. NaN where
            an output is.
        disagree: bool (k,): discrete, whether the most probable (best) actions differ; else ``distance`` of at least
            0.5.
        actions: What each would do, a pair of int64 (k, choices), or of float64 (k, n) for continuous actions.
    """

    distance: Floats
    disagree: NDArray[np.bool_]
    actions: tuple[NDArray[Any], NDArray[Any]]


def compare_outputs(left: Outputs, right: Outputs, space: Space, free: NDArray[np.bool_] | None = None) -> Apart:
    """Compare what two policies output for the same k observations.

    Args:
        left: Outputs of one by name, each with k rows.
        right: Those of the other, of the same architecture.
        space: The action space.
        free: bool (k, n), which options each step left; None for all. Others are neither likely nor chosen.

    Raises:
        ValueError: They have neither logits nor Q-values nor a mean.
    """
    if "logits" in left:
        return _categorical(_rows(left["logits"]), _rows(right["logits"]), space, free)
    if "q_values" in left:
        return _q_values(_rows(left["q_values"]), _rows(right["q_values"]), free)
    if "mean" in left:
        return _continuous(left, right, space)
    raise ValueError(f"policies are compared by logits, q_values or mean; these output {', '.join(left) or 'nothing'}")


def _rows(array: NDArray[Any]) -> Floats:
    return np.asarray(array, np.float64).reshape(len(array), -1)


def _masked(values: Floats, free: NDArray[np.bool_] | None, instead: float = -np.inf) -> Floats:
    return values if free is None or free.shape != values.shape else np.where(free, values, instead)


def _categorical(left: Floats, right: Floats, space: Space, free: NDArray[np.bool_] | None) -> Apart:
    parts = (choices(_masked(each, free), space) for each in (left, right))
    pairs = list(zip(*parts, strict=True))
    distances = [np.abs(probabilities(one) - probabilities(other)).sum(1) / 2 for one, other in pairs]
    actions = tuple(np.stack([part[side].argmax(1) for part in pairs], axis=1) for side in (0, 1))
    known = np.isfinite(left).all(1) & np.isfinite(right).all(1)
    distance = np.where(known, np.max(distances, axis=0), np.nan)
    return Apart(distance, known & (actions[0] != actions[1]).any(1), (actions[0], actions[1]))


def probabilities(logits: NDArray[Any]) -> Floats:
    """Return the probabilities of the actions, (k, n), for logits (k, n); NaN where they are not finite."""
    values = np.asarray(logits, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        exponentials = np.exp(values - values.max(1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(1, keepdims=True))


def _q_values(left: Floats, right: Floats, free: NDArray[np.bool_] | None) -> Apart:
    actions = _masked(left, free).argmax(1)[:, None], _masked(right, free).argmax(1)[:, None]
    known = np.isfinite(left).all(1) & np.isfinite(right).all(1)
    with np.errstate(invalid="ignore"):
        distance = (_regret(left, actions[1], free) + _regret(right, actions[0], free)) / 2
    return Apart(np.where(known, distance, np.nan), known & (actions[0] != actions[1])[:, 0], actions)


def _regret(q_values: Floats, action: NDArray[np.int64], free: NDArray[np.bool_] | None) -> Floats:
    best, worst = _masked(q_values, free).max(1), _masked(q_values, free, np.inf).min(1)
    lost = best - np.take_along_axis(q_values, action, axis=1)[:, 0]
    return np.asarray(np.divide(lost, best - worst, out=np.zeros_like(lost), where=best > worst))


def _continuous(left: Outputs, right: Outputs, space: Space) -> Apart:
    means = _rows(left["mean"]), _rows(right["mean"])
    if "log_std" in left and "log_std" in right:
        deviations = (np.exp(_rows(left["log_std"])), np.exp(_rows(right["log_std"])))
        distance = _hellinger(means, deviations)
    else:
        bounded = isinstance(space, Box) and np.isfinite([space.low, space.high]).all() and space.high > space.low
        reach = space.high - space.low if bounded and isinstance(space, Box) else 2.0
        distance = np.clip(np.abs(means[0] - means[1]).max(1) / reach, 0, 1)
    with np.errstate(invalid="ignore"):
        return Apart(distance, distance >= DISAGREE, means)


def _hellinger(means: tuple[Floats, Floats], deviations: tuple[Floats, Floats]) -> Floats:
    """The Hellinger distance of normal distributions with independent elements, whose affinities multiply."""
    (mean, other_mean), (deviation, other_deviation) = means, deviations
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        variances = deviation**2 + other_deviation**2
        affinity = np.sqrt(2 * deviation * other_deviation / variances)
        affinity = affinity * np.exp(-((mean - other_mean) ** 2) / (4 * variances))
        return np.asarray(np.sqrt(np.clip(1 - affinity.prod(1), 0, None)))


def map_difference(left: SaliencyMap, right: SaliencyMap) -> dict[str, NDArray[np.float32]]:
    """Return what the right policy looks at more than the left one, by the names of the maps' arrays.

    Policies differ in the size of their outputs, and their scores with them. So each map is taken as shares of its own
    largest score (its largest distance from 0 where scores are signed, from the lowest where only differences count),
    and the left one's share is subtracted from the right one's.

    Returns:
        ``heatmap/…`` and ``features/…`` as in both maps, float32 in [-1, 1] (signed scores: [-2, 2]).
    """
    return {
        name: shares(right.arrays[name], right.scale_of(name)) - shares(left.arrays[name], left.scale_of(name))
        for name in right.arrays
        if name.startswith(("heatmap/", "features/")) and _alike(left.arrays.get(name), right.arrays[name])
    }


def _alike(one: NDArray[Any] | None, other: NDArray[Any]) -> bool:
    return one is not None and one.shape == other.shape


def shares(scores: NDArray[Any], scale: str = "magnitude") -> NDArray[np.float32]:
    """Return scores as shares of the largest one; what is not a number is no effect."""
    known = np.nan_to_num(np.asarray(scores, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if scale == "relative" and known.size:
        known = known - known.min()
    largest = float(np.abs(known).max(initial=0.0))
    return known / np.float32(largest) if largest > 0 else known
