"""The agent's policy as the explainer has it: from graph and weights to a replica."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch

from agentwrap_protocol import GraphError
from agentwrap_protocol.graph import Input
from agentwrap_protocol.messages import PolicyGraph, ProbeInfo, Weights
from agentwrap_viewer.replica import Replica

from .catalogue import Signature, kind_of
from .probed import Arrays, ProbedPolicy, same

log = logging.getLogger(__name__)

#: Vector observations remembered, from which background values are drawn.
HISTORY = 256


class Policy:
    """The replica of one stream's policy, or what asks the agent in its place, and what it saw lately.

    Attributes:
        graph: The policy's computation, or what it takes and gives where it is probed; None until it is known.
        replica: Runs it, or None until graph and weights are here.
        version: Version of the weights in the replica, or of the policy that is asked; 0 for none.
        problem: Why there is no replica, or None.
    """

    def __init__(self, device: str = "cpu") -> None:
        """Begin without a policy; ``device`` is where the replica computes."""
        self.graph: Signature | None = None
        self.replica: Replica | ProbedPolicy | None = None
        self.version = 0
        self.problem: str | None = None
        self._device = device
        self._graph_message: PolicyGraph | None = None
        self._weights: Weights | None = None
        self._told_version = 0
        self._history: dict[str, deque[np.ndarray[Any, Any]]] = {}

    def take_graph(self, message: PolicyGraph) -> None:
        """Take another graph. Weights that came before it belong to it only if it is the first."""
        if self._graph_message is not None:
            self._weights = None
        self._graph_message = message
        self._take_signature(message.graph)

    def take_probe(self, info: ProbeInfo | None) -> bool:
        """Have the agent asked for what its policy computes, or no longer; say whether that is a change."""
        now = self.graph if isinstance(self.graph, ProbeInfo) else None
        if same(now, info):
            return False
        self._take_signature(info)
        self.replica = None if info is None else ProbedPolicy(info)
        return True

    def _take_signature(self, graph: Signature | None) -> None:
        self.graph = graph
        self.replica, self.version, self.problem = None, 0, None
        self._history = {
            item.name: deque(maxlen=HISTORY)
            for item in (() if graph is None else graph.inputs)
            if item.role == "observation" and kind_of(item) == "vector"
        }

    @property
    def probed(self) -> ProbedPolicy | None:
        """What asks the agent, None where there is a replica or neither."""
        return self.replica if isinstance(self.replica, ProbedPolicy) else None

    @property
    def waiting(self) -> bool:
        """Whether nothing can be computed until the agent has answered."""
        return self.probed is not None and self.probed.waiting

    @property
    def chunk(self) -> int | None:
        """Observations to evaluate at a time, None where that is free."""
        return None if self.probed is None else self.probed.rows

    def take_weights(self, message: Weights) -> None:
        """Keep newer weights, until ``settle``."""
        self._weights = message

    def take_version(self, version: int) -> None:
        """Note which version acts, until ``settle``; of a policy that is probed nothing else says that it changed."""
        self._told_version = version

    def settle(self) -> bool:
        """Put what was received into the replica, and say whether something changed. Call it between explanations."""
        if self.probed is not None and self.version != self._told_version:
            self.version = self._told_version
            self.probed.forget()
            return True
        weights, graph = self._weights, self._graph_message
        if weights is None or graph is None:
            return False
        self._weights = None
        try:
            if not isinstance(self.replica, Replica):
                self.replica = Replica.from_messages(graph, weights, self._device)
            else:
                self.replica.load(weights.arrays)
            self.version, self.problem = weights.policy_version, None
        except Exception as error:  # a device that is full, say: the explainer lives on
            self.problem = str(error) if isinstance(error, GraphError) else f"{type(error).__name__}: {error}"
            log.warning("the policy cannot be run: %s", self.problem)
        return True

    def remember(self, arrays: Arrays) -> None:
        """Keep the vector observations of a step as background for others."""
        for item in self.graph.inputs if self.graph is not None else ():
            seen = self._history.get(item.name)
            array = arrays.get(f"input/{item.name}", arrays.get(item.array))
            if seen is not None and array is not None and array.size == prod(n for n in item.shape if n != -1):
                seen.append(np.array(array, np.float32).reshape(-1))  # a copy: not the whole message

    def forget(self) -> None:
        """Forget the vector observations of the steps before: others come before the next."""
        for seen in self._history.values():
            seen.clear()

    def outputs_of_steps(self, steps: Sequence[Arrays]) -> dict[str, np.ndarray[Any, Any]]:
        """Return what the policy computes for several steps; only where there is a replica.

        Raises:
            GraphError: A step does not have what the policy needs.
        """
        assert isinstance(self.replica, Replica)
        return self.replica.outputs_of_steps(steps)

    def inputs(self, arrays: Arrays) -> tuple[Any, dict[str, torch.Tensor]]:
        """Turn a step's arrays into an observation and the state, as ``saliency`` takes them for a graph policy.

        Raises:
            GraphError: An array is missing or has another shape.
        """
        assert self.replica is not None
        filled = self.replica.inputs_from_step(arrays)
        observed, state = {}, {}
        for item in self.replica.graph.inputs:
            if item.role == "state":
                state[item.name] = filled[item.name]
            else:
                axis = item.shape.index(-1) if -1 in item.shape else 0
                observed[self._entry(item)] = filled[item.name].select(axis, 0)
        return (observed[""] if set(observed) == {""} else observed), state

    def history(self) -> Any:
        """Return what was seen lately, for ``saliency``: an array (k, n), or a dict of such by entry; k may be 0."""
        assert self.replica is not None
        past = {
            self._entry(item): np.stack(list(self._history[item.name]))
            for item in self.replica.graph.inputs
            if self._history.get(item.name)
        }
        return past.get("") if set(past) == {""} else past

    def _entry(self, item: Input) -> str:
        """The name of an input among the entries of the observation; "" where the observation is a single array."""
        if item.array.startswith("observation/"):
            return item.array.removeprefix("observation/")
        assert self.graph is not None
        observed = [other for other in self.graph.inputs if other.role == "observation"]
        return "" if len(observed) == 1 else item.name
