"""What is known of many steps as numbers: reward, value and entropy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agentwrap_protocol.spaces import MultiDiscrete, Space

from .recording import Recording

Floats = NDArray[np.float64]


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
    """Return the value that the policy gave each step's observation: of Q-values the largest; NaN where unknown."""
    if "output/value" in recording.columns:
        return np.asarray(recording.array("output/value", begin, end), np.float64).reshape(end - begin, -1)[:, 0]
    if "output/q_values" in recording.columns:
        q_values = np.asarray(recording.array("output/q_values", begin, end), np.float64)
        return np.asarray(q_values.reshape(end - begin, -1).max(1))
    return np.full(end - begin, np.nan)


def entropies(recording: Recording, begin: int, end: int) -> Floats:
    """Return the entropy of each step's distribution over actions, in nats; NaN where unknown."""
    hello = recording.hello
    if "output/logits" in recording.columns and hello is not None:
        logits = np.asarray(recording.array("output/logits", begin, end), np.float64).reshape(end - begin, -1)
        return entropy_of_logits(logits, hello.action_space)
    if "output/log_std" in recording.columns:
        log_std = np.asarray(recording.array("output/log_std", begin, end), np.float64).reshape(end - begin, -1)
        return np.asarray((log_std + 0.5 * np.log(2 * np.pi * np.e)).sum(1))
    return np.full(end - begin, np.nan)


def entropy_of_logits(logits: Floats, space: Space) -> Floats:
    """Return the entropy of distributions in nats, (k,): of one choice, or the sum over a MultiDiscrete's choices.

    Args:
        logits: float64 (k, n).
        space: The action space.
    """
    parts = [logits]
    if isinstance(space, MultiDiscrete) and sum(space.counts) == logits.shape[1]:
        parts = np.split(logits, np.cumsum(space.counts)[:-1], axis=1)
    total = np.zeros(len(logits))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        for part in parts:
            shifted = part - part.max(1, keepdims=True)
            logarithms = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
            chances = np.exp(logarithms)
            total -= np.where(chances > 0, chances * logarithms, chances).sum(1)  # p log p → 0; NaN stays
    return total
