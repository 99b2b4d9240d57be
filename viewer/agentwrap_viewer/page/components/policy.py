"""The policy's output for the step shown: probabilities, Q-values, or a mean and deviation for each dimension."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentwrap_protocol.messages import Hello, SaliencyMap, Step
from agentwrap_protocol.spaces import Discrete, MultiBinary, MultiDiscrete
from agentwrap_viewer.page.view import News, View

from .element import Element
from .intervals import action_names, intervals

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
        self._explained: tuple[int, ...] = ()

    def update(self, view: View) -> dict[str, Any] | None:
        """Return ``kind`` (``probabilities``, ``q_values``, ``gaussian``, ``action``, ``none``), and its ``rows``.

        ``explained`` are the places of the rows that the map shown is about, where it is not about all of them;
        ``probed`` tells that outputs are only known of the steps for which there was time to ask the policy.
        """
        described: dict[str, Any] = {"kind": "none", "rows": []}
        if view.step is not None and view.hello is not None:
            described = describe(view.step, view.hello)
        explained = explained_rows(described["rows"], view.saliency_map)
        if explained != self._explained:  # else the same object, which is no news
            self._explained = explained
        if not self._news.of(view, view.step, self._explained):
            return None
        return {**described, "explained": list(explained)}


def describe(step: Step, hello: Hello) -> dict[str, Any]:
    """Describe the policy's output; ``invalid`` tells that it contains NaN or infinities."""
    outputs = {name.removeprefix("output/"): a for name, a in step.arrays.items() if name.startswith("output/")}
    actor = next((outputs[name] for name in ("logits", "q_values", "mean") if name in outputs), None)
    if "logits" in outputs:
        described = _probabilities(outputs["logits"], step, hello)
    elif "q_values" in outputs:
        described = _q_values(outputs["q_values"], step, hello)
    elif "mean" in outputs:
        described = intervals(outputs["mean"], outputs.get("log_std"), step, hello)
    else:
        described = _action_alone(step, hello)
    described["invalid"] = actor is not None and not bool(np.isfinite(actor).all())
    described["probed"] = hello.policy.probe is not None
    described["hidden"] = max(0, len(described["rows"]) - ROWS)
    described["rows"] = described["rows"][:ROWS]
    return described


def explained_rows(rows: list[dict[str, Any]], message: SaliencyMap | None) -> tuple[int, ...]:
    """Return which rows a map is about: an action, a dimension, a choice; none where it is about the whole actor."""
    found: set[int] = set()
    for target in message.targets if message is not None else ():
        if target.isdecimal():
            found.add(int(target))
        elif target.startswith("choice:"):
            found |= {place for place, row in enumerate(rows) if row.get("group") == target.replace(":", " ")}
        elif target == "chosen" and message is not None:
            found |= _preferred(rows, message)
    return tuple(sorted(place for place in found if place < len(rows)))


def _preferred(rows: list[dict[str, Any]], message: SaliencyMap) -> set[int]:
    """Return the row of the greatest output of the map's own version, in each group where there are several.

    Of switches the map is about all, as they are preferred.
    """
    if any("switch" in row for row in rows):
        return set()
    rated = next((message.arrays[name] for name in ("output/logits", "output/q_values") if name in message.arrays), ())
    best: dict[Any, tuple[float, int]] = {}
    for place, (row, value) in enumerate(zip(rows, np.ravel(rated), strict=False)):
        if not row.get("masked") and float(value) > best.get(row.get("group"), (-math.inf, 0))[0]:
            best[row.get("group")] = float(value), place
    return {place for _, place in best.values()}


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return probabilities; NaN where the logits are not finite numbers."""
    values = np.asarray(logits, dtype=np.float64).reshape(-1)
    with np.errstate(invalid="ignore", over="ignore"):
        exponentials = np.exp(values - np.max(values, initial=-np.inf))
        total = exponentials.sum()
    return exponentials / total if total else np.full(values.shape, np.nan)


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
    flat = np.asarray(logits, dtype=np.float64).reshape(-1)
    mask = step.arrays.get("action_mask")
    free = np.ones(flat.shape, bool) if mask is None or mask.size != flat.size else mask.reshape(-1).astype(bool)
    counts, space = _counts(flat.size, hello), hello.action_space
    if counts is not None:
        rows = _several(np.where(free, flat, -np.inf), counts, step)
    elif isinstance(space, MultiBinary) and math.prod(space.shape) == flat.size:
        rows = _switches(flat, step, hello)
    else:
        taken = _taken(step, hello)
        probabilities = softmax(np.where(free, flat, -np.inf))
        rows = _rows(probabilities, action_names(hello, flat.size), set() if taken is None else {taken})
    for row, open_ in zip(rows, free, strict=True):
        if not open_:
            row.update(value=None, masked=True)
    return {"kind": "probabilities", "rows": rows}


def _counts(size: int, hello: Hello) -> tuple[int, ...] | None:
    """Return the options of each choice where there are several, None where there is one."""
    told, space = hello.policy.distribution, hello.action_space
    counts = told.counts if told is not None and told.kind == "multi_categorical" else ()
    if not counts and isinstance(space, MultiDiscrete):
        counts = space.counts
    return counts if counts and sum(counts) == size else None


def _several(logits: NDArray[Any], counts: tuple[int, ...], step: Step) -> list[dict[str, Any]]:
    action = np.asarray(step.arrays.get("action", ())).reshape(-1)
    rows: list[dict[str, Any]] = []
    for choice, part in enumerate(np.split(logits, np.cumsum(counts)[:-1])):
        taken = {int(action[choice])} if choice < action.size else set()
        own = _rows(softmax(part), [str(index) for index in range(part.size)], taken)
        rows += [{**row, "group": f"choice {choice}"} for row in own]
    return rows


def _switches(logits: NDArray[Any], step: Step, hello: Hello) -> list[dict[str, Any]]:
    """Return how likely each switch is on, those marked that were put on."""
    on = {int(index) for index in np.flatnonzero(step.arrays.get("action", ()))}
    with np.errstate(over="ignore"):
        likely = 1 / (1 + np.exp(-logits))
    return [{**row, "switch": True} for row in _rows(likely, action_names(hello, logits.size), on)]


def _q_values(q_values: NDArray[Any], step: Step, hello: Hello) -> dict[str, Any]:
    flat = np.asarray(q_values, dtype=np.float64).reshape(-1)
    taken = _taken(step, hello)
    return {
        "kind": "q_values",
        "rows": _rows(flat, action_names(hello, flat.size), set() if taken is None else {taken}),
    }


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
