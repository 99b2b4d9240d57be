"""Continuous actions as intervals: where the policy draws them from, in the units of the environment."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentwrap_protocol.messages import Hello, Step
from agentwrap_protocol.spaces import Box, Discrete

Values = NDArray[np.float64]


def action_names(hello: Hello, count: int) -> list[str]:
    """Return the actions' names, ``action 0`` and so on where the env has none."""
    known = hello.action_meanings or ()
    start = hello.action_space.start if isinstance(hello.action_space, Discrete) else 0
    return [known[index] if index < len(known) else f"action {index + start}" for index in range(count)]


def intervals(mean: NDArray[Any], log_std: NDArray[Any] | None, step: Step, hello: Hello) -> dict[str, Any]:
    """Return an interval of one deviation to either side of the mean for each element of the action, and its axis.

    Of squashed distributions (``DistributionInfo``) the ends and the middle are squashed and scaled to the bounds.
    Quantiles stay what they are: the middle is the median, and the interval holds as much of the probability as that of
    the normal distribution.

    Returns:
        ``kind`` (``gaussian``), ``squashed``, the least ``low`` and greatest ``high`` of all rows, and ``rows``:
        ``name``, ``value`` (the middle), ``from``, ``to``, ``deviation`` (NaN where it is not known or has no meaning
        in the environment's units), ``action`` (None where unknown), and ``low`` and ``high`` of its axis.
    """
    means = np.asarray(mean, dtype=np.float64).reshape(-1)
    deviations = np.full(means.shape, np.nan)
    if log_std is not None:
        with np.errstate(over="ignore"):
            deviations = np.broadcast_to(np.exp(np.asarray(log_std, dtype=np.float64).reshape(-1)), means.shape)
    spread = np.nan_to_num(deviations)
    parts = np.stack([means, means - spread, means + spread])
    told, (low, high) = hello.policy.distribution, _bounds(hello, means.size)
    squashed = told is not None and told.kind == "squashed_gaussian" and bool(np.isfinite([low, high]).all())
    if squashed:
        parts, deviations = low + (np.tanh(parts) + 1) / 2 * (high - low), np.full(means.shape, np.nan)
    low, high = _axes(low, high, parts)
    columns = (action_names(hello, means.size), *parts, deviations, low, high)
    action = np.asarray(step.arrays.get("action", ()), dtype=np.float64).reshape(-1)
    rows = [
        {
            "name": name,
            **dict(zip(("value", "from", "to", "deviation", "low", "high"), map(float, numbers), strict=True)),
            "action": float(action[index]) if index < action.size else None,
        }
        for index, (name, *numbers) in enumerate(zip(*columns, strict=True))
    ]
    ends = {"low": float(np.min(low, initial=np.inf)), "high": float(np.max(high, initial=-np.inf))}
    return {"kind": "gaussian", "squashed": squashed, "rows": rows, **ends}


def _bounds(hello: Hello, count: int) -> tuple[Values, Values]:
    """Return the least and the greatest of each element of the action, infinite where nothing says so."""
    told, space = hello.policy.distribution, hello.action_space
    if told is not None and len(told.low) == len(told.high) == count:
        return np.array(told.low), np.array(told.high)
    ends = (space.low, space.high) if isinstance(space, Box) else (-np.inf, np.inf)
    return np.full(count, ends[0]), np.full(count, ends[1])


def _axes(low: Values, high: Values, parts: Values) -> tuple[Values, Values]:
    """Return the axis of each interval: the bounds, or what all those without bounds reach together."""
    open_ = ~np.isfinite(low) | ~np.isfinite(high) | (high <= low)
    reach = np.abs(np.nan_to_num(parts[:, open_], posinf=1.0, neginf=-1.0))
    limit = max(1.0, 1.25 * float(np.max(reach, initial=0.0)))
    return np.where(open_, -limit, low), np.where(open_, limit, high)
