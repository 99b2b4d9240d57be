"""A module's replica: exported when first needed, kept while the module lives, given weights whenever they change."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

import torch

from agentwrap_export.export import ExportedPolicy, export_policy, own_tensors
from agentwrap_export.inputs import call_inputs
from agentwrap_export.pytree import leaves_with_paths
from agentwrap_export.weights import WeightsWatch
from agentwrap_protocol.errors import GraphError
from agentwrap_viewer.replica import Replica

from .errors import NotIncremental

#: Replicas of one module: one for each layout of what it is called with, the least recently used go first.
MOST_REPLICAS = 8

#: Exports of one layout after which a module is left to itself: it changes in other ways than by its weights.
MOST_EXPORTS = 4

#: Whether a replica, called with the state by input name, computes what the module computes.
Check = Callable[[Replica, dict[str, torch.Tensor]], bool]


def replica_of(module: torch.nn.Module, arguments: Sequence[Any], names: Sequence[str], same: Check) -> Replica:
    """Return a replica that computes what the module computes now.

    Args:
        module: The policy. Neither its mode nor anything else of it changes.
        arguments: Positional arguments of a call with a batch axis of one, the observation first, then state.
        names: Names of what this call returns.
        same: Says whether a replica, called with this state by input name, computes what the module does.

    Raises:
        NotIncremental: There is none.
    """
    described = call_inputs(module, arguments, {})
    state = {given.name: given.tensor for given in described if given.role == "state"}
    key = tuple((given.name, given.tensor.dtype, tuple(given.tensor.shape)) for given in described)
    with _LOCK:
        kept = _KEPT.setdefault(module, OrderedDict())
        copy = kept.setdefault((*key, *names), _Copy())
        kept.move_to_end((*key, *names))
        while len(kept) > MOST_REPLICAS:
            kept.popitem(last=False)
        return copy.current(module, arguments, names, lambda replica: same(replica, state))


class _Copy:
    """The replica of a module for one layout of arguments, or why there is none."""

    def __init__(self) -> None:
        self._problem: str | None = None
        self._exports = 0
        self._exported: ExportedPolicy | None = None
        self._replica: Replica | None = None
        self._weights = WeightsWatch({})
        self._live: dict[str, torch.Tensor] = {}

    def current(
        self, module: torch.nn.Module, arguments: Sequence[Any], names: Sequence[str], same: Callable[[Replica], bool]
    ) -> Replica:
        if self._problem is not None:
            raise NotIncremental(self._problem)
        if self._replica is not None and self._follow(module) and same(self._replica):
            return self._replica
        if self._replica is not None and self._follow(module, anew=True) and same(self._replica):
            return self._replica  # written past what tells of changes, through .data
        replica = self._export(module, arguments, names)
        if not same(replica):
            self._fail("its exported computation gives something else: is it the same function at every call?")
        return replica

    def _follow(self, module: torch.nn.Module, *, anew: bool = False) -> bool:
        """Load the module's weights as they are now, if they have changed; whether they still fit."""
        assert self._exported is not None and self._replica is not None
        tensors = own_tensors(module)
        if not tensors.keys() >= set(self._exported.sources.values()):
            return False
        live = {name: tensors[source] for name, source in self._exported.sources.items()}
        if anew or any(self._live.get(name) is not tensor for name, tensor in live.items()):
            self._live, self._weights = live, WeightsWatch(live)
        if self._weights.changed():
            try:
                self._replica.load(self._weights.snapshot())
            except GraphError:  # of another shape than they were
                return False
        return True

    def _export(self, module: torch.nn.Module, arguments: Sequence[Any], names: Sequence[str]) -> Replica:
        self._exports += 1
        if self._exports > MOST_EXPORTS:
            self._fail("it changes from call to call in other ways than by its weights")
        try:
            exported = export_policy(module, tuple(arguments), {}, output_names=names, batched=True)
        except Exception as error:  # whatever a module does that a tracer cannot follow
            self._fail(str(error).strip().split("\n")[0])
        if not exported.graph.batched:
            self._fail("it takes one observation at a time")
        self._exported, self._live = exported, exported.parameters
        self._weights = WeightsWatch(self._live)
        try:
            weights = self._weights.snapshot()
            self._replica = Replica(exported.graph, exported.constants, weights, _device_of(arguments))
        except GraphError as error:
            self._fail(str(error))
        return self._replica

    def _fail(self, problem: str) -> NoReturn:
        self._problem, self._exported, self._replica = problem, None, None
        raise NotIncremental(problem)


def _device_of(arguments: Sequence[Any]) -> torch.device:
    return next(leaf.device for _, leaf in leaves_with_paths(tuple(arguments)) if isinstance(leaf, torch.Tensor))


_KEPT: WeakKeyDictionary[torch.nn.Module, OrderedDict[tuple[Any, ...], _Copy]] = WeakKeyDictionary()
_LOCK = threading.RLock()
