"""The policy's output for the step shown: probabilities, Q-values, or a mean and deviation for each dimension."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentwrap_protocol.messages import Hello, Step
from agentwrap_protocol.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from agentwrap_viewer.page.view import News, View

from .element import Element

#: Rows drawn at most.
ROWS = 64


class PolicyElement(Element):
    """Draws a row for each action, the one taken marked."""

    _module = "policy"


class Policy:
    """Source of the policy's bars for one tab."""

    name = "policy"

    def __init__(self) -> None:
        self._news = News()

    def update(self, view: View) -> dict[str, Any] | None:
        """Return ``kind`` (``probabilities``, ``q_values``, ``gaussian``, ``action``, ``none``) and its ``rows``."""
        if not self._news.of(view, view.step):
            return None
        if view.step is None or view.hello is None:
            return {"kind": "none", "rows": []}
        return describe(view.step, view.hello)


def describe(step: Step, hello: Hello) -> dict[str, Any]:
    """Describe the policy's output; ``invalid`` tells that it contains NaN or infinities."""
    outputs = {name.removeprefix("output/"): a for name, a in step.arrays.items() if name.startswith("output/")}
    actor = next((outputs[name] for name in ("logits", "q_values", "mean") if name in outputs), None)
    if "logits" in outputs:
        described = _probabilities(outputs["logits"], step, hello)
    elif "q_values" in outputs:
        described = _q_values(outputs["q_values"], step, hello)
    elif "mean" in outputs:
        described = _gaussian(outputs["mean"], outputs.get("log_std"), step, hello)
    else:
        described = _action_alone(step, hello)
    described["invalid"] = actor is not None and not bool(np.isfinite(actor).all())
    described["hidden"] = max(0, len(described["rows"]) - ROWS)
    described["rows"] = described["rows"][:ROWS]
    return described


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return probabilities; NaN where the logits are not finite numbers."""
    values = np.asarray(logits, dtype=np.float64).reshape(-1)
    with np.errstate(invalid="ignore", over="ignore"):
        exponentials = np.exp(values - np.max(values, initial=-np.inf))
        total = exponentials.sum()
    return exponentials / total if total else np.full(values.shape, np.nan)


def action_names(hello: Hello, count: int) -> list[str]:
    """Return the actions' names, ``action 0`` and so on where the env has none."""
    known = hello.action_meanings or ()
    start = hello.action_space.start if isinstance(hello.action_space, Discrete) else 0
    return [known[index] if index < len(known) else f"action {index + start}" for index in range(count)]


def _taken(step: Step, hello: Hello) -> int | None:
    action = step.arrays.get("action")
    if action is None or action.size != 1 or not isinstance(hello.action_space, Discrete):
        return None
    return int(action.reshape(-1)[0]) - hello.action_space.start


def _rows(values: NDArray[Any], names: list[str], taken: set[int]) -> list[dict[str, Any]]:
    return [
        {"name": name, "value": float(value), "taken": index in taken}
        for index, (name, value) in enumerate(zip(names, values, strict=True))
    ]


def _probabilities(logits: NDArray[Any], step: Step, hello: Hello) -> dict[str, Any]:
    flat = np.asarray(logits).reshape(-1)
    if isinstance(hello.action_space, MultiDiscrete) and sum(hello.action_space.counts) == flat.size:
        return _several(flat, hello.action_space.counts, step)
    taken = _taken(step, hello)
    rows = _rows(softmax(flat), action_names(hello, flat.size), set() if taken is None else {taken})
    return {"kind": "probabilities", "rows": rows}


def _several(logits: NDArray[Any], counts: tuple[int, ...], step: Step) -> dict[str, Any]:
    action = np.asarray(step.arrays.get("action", ())).reshape(-1)
    rows: list[dict[str, Any]] = []
    for dimension, part in enumerate(np.split(logits, np.cumsum(counts)[:-1])):
        taken = {int(action[dimension])} if dimension < action.size else set()
        rows += _rows(softmax(part), [f"{dimension}: {index}" for index in range(part.size)], taken)
    return {"kind": "probabilities", "rows": rows}


def _q_values(q_values: NDArray[Any], step: Step, hello: Hello) -> dict[str, Any]:
    flat = np.asarray(q_values, dtype=np.float64).reshape(-1)
    taken = _taken(step, hello)
    return {
        "kind": "q_values",
        "rows": _rows(flat, action_names(hello, flat.size), set() if taken is None else {taken}),
    }


def _gaussian(mean: NDArray[Any], log_std: NDArray[Any] | None, step: Step, hello: Hello) -> dict[str, Any]:
    means = np.asarray(mean, dtype=np.float64).reshape(-1)
    if log_std is None:
        deviations = np.full(means.shape, np.nan)
    else:
        deviations = np.broadcast_to(np.exp(np.asarray(log_std, dtype=np.float64).reshape(-1)), means.shape)
    action = np.asarray(step.arrays.get("action", ()), dtype=np.float64).reshape(-1)
    low, high = _limits(hello, means, deviations)
    rows = [
        {
            "name": name,
            "value": float(means[index]),
            "deviation": float(deviations[index]),
            "action": float(action[index]) if index < action.size else None,
        }
        for index, name in enumerate(action_names(hello, means.size))
    ]
    return {"kind": "gaussian", "rows": rows, "low": low, "high": high}


def _limits(hello: Hello, means: NDArray[Any], deviations: NDArray[Any]) -> tuple[float, float]:
    """Return the axis of the intervals: the action space's bounds, else what the intervals reach."""
    space = hello.action_space
    if isinstance(space, Box) and np.isfinite([space.low, space.high]).all() and space.high > space.low:
        return space.low, space.high
    reach = np.nan_to_num(np.abs(means) + 2 * np.nan_to_num(deviations), posinf=1.0)
    limit = max(1.0, float(np.max(reach, initial=1.0)))
    return -limit, limit


def _action_alone(step: Step, hello: Hello) -> dict[str, Any]:
    """Describe a step for which the policy's output is not known."""
    action = step.arrays.get("action")
    taken = _taken(step, hello)
    if taken is not None:
        name = action_names(hello, max(taken + 1, 1))[taken] if taken >= 0 else str(taken)
        return {"kind": "action", "rows": [{"name": name, "value": None, "taken": True}]}
    if action is None or isinstance(hello.action_space, MultiBinary) or action.dtype.kind not in "iuf":
        return {"kind": "action", "rows": []}
    values = action.reshape(-1)
    names = action_names(hello, values.size)
    return {"kind": "action", "rows": _rows(values, names, set(range(values.size)))}
