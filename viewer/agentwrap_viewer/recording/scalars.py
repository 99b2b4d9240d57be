"""What is known of many steps as numbers: reward, value and entropy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentwrap_protocol.spaces import Space

from .choices import choices
from .errors import RecordingError
from .recording import Recording

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]


def scalars(recording: Recording, begin: int, end: int) -> dict[str, Floats]:
    """Return ``reward``, ``value`` and ``entropy`` of some steps, float64 (end - begin,) each; NaN where unknown."""
    return {
        "reward": rewards(recording, begin, end),
        "value": values(recording, begin, end),
        "entropy": entropies(recording, begin, end),
    }


def rewards(recording: Recording, begin: int, end: int) -> Floats:
    """Return what each step and those before it that were not recorded were rewarded with."""
    first = max(begin - 1, 0)
    names = ("step", "episode", "reward", "episode_return")
    step, episode, reward, so_far = (np.asarray(recording.array(name, first, end)) for name in names)
    found = np.array(reward, np.float64)
    skipped = (np.diff(step) > 1) & (np.diff(episode) == 0)
    found[1:][skipped] = np.diff(so_far)[skipped]
    return found[begin - first :]


def values(recording: Recording, begin: int, end: int) -> Floats:
    """Return the value that the policy gave each step's observation; NaN where unknown.

    Of Q-values it is the largest of those that might be chosen.
    """
    if "output/value" in recording.columns:
        return np.asarray(recording.array("output/value", begin, end), np.float64).reshape(end - begin, -1)[:, 0]
    if "output/q_values" in recording.columns:
        q_values = np.asarray(recording.array("output/q_values", begin, end), np.float64)
        q_values = q_values.reshape(end - begin, -1)
        return np.asarray(masked(q_values, action_masks(recording, begin, end, q_values.shape[1])).max(1))
    return np.full(end - begin, np.nan)


def entropies(recording: Recording, begin: int, end: int) -> Floats:
    """Return the entropy of each step's distribution over actions, in nats; NaN where unknown."""
    hello = recording.hello
    if "output/logits" in recording.columns and hello is not None:
        logits = np.asarray(recording.array("output/logits", begin, end), np.float64).reshape(end - begin, -1)
        return entropy_of_logits(logits, hello.action_space, action_masks(recording, begin, end, logits.shape[1]))
    if "output/log_std" in recording.columns:
        log_std = np.asarray(recording.array("output/log_std", begin, end), np.float64).reshape(end - begin, -1)
        return np.asarray((log_std + 0.5 * np.log(2 * np.pi * np.e)).sum(1))
    return np.full(end - begin, np.nan)


def action_masks(recording: Recording, begin: int, end: int, options: int) -> Booleans | None:
    """Return which of so many options each step left, bool (end - begin, options); None where nothing was masked.

    Stretches whose first and last step have no mask are taken for such without, in recordings where not all steps have.
    """
    if begin == end or not _has_masks(recording, begin, end):
        return None
    try:
        found = np.asarray(recording.array("action_mask", begin, end), np.bool_).reshape(end - begin, -1)
    except RecordingError:  # some steps have none
        each = (_mask_of(recording, index) for index in range(begin, end))
        masks = [np.ones(options, np.bool_) if mask is None else np.asarray(mask, np.bool_) for mask in each]
        found = np.stack(masks) if all(mask.shape == (options,) for mask in masks) else np.empty((0, 0), np.bool_)
    return found if found.shape == (end - begin, options) else None


def _has_masks(recording: Recording, begin: int, end: int) -> bool:
    if "action_mask" in recording.columns:
        return True
    return any(_mask_of(recording, index) is not None for index in (begin, end - 1))


def _mask_of(recording: Recording, index: int) -> Any | None:
    try:
        return recording.steps[index].arrays.get("action_mask")
    except RecordingError:  # damaged
        return None


def masked(values: Floats, free: Booleans | None) -> Floats:
    """Return logits or Q-values, -inf for the options that were not ``free``; both (k, n)."""
    return values if free is None else np.where(free, values, -np.inf)


def entropy_of_logits(logits: Floats, space: Space, free: Booleans | None = None) -> Floats:
    """Return the entropy of distributions in nats, (k,): of one choice, or the sum over several or over switches.

    Args:
        logits: float64 (k, n).
        space: The action space.
        free: bool (k, n), options that had a chance; None for all.
    """
    parts = choices(masked(logits, free), space)
    return np.asarray(np.sum([_entropy(part) for part in parts], axis=0), np.float64)


def _entropy(logits: Floats) -> Floats:
    """The entropy of one choice, (k,)."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        shifted = logits - logits.max(1, keepdims=True)
        logarithms = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        chances = np.exp(logarithms)
        return np.asarray(-np.where(chances > 0, chances * logarithms, chances).sum(1))  # p log p → 0; NaN stays
