"""Sees what a policy computed for one of several environments, whose observations it is called with at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from .arrays import Array
from .calls import Before, Call, Glance, Seen
from .capture import PolicyCapture
from .guard import Guard
from .holding import Held
from .hooks import is_tensor
from .matching import Shapes, single_observation

if TYPE_CHECKING:
    from torch import nn


class BatchCapture(PolicyCapture):
    """Captures calls with as many observations as there are environments; one row of them is chosen.

    Calls with another number of rows are no acts: they are learning. Rows are views: nothing is computed or copied of
    the other environments.

    Args:
        policy: See ``PolicyCapture``, as for the others.
        action_space: That of one environment.
        rows: Number of environments.
        outputs: Names of outputs.
        layers: Names of submodules.
        guard: Told of what goes wrong.

    Attributes:
        row: Which environment's.
    """

    def __init__(
        self,
        policy: nn.Module,
        action_space: gym.Space[Any],
        *,
        rows: int,
        outputs: Sequence[str] | str | None = None,
        layers: Sequence[str] = (),
        guard: Guard | None = None,
    ) -> None:
        super().__init__(policy, action_space, outputs=outputs, layers=layers, guard=guard)
        self._rows = rows

    def choose(self, seen: Seen, observation: Mapping[str, Array]) -> Call | None:
        """Return the call that led to a step, as if it had been made for the one environment alone."""
        if not isinstance(seen, tuple):
            seen = [self._of_row(call) for call in seen or []]
        return super().choose(seen, observation)

    def _recall(self, glance: Glance) -> list[Call]:
        return [self._of_row(call) for call in super()._recall(glance)]

    def _single(self, given: Shapes) -> bool | None:
        if any(shape[:1] != (self._rows,) for shape in given.values()):
            return None
        # as if for one: the same, with a batch axis of length 1
        return single_observation({name: (1, *shape[1:]) for name, shape in given.items()}, self._expected) or None

    def _of_one(self, result: Any) -> Any:
        return self._rows_in(result)

    def _of_row(self, call: Call) -> Call:
        before = call.before
        if before is not None:
            before = Before(before.version, {name: self._row_of(one) for name, one in before.state.items()})
        return replace(
            call,
            args=self._rows_in(call.args),
            kwargs=self._rows_in(call.kwargs),
            outputs=[self._row_of(held) for held in call.outputs],
            held={name: self._row_of(one) for name, one in call.held.items()},
            before=before,
        )

    def _row_of(self, held: Held) -> Held:
        tensor, version = held
        return self._rows_in(tensor), version

    def _rows_in(self, value: Any) -> Any:
        if is_tensor(value) or hasattr(value, "__array_interface__"):
            # the state of torch.nn.LSTM has its layers in front
            axis = next((axis for axis in (0, 1) if value.shape[axis : axis + 1] == (self._rows,)), None)
            row = slice(self.row, self.row + 1)
            return value if axis is None else value[(slice(None),) * axis + (row,)]
        if isinstance(value, dict):
            return {key: self._rows_in(item) for key, item in value.items()}
        if isinstance(value, tuple | list):
            items = [self._rows_in(item) for item in value]
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
        return value
