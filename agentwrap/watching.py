"""Sees what a policy computes inside a library's own code, which never calls the policy itself.

Like ``PolicyCapture``, but where acts begin and where outputs come out an adapter has said (``PolicyView``). Hooks keep
references, and everything else waits until a step is sent. But there are several, which would take a tenth of the time
in which a small network acts and learns: where steps come fast, they are there only for those that may be sent.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from .acting import Acting, Observation, made_of, seen_at
from .arrays import Array, copied, to_array
from .capture import CAPTURING
from .guard import Guard
from .holding import Held, Holding
from .hooks import Hook, HookSwitch, device_of, find_layers
from .misfits import NEVER_PREPARED
from .policy import PolicyView, Watch

#: Most rows of a call that may be an act: of as many environments, one of which is ours.
MOST_ROWS = 64

#: Newest acts kept until the environment's next step.
MOST_ACTS = 8

#: Seconds for a step from which on hooks may stay where they are: they take some 40 µs.
SLOW = 0.0025


#: Steps of which none may have been acted on with the environment's observation, until that is a sign.
PATIENCE = 100


@dataclass(slots=True)
class Act:
    """One act of a policy, perhaps for several environments at once.

    Attributes:
        given: What the entry was called with.
        seen: What was seen, by array name.
        rows: How many rows the entry was called with.
        row: Which row is this environment's; known once the act was chosen.
        alone: Whether it was one observation without a batch axis.
        args: The environment's observation with a batch axis, and the state that entered, for the exported module;
            likewise.
        names: Names of the outputs of the exported module.
        kept: Earlier observations that entered it, by name, with a batch axis of one; likewise.
        kwargs: None for that module.
        batched: It always takes a batch.
    """

    given: Any
    names: tuple[str, ...]
    seen: dict[str, Held] = field(default_factory=dict)
    rows: int = 1
    row: int = 0
    alone: bool = False
    args: tuple[Any, ...] = ()
    kept: dict[str, torch.Tensor] = field(default_factory=dict)
    kwargs: dict[str, Any] = field(default_factory=dict)
    batched: bool = True


class WatchCapture:
    """Captures a policy's acts through the places that an adapter names, until the environment's next step.

    Args:
        view: The policy, with ``watch``.
        layers: Submodules of the agent whose outputs are captured too, as ``layer/<name>``.
        guard: Told of what goes wrong; nothing is raised in the policy's forward pass.
        rows: Observations that the policy is called with at once, where that is known.

    Attributes:
        row: Which of them is the environment's, for libraries that have an order of them: statistics and earlier
            observations are those of this row. It is found by what it was given, for there may be another order.
        glances: Whether acts are seen while it is not looked closely: where steps are slow.

    Raises:
        UnknownLayerError: The agent has no submodule of a name that is given here or in the view.
    """

    def __init__(
        self, view: PolicyView, *, layers: Sequence[str] = (), guard: Guard | None = None, rows: int | None = None
    ) -> None:
        self.row, self._most_rows = 0, rows or MOST_ROWS
        self.glances = False
        self._acting, self._agent, self._guard = cast(Acting, view.module), view.agent, guard or Guard()
        self._refresh, self._mask, self._learns, self._kept = view.refresh, view.mask, view.learns, dict(view.kept)
        self._row_told = view.row
        self._prepares = view.before is not None
        self._can_change = self._prepares or bool(self._kept) or self._refresh is not None
        self._as_it_is = False  # the library makes nothing else of an observation
        self._watch = dict(view.watch or {})
        self._names = tuple(self._watch)
        self._head = f"output/{self._names[0]}"
        # by what the arrays of a step are called
        self._places = {f"output/{name}": watch for name, watch in self._watch.items() if watch.of != "act"}
        self._places.update((f"input/state/{name}", each.enters) for name, each in view.state.items())
        self._places.update((f"layer/{name}", Watch(name)) for name in find_layers(view.agent, layers))
        self._state = {name: f"input/state/{name}" for name in view.state}
        self._ranks = {f"input/state/{name}": len(each.shape) for name, each in view.state.items()}
        self._entry = view.agent.get_submodule(view.entry)
        within = set(self._entry.modules())
        seen = [each for each in self._watch.values() if each.of != "act"]
        self._all_within = all(view.agent.get_submodule(each.module) in within for each in seen)
        self._acts: deque[Act] = deque(maxlen=MOST_ACTS)
        self._open: Act | None = None
        self._switches: list[HookSwitch] = []
        self._holding = Holding()
        self._shapes: set[tuple[int, ...]] = set()
        self._returned: set[tuple[int, ...]] = set()  # shapes as the environment has them
        self._closely = False
        self._steps, self._since = 0, 0.0  # since it was last looked closely
        self._unlike = 0

    @property
    def problem(self) -> str | None:
        """Why nothing of the policy's acts can be shown, for people; None where nothing stands in the way."""
        return self._guard.reason(CAPTURING)

    @property
    def attached(self) -> bool:
        """Whether hooks are on the policy."""
        return bool(self._switches)

    @property
    def closely(self) -> bool:
        """Whether all there is to see of the next act is seen."""
        return self._closely

    def attach(self) -> None:
        """Put hooks on the policy, and look closely."""
        if not self._switches:
            self._switches = self._make_switches()
            self._closely = self.glances = True
            self._steps, self._since = 0, time.perf_counter()
        self.look_closely(True)

    def _make_switches(self) -> list[HookSwitch]:
        switches = [HookSwitch(self._entry, Hook(self._begin), before=True)]
        for name, place in self._places.items():
            switches.append(HookSwitch(self._agent.get_submodule(place.module), Hook(self._see, name, place)))
        if self._all_within:  # then what these modules do elsewhere, in learning, is no act
            switches.append(HookSwitch(self._entry, Hook(self._close)))
        return switches

    def look_closely(self, closely: bool) -> None:
        """See what there is to see of the next acts, or no more than costs nothing."""
        if not self._switches or closely is self._closely:
            return
        self._closely = closely
        if not closely:
            now = time.perf_counter()
            self.glances = now - self._since >= SLOW * self._steps
            self._steps, self._since = 0, now
        if not self.glances:
            self._switch(on=closely)

    def _switch(self, *, on: bool) -> None:
        for each in self._switches:
            (each.put_on if on else each.take_off)()

    def detach(self) -> None:
        """Take all our hooks off, and forget what was captured."""
        self._switch(on=False)
        self._switches, self._closely = [], False
        self.take()

    def expect(self, observation: Any) -> None:
        """Tell what the environment's observations look like: some libraries act on one without a batch axis."""
        returned = _shapes(observation)
        if returned != self._returned:
            arrays = copied("observation", observation)[0] if self._prepares else {}
            prepared = self._acting.prepare(as_batch(arrays, self._agent)) if arrays else None
            self._returned = returned
            self._shapes = returned if prepared is None else {shape[1:] for shape in _shapes(prepared)}

    def take(self) -> Sequence[Act] | None:
        """Return what was seen of the policy's acts since the last time, for ``choose``."""
        self._open = None
        self._steps += 1
        if not self._acts:
            return None
        acts = list(self._acts)
        self._acts.clear()
        return acts

    def choose(self, seen: Sequence[Act] | None, observation: Mapping[str, Array]) -> Act | None:
        """Return the newest act on this very observation, as the library prepares it; None where there is none.

        Args:
            seen: What was seen since the step before, from ``take``.
            observation: The environment's observation, by array name.
        """
        acts = [act for act in seen or () if self._head in act.seen]
        if not acts:
            return None
        given = as_batch(observation, self._agent)
        for act in reversed(acts):
            if not self._bring_up_to(act):
                continue
            row = self._find_row(act, given)
            if row is not None:
                act.row, self._unlike = row, -1
                return self._with_arguments(act, given)
        if self._unlike >= 0:  # else it has been called with the environment's own: these were others'
            self._unlike += 1
        return None

    def _find_row(self, act: Act, given: Observation) -> int | None:
        """Return which row of an act is this observation; None where none is."""
        seen = _batched(act.given) if act.alone else act.given
        if self._as_it_is and _is_row(seen, given, self.row):
            return self.row
        expected = self._acting.prepare(given, act.kept)  # runs the library's code, which takes long
        self._as_it_is = not self._can_change and _is_row(expected, given, 0)
        return _row(seen, expected)

    def _bring_up_to(self, act: Act) -> bool:
        """Take over what the library's preparation held at an act; False where that is not known."""
        told = None if self._row_told is None else self._row_told()
        own = self.row if told is None else told
        if self._refresh is not None:
            self._refresh(act.given, own)
        for name, each in self._kept.items():
            found = each.read(act.given)
            if found is None:
                return False
            rows = found if found.dim() == len(each.shape) else found[None]
            row = min(own, len(rows) - 1)
            kept = rows[row : row + 1].detach().float().clone()  # libraries reuse their buffers
            act.kept[name] = kept.to(device_of(self._agent))
        return True

    def _with_arguments(self, act: Act, given: Observation) -> Act | None:
        """Say what the exported module is called with for an act; None where its state is no longer what it was."""
        act.args = (given,)
        state = dict(act.kept)
        if self._state:
            entered = {name: array for name, array in self._state.items() if array in act.seen}
            changed = [array for array in entered.values() if not self._holding.is_whole(array, act.seen[array])]
            if changed or not entered:
                return None
            state = {**{name: self._row_of(act, array) for name, array in entered.items()}, **state}
        if state:
            act.args = (given, state)
            act.names = (*self._acting.watched(state), *(f"state/{name}" for name in state))
        return act

    def _row_of(self, act: Act, name: str) -> torch.Tensor:
        """Return this environment's part of what was seen, with a batch axis of one."""
        tensor, place = act.seen[name][0], self._places.get(name)
        axis = 0 if place is None else place.axis
        if act.alone:  # a memory is given a batch axis all the same
            batched = tensor.dim() == self._ranks.get(name)
        else:  # and what comes after a memory may be without one again
            batched = tensor.shape[axis : axis + 1] == (act.rows,)
        return tensor.narrow(axis, act.row, 1) if batched else tensor[None]

    def arrays(self, act: Act) -> dict[str, Array]:
        """Return what a chosen act computed and the state that entered it, as a step message holds them.

        Returns:
            ``output/<name>``, ``layer/<name>`` and ``input/state/<name>``; ``action_mask`` where options were masked.
        """
        found: dict[str, Array] = {}
        with torch.no_grad():
            for name, held in act.seen.items():
                if not self._holding.is_whole(name, held):
                    continue
                row, place = self._row_of(act, name), self._places.get(name)
                if not name.startswith("input/"):
                    row = (row if place is None else made_of(place, self._agent, row))[0]
                array = to_array(row)
                if array is not None:
                    scalar = name == "output/value" and array.size == 1
                    found[name] = array.reshape(()) if scalar else np.atleast_1d(array)
            for name, tensor in act.kept.items():
                array = to_array(tensor)
                if array is not None:
                    found[f"input/state/{name}"] = array
            if self._mask is not None and self._head in found:
                mask = self._mask(self._agent, act.seen[self._head][0])
                if mask is not None:
                    found["action_mask"] = mask[act.row].cpu().numpy()
        return found

    @property
    def misfit(self) -> str | None:
        """What speaks for it that observations are changed on their way to the policy, for people."""
        return NEVER_PREPARED if self._unlike >= PATIENCE else None

    # Hooks. What they return would replace the policy's result, so they return nothing.

    def _begin(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._open = None
        given = args[0] if args else None
        first = next(iter(given.values()), None) if isinstance(given, dict) else given
        if not isinstance(first, torch.Tensor) or not first.dim():
            return
        if tuple(first.shape) in self._shapes:
            self._open = Act(given, self._names, alone=True)
            self._acts.append(self._open)
            return
        rows = first.shape[0]
        learning = self._learns and torch.is_grad_enabled()
        if rows == 1 or (rows <= self._most_rows and not learning):  # others are minibatches
            self._open = Act(given, self._names, rows=rows)
            self._acts.append(self._open)

    def _see(self, name: str, place: Watch, module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        act = self._open
        if act is None or name in act.seen:  # again without a new act: that is learning
            return
        tensor = seen_at(place, args, result)
        if tensor is not None:
            act.seen[name] = self._holding.hold(name, tensor)

    def _close(self, module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        self._open = None


def as_batch(observation: Mapping[str, Array], agent: nn.Module) -> Observation:
    """Return an observation of the environment, by array name, as an agent takes it: batch first, on its device."""
    device = device_of(agent)
    tensors = {name: torch.as_tensor(array, device=device)[None] for name, array in observation.items()}
    if "observation" in tensors:
        return tensors["observation"]
    start = "observation/"
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def _shapes(observation: Any) -> set[tuple[int, ...]]:
    parts = observation.values() if isinstance(observation, Mapping) else (observation,)
    return {tuple(getattr(part, "shape", ())) for part in parts}


def _batched(given: Any) -> Any:
    return {key: part[None] for key, part in given.items()} if isinstance(given, dict) else given[None]


def _is_row(batch: Any, observation: Any, row: int) -> bool:
    """Whether a row of a batch is this very observation, which has a batch axis of one; NaN equals nothing."""
    if isinstance(observation, dict):
        same = isinstance(batch, dict) and batch.keys() == observation.keys()
        return same and all(_is_row(batch[key], part, row) for key, part in observation.items())
    one = batch[row : row + 1]
    return one.dtype == observation.dtype and one.device == observation.device and torch.equal(one, observation)


def _row(given: Any, expected: Any) -> int | None:
    """Return which row of a batch is the expected observation; None where none is."""
    if isinstance(expected, dict):
        if not isinstance(given, dict) or given.keys() != expected.keys():
            return None
        pairs = [(given[key], expected[key]) for key in expected]
    else:
        pairs = [(given, expected)]
    rows: torch.Tensor | None = None
    for one, other in pairs:
        if one.shape[1:] != other.shape[1:]:
            return None
        same = _same_rows(one, other)
        rows = same if rows is None else rows & same
    found = None if rows is None else rows.nonzero()
    return int(found[0]) if found is not None and len(found) else None


def _same_rows(given: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Which rows of a batch are like a single one, but for rounding."""
    expected = expected.to(given)
    close = torch.isclose(given, expected, rtol=1e-5, atol=1e-6, equal_nan=True)
    return close.reshape(given.shape[0], -1).all(dim=1)
