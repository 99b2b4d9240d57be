"""Two versions of a recording's policy: what each computes for all its steps, as the explainer gets to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agentwrap_protocol.messages import Outputs
from agentwrap_protocol.spaces import Space
from agentwrap_viewer.comparison.measures import compare_outputs
from agentwrap_viewer.page.marks import Mark

#: Steps asked for at a time, and how many such requests are under way.
PART, AHEAD = 128, 2

#: Seconds after which what was asked for and did not come is asked for again.
PATIENCE = 20.0

#: Outputs that are kept.
KEPT = ("logits", "q_values", "mean", "log_std", "value")


class Explains(Protocol):
    """Takes requests for outputs: see ``Receiver.evaluate``."""

    def evaluate(self, steps: NDArray[np.int64], versions: tuple[int, int], /) -> bool:
        """Ask for them; return whether that was possible."""


class Contrast:
    """What two versions compute, how far apart that is, and where they would act differently.

    Args:
        steps: int64 (n,): numbers of the recording's steps, growing.
        versions: The left and the right version.
        names: What they are called.
        space: The action space.
        action_name: Names a discrete action by its index.
        free: Says which of so many options the steps from a position to another left, bool (k, options); None for all.
        clock: Monotonic seconds.

    Attributes:
        near: Position of the step that somebody looks at: what is around it is computed first.
        changes: Grows with each answer.
        distance: float64 (n,): how far apart they are at each step; NaN where that is not known.
        disagree: bool (n,): whether they would act differently, as far as is known.
        known: Steps of which that is known.
        problem: Why they cannot be compared, or None.
    """

    def __init__(
        self,
        steps: NDArray[np.int64],
        versions: tuple[int, int],
        names: tuple[str, str],
        space: Space,
        *,
        action_name: Callable[[int], str] = "action {}".format,
        free: Callable[[int, int, int], NDArray[np.bool_] | None] = lambda begin, end, options: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.versions, self.names = versions, names
        self.near = self.changes = self.known = 0
        self.distance = np.full(len(steps), np.nan)
        self.disagree = np.zeros(len(steps), np.bool_)
        self.problem: str | None = None
        self._steps, self._space, self._clock, self._action_name = steps, space, clock, action_name
        self._free = free
        self._outputs: tuple[dict[str, NDArray[Any]], ...] = ({}, {})
        self._has = np.zeros((2, len(steps)), np.bool_)
        self._compared = np.zeros(len(steps), np.bool_)
        self._actions: tuple[NDArray[Any], ...] = ()
        self._asked: dict[int, float] = {}  # part → when

    def grow(self, steps: NDArray[np.int64]) -> None:
        """Take in that the recording has more steps: ``steps`` are all of them, int64 (n,)."""
        more = len(steps) - len(self._steps)

        def longer(kept: NDArray[Any], fill: float) -> NDArray[Any]:
            return np.concatenate([kept, np.full((more, *kept.shape[1:]), fill, kept.dtype)])

        self._steps = steps
        self.distance, self.disagree = longer(self.distance, np.nan), longer(self.disagree, False)
        self._compared = longer(self._compared, False)
        self._has = longer(self._has.T, False).T
        self._actions = tuple(longer(each, 0) for each in self._actions)
        self._outputs = tuple({name: longer(each, np.nan) for name, each in side.items()} for side in self._outputs)
        self.changes += 1

    @property
    def complete(self) -> bool:
        """Whether all steps that can be compared are."""
        return self.known == len(self._steps)

    def outputs(self, position: int, side: int) -> dict[str, NDArray[Any]] | None:
        """Return what the left (0) or right (1) version computes for the step at a position; None if not known yet."""
        if not 0 <= position < len(self._steps) or not self._has[side, position]:
            return None
        return {name: values[position] for name, values in self._outputs[side].items()}

    def actions(self, position: int) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """Return what both would do at a position, (choices,) each; None where that is not known."""
        if not 0 <= position < len(self._steps) or not self._compared[position]:
            return None
        return self._actions[0][position], self._actions[1][position]

    def take(self, message: Outputs) -> None:
        """Take an answer of the explainer."""
        numbers = message.arrays.get("step")
        if message.policy_version not in self.versions or numbers is None or numbers.ndim != 1:
            return
        positions = np.searchsorted(self._steps, numbers)
        if (positions >= len(self._steps)).any() or (self._steps[positions] != numbers).any():
            return
        for side, version in enumerate(self.versions):
            if version == message.policy_version:
                self._keep(side, positions, message)
        self._compare(positions[self._has[:, positions].all(0)])
        self.changes += 1

    def _keep(self, side: int, positions: NDArray[np.int64], message: Outputs) -> None:
        for name in KEPT:
            rows = message.arrays.get(f"output/{name}")
            if rows is None or len(rows) != len(positions):
                continue
            kept = self._outputs[side].setdefault(
                name, np.full((len(self._steps), *rows.shape[1:]), np.nan, np.float32)
            )
            if kept.shape[1:] == rows.shape[1:]:
                kept[positions] = rows
        self._has[side, positions] = True

    def _compare(self, positions: NDArray[np.int64]) -> None:
        if not len(positions):
            return
        left, right = ({name: each[positions] for name, each in side.items()} for side in self._outputs)
        try:
            apart = compare_outputs(left, right, self._space, self._masks(positions, left))
        except ValueError as error:
            self.problem = str(error)
            return
        if not self._actions:
            self._actions = tuple(np.zeros((len(self._steps), *each.shape[1:]), each.dtype) for each in apart.actions)
        for kept, found in zip(self._actions, apart.actions, strict=True):
            kept[positions] = found
        self.distance[positions], self.disagree[positions] = apart.distance, apart.disagree
        self._compared[positions] = True
        self.known = int(self._compared.sum())

    def _masks(self, positions: NDArray[np.int64], outputs: dict[str, NDArray[Any]]) -> NDArray[np.bool_] | None:
        rated = outputs.get("logits", outputs.get("q_values"))
        begin, end = int(positions.min()), int(positions.max()) + 1
        found = None if rated is None else self._free(begin, end, rated[0].size)
        return None if found is None else found[positions - begin]

    # What is not known yet.

    def ask(self, explainer: Explains) -> None:
        """Ask for the steps nearest to where somebody looks, a few parts at a time."""
        if self.problem is not None:
            return
        now = self._clock()
        self._asked = {part: at for part, at in self._asked.items() if self._lacks(part) and now - at < PATIENCE}
        for part in self._nearest():
            if len(self._asked) >= AHEAD:
                return
            begin = part * PART
            wanted = self._steps[begin : begin + PART][~self._compared[begin : begin + PART]]
            order = np.argsort(np.abs(np.searchsorted(self._steps, wanted) - self.near), kind="stable")
            if not explainer.evaluate(wanted[order], self.versions):
                return
            self._asked[part] = now

    def _lacks(self, part: int) -> bool:
        return not self._compared[part * PART : (part + 1) * PART].all()

    def _nearest(self) -> list[int]:
        """Parts that lack something and were not asked for, the nearest first."""
        parts = -(-len(self._steps) // PART)
        lacking = np.flatnonzero(~np.logical_and.reduceat(self._compared, np.arange(parts) * PART)).tolist()
        here = self.near // PART
        return sorted((part for part in lacking if part not in self._asked), key=lambda part: abs(part - here))

    # What is shown of it.

    def marks(self) -> list[Mark]:
        """Return a mark where a stretch begins over which they would act differently, each always the same way."""
        if not self._actions:
            return []
        left, right = self._actions
        before = np.zeros(len(self._steps), np.bool_)
        if left.dtype.kind == "i":
            same = (left[1:] == left[:-1]).all(1) & (right[1:] == right[:-1]).all(1)
        else:
            same = np.ones(len(self._steps) - 1, np.bool_)
        before[1:] = self.disagree[:-1] & same
        return [
            Mark(int(self._steps[position]), "disagreement", self.said(position))
            for position in np.flatnonzero(self.disagree & ~before).tolist()
        ]

    def said(self, position: int) -> str:
        """Say what both would do at a position."""
        actions = self.actions(position)
        if actions is None:
            return ""
        parts = (f"{name} {self.action(action)}" for name, action in zip(self.names, actions, strict=True))
        return f"{', '.join(parts)} (distance {self.distance[position]:.2f})"

    def action(self, action: NDArray[Any]) -> str:
        """Return an action for people: its name, or its elements."""
        if action.dtype.kind == "i" and action.size == 1:
            return self._action_name(int(action[0]))
        return ", ".join(f"{value:.3g}" for value in action[:6].tolist()) + (", …" if action.size > 6 else "")

    def figures(self) -> dict[str, Any]:
        """Return figures about all steps known so far."""
        apart = self.distance[np.isfinite(self.distance)]
        return {
            "steps": len(self._steps),
            "known": self.known,
            "disagreements": int(self.disagree.sum()),
            "mean_distance": round(float(apart.mean()), 4) if apart.size else None,
        }
