"""What points are coloured by: a few numbers of each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agentwrap_protocol.messages import Hello, Step
from agentwrap_protocol.spaces import Discrete
from agentwrap_viewer.page.store import value_of
from agentwrap_viewer.recording.scalars import entropy_of_logits

#: Components of a continuous action that points can be coloured by.
MOST_ACTIONS = 6


@dataclass(frozen=True)
class Column:
    """A number that each point has.

    Attributes:
        name: Its name.
        title: The same for people.
        kind: ``number``, or ``category``: whole numbers from 0 that stand for something.
        labels: What each category stands for.
        unknown: What it means where a point has none.
    """

    name: str
    title: str
    kind: Literal["number", "category"] = "number"
    labels: tuple[str, ...] = ()
    unknown: str = "not known"


VALUE, RETURN_TO_GO, TIME, ENTROPY, VERSION = range(5)

_COMMON = (
    Column("value", "Value", unknown="the policy gave none"),
    Column("return_to_go", "Return to go", unknown="the episode has not ended"),
    Column("time", "Time in episode"),
    Column("entropy", "Entropy", unknown="the policy has no distribution"),
    Column("policy_version", "Policy version"),
)


def columns_of(hello: Hello) -> tuple[Column, ...]:
    """Return the columns of a stream's steps: five that all have, then the action, or each component of it."""
    space = hello.action_space
    if isinstance(space, Discrete):
        known = hello.action_meanings or ()
        named = (known[i] if i < len(known) else f"action {i + space.start}" for i in range(min(space.n, 256)))
        return (*_COMMON, Column("action", "Action", "category", tuple(named)))
    count = min(int(np.prod(getattr(space, "shape", ()) or (1,))), MOST_ACTIONS)
    return (*_COMMON, *(Column(f"action_{index}", f"Action {index}") for index in range(count)))


def row_of(step: Step, hello: Hello, columns: tuple[Column, ...]) -> NDArray[np.float32]:
    """Return a step's numbers, float32 (columns,); NaN where unknown, as the return to go always is here."""
    row = np.full(len(columns), np.nan, np.float32)
    row[VALUE], row[TIME], row[VERSION] = value_of(step), step.episode_step, step.policy_version
    row[ENTROPY] = _entropy(step, hello)
    action = step.arrays.get("action")
    if action is not None and action.dtype.kind in "biuf":
        start = hello.action_space.start if isinstance(hello.action_space, Discrete) else 0
        flat = action.reshape(-1)[: len(columns) - len(_COMMON)].astype(np.float32) - start
        row[len(_COMMON) : len(_COMMON) + len(flat)] = flat
    return row


def _entropy(step: Step, hello: Hello) -> float:
    logits, log_std = step.arrays.get("output/logits"), step.arrays.get("output/log_std")
    if logits is not None and logits.size:
        rows, mask = np.asarray(logits, np.float64).reshape(1, -1), step.arrays.get("action_mask")
        free = None if mask is None or mask.size != rows.size else np.asarray(mask, np.bool_).reshape(1, -1)
        return float(entropy_of_logits(rows, hello.action_space, free)[0])
    if log_std is not None and log_std.size:
        return float((np.asarray(log_std, np.float64) + 0.5 * np.log(2 * np.pi * np.e)).sum())
    return float("nan")
