"""The policy, run from its graph: what the explainer asks instead of the agent.

A graph comes from outside. Before its first operator runs it is checked as a whole (names, order, operators,
arguments), then rehearsed on tensors without data, so that shapes and sizes are known; and again for each new size of
batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from agentwrap_export.arrays import tensor_to_array
from agentwrap_protocol import graph as plain
from agentwrap_protocol.errors import GraphError
from agentwrap_protocol.graph_check import check, check_constants, check_parameters
from agentwrap_protocol.messages import PolicyGraph, Weights
from agentwrap_protocol.operators import OPERATORS

from .operators import dtype
from .program import Program, Values

Arrays = Mapping[str, np.ndarray[Any, Any]]

_META = torch.device("meta")
_MOST_REHEARSED = 1024  # sizes of batch that are remembered as checked


@dataclass(frozen=True)
class Prepared:
    """A program and what it is run with.

    Attributes:
        program: The program.
        filled: Its values before a run.
        single: Its inputs in the graph's order, with one row.
        tensors: The same with one row for each variant, but for the varied one.
        place: Which input is varied.
    """

    program: Program
    filled: Values
    single: list[torch.Tensor]
    tensors: list[torch.Tensor]
    place: int


class Replica:
    """Computes what the policy computes, for many observations at once.

    Args:
        graph: The policy's computation.
        constants: Its tensors that never change, by name.
        parameters: Its weights, by name.
        device: Where to compute, e.g. ``cpu`` or ``cuda``.

    Raises:
        GraphError: The graph, or an array, does not fit; the text names operator, node, weight or shape.
    """

    def __init__(
        self, graph: plain.Graph, constants: Arrays, parameters: Arrays, device: str | torch.device = "cpu"
    ) -> None:
        check(graph, allowed=OPERATORS.__contains__)
        check_constants(graph, constants)
        self.graph = graph
        self.device = torch.device(device)
        self._program = Program(graph, self.device)
        self._meta_program = Program(graph, _META)
        self._meta_tensors = [
            torch.empty(tensor.shape, dtype=dtype(tensor.dtype), device=_META)
            for tensor in (*graph.parameters, *graph.constants)
        ]
        self._rehearsed: set[tuple[int, tuple[torch.dtype, ...]]] = set()
        self._names = {given.name for given in graph.inputs}
        self._layouts = [_Layout.of(given, batched=graph.batched) for given in graph.inputs]
        self._constants = [self._tensor(constants[tensor.name]) for tensor in graph.constants]
        self._vectorises = True
        for rows in (1, 3):
            self._rehearse(rows, [layout.dtype for layout in self._layouts])
        self._find_floats()
        self.load(parameters)

    @classmethod
    def from_messages(cls, graph: PolicyGraph, weights: Weights, device: str | torch.device = "cpu") -> Replica:
        """Make a replica of what an agent sent.

        Raises:
            GraphError: As the constructor does.
        """
        prefix = "constant/"
        constants = {
            name.removeprefix(prefix): array for name, array in graph.arrays.items() if name.startswith(prefix)
        }
        return cls(graph.graph, constants, weights.arrays, device)

    def load(self, parameters: Arrays) -> None:
        """Take other weights. A run that is under way ends with those it began with.

        Raises:
            GraphError: A weight is missing, surplus, or of another shape or element type; the old ones stay.
        """
        check_parameters(self.graph, parameters)
        tensors = [self._tensor(parameters[tensor.name]) for tensor in self.graph.parameters]
        with torch.no_grad():
            self._filled = self._program.fill([*tensors, *self._constants])

    def __call__(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return ``run(inputs)``."""
        return self.run(inputs)

    def run(self, inputs: Mapping[str, torch.Tensor], *, grad: bool = False) -> dict[str, torch.Tensor]:
        """Compute the outputs for a batch of B observations.

        Args:
            inputs: A tensor for each of the graph's inputs, by name. Observations have the batch axis where the graph
                has it (in front, if it has none); states likewise where the graph is batched. B is the largest length
                there, a length of 1 stands for all rows. Floats may be given for observations of integers (a perturbed
                image): they stay floats wherever the policy computes with them as it does with integers.
            grad: Whether gradients with respect to the inputs can be asked for afterwards.

        Returns:
            The outputs by name, each with B in front; ``value`` has shape (B,).

        Raises:
            GraphError: An input is missing or does not fit, an operator failed, or the batch needs too much memory.
        """
        tensors, rows = self._arranged(inputs)
        self._check_size(tensors, rows)
        with torch.set_grad_enabled(grad):
            if self.graph.batched:
                outputs = self._program.run(self._filled, tensors)
            else:
                outputs = self._run_rows(tensors, rows)
        return self.named(outputs, rows)

    @property
    def takes_floats(self) -> bool:
        """Whether the policy computes with floats in the place of every observation of integers."""
        return all(layout.takes_floats or layout.dtype.is_floating_point for layout in self._layouts if layout.observed)

    def named(self, outputs: Sequence[torch.Tensor], rows: int) -> dict[str, torch.Tensor]:
        """Return the program's outputs for so many rows by name, as ``run`` does."""
        named = {output.name: tensor for output, tensor in zip(self.graph.outputs, outputs, strict=True)}
        if "value" in named and named["value"].numel() == rows:
            named["value"] = named["value"].reshape(rows)
        return named

    def state_after(self, outputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the recurrent state that a call leaves to the next, by input name, as ``run`` takes it.

        Args:
            outputs: What ``run`` returned.
        """
        return {
            given.name: outputs[given.next].movedim(0, layout.axis or 0)
            for given, layout in zip(self.graph.inputs, self._layouts, strict=True)
            if given.next is not None
        }

    def prepared(self, inputs: Mapping[str, torch.Tensor], name: str, *, rows: int) -> Prepared | None:
        """Return what is needed to run the program otherwise than on batches: one observation in so many variants.

        Args:
            inputs: As for ``run``, with a batch axis of one.
            name: The input of which there will be variants, in floats.
            rows: How many.

        Returns:
            None where the graph takes one observation at a time, or computes with that input in integers.

        Raises:
            GraphError: As ``run`` does for a batch of so many rows.
        """
        single, _ = self._arranged(inputs)
        place = next(place for place, given in enumerate(self.graph.inputs) if given.name == name)
        if not self.graph.batched or self._layouts[place].axis != 0 or not single[place].is_floating_point():
            return None
        self._check_size(single, rows)
        tensors = [
            tensor if other == place else layout.expanded(tensor, rows).contiguous()
            for other, (tensor, layout) in enumerate(zip(single, self._layouts, strict=True))
        ]
        return Prepared(self._program, self._filled, single, tensors, place)

    def inputs_from_step(self, arrays: Arrays) -> dict[str, torch.Tensor]:
        """Return the inputs for the one observation of a step, with a batch axis of length 1.

        Each input is filled by the array ``input/<its name>`` where the step has that, else by the one it names. Arrays
        may come with the batch axis (of length 1) or without.

        Raises:
            GraphError: An array is missing or has another shape; the text names it.
        """
        inputs = {}
        for given, layout in zip(self.graph.inputs, self._layouts, strict=True):
            name = f"input/{given.name}" if f"input/{given.name}" in arrays else given.array
            if name not in arrays:
                raise GraphError(f"input {given.name!r} needs array {name!r}, which the step does not have")
            tensor = self._tensor(arrays[name])
            if layout.axis is not None and tuple(tensor.shape) == layout.without_rows:
                tensor = tensor.unsqueeze(layout.axis)
            if not layout.fits(tensor.shape) or layout.rows(tensor.shape) != 1:
                shape = layout.without_rows
                raise GraphError(f"array {name!r} has shape {tuple(tensor.shape)}, input {given.name!r} takes {shape}")
            inputs[given.name] = tensor.to(layout.dtype)
        return inputs

    def outputs_of_steps(self, steps: Sequence[Arrays]) -> dict[str, np.ndarray[Any, Any]]:
        """Return what the policy computes for several steps, without perturbing anything.

        Args:
            steps: The arrays of each step, as for ``inputs_from_step``.

        Returns:
            The outputs by name, each with a row for each step.

        Raises:
            GraphError: As ``inputs_from_step`` and ``run``.
        """
        filled = [self.inputs_from_step(arrays) for arrays in steps]
        axes = {layout.name: layout.axis for layout in self._layouts}
        if all(axis is not None for axis in axes.values()):
            together = {name: torch.cat([each[name] for each in filled], dim=axis or 0) for name, axis in axes.items()}
            found = [self.run(together)] if filled else []
        else:  # a state that has no batch axis
            found = [self.run(each) for each in filled]
        return {
            output.name: tensor_to_array(torch.cat([each[output.name] for each in found]))
            for output in (self.graph.outputs if found else ())
        }

    def _tensor(self, array: np.ndarray[Any, Any]) -> torch.Tensor:
        # a copy: the array is a read-only view of what was received
        return torch.from_numpy(np.array(array)).to(self.device)

    def _arranged(self, inputs: Mapping[str, torch.Tensor]) -> tuple[list[torch.Tensor], int]:
        """The inputs in the graph's order, all with the same number of rows, and that number."""
        for name in inputs:
            if name not in self._names:
                raise GraphError(f"the policy has no input {name!r}; its inputs are {', '.join(sorted(self._names))}")
        tensors = []
        rows = 1
        for given, layout in zip(self.graph.inputs, self._layouts, strict=True):
            tensor = inputs.get(given.name)
            if tensor is None:
                raise GraphError(f"input {given.name!r} is missing")
            if not layout.fits(tensor.shape):
                shape = "(" + ", ".join("B" if length == -1 else str(length) for length in layout.shape) + ")"
                raise GraphError(f"input {given.name!r} has shape {tuple(tensor.shape)}, the policy takes {shape}")
            rows = max(rows, layout.rows(tensor.shape))
            tensors.append(layout.cast(tensor.to(self.device)))
        for place, (tensor, layout) in enumerate(zip(tensors, self._layouts, strict=True)):
            if layout.rows(tensor.shape) not in (1, rows):
                raise GraphError(f"input {layout.name!r} has {layout.rows(tensor.shape)} rows, another has {rows}")
            tensors[place] = layout.expanded(tensor, rows).contiguous()
        return tensors, rows

    def _check_size(self, tensors: Sequence[torch.Tensor], rows: int) -> None:
        """Rehearse a batch of a size or element type that was not run before."""
        dtypes = tuple(tensor.dtype for tensor in tensors)
        if (rows, dtypes) in self._rehearsed:
            return
        self._rehearse(rows, dtypes)
        if len(self._rehearsed) < _MOST_REHEARSED:
            self._rehearsed.add((rows, dtypes))

    def _rehearse(self, rows: int, dtypes: Sequence[torch.dtype]) -> None:
        batched = self.graph.batched
        inputs = [
            torch.empty(layout.with_rows(rows) if batched else given.shape, dtype=of, device=_META)
            for layout, given, of in zip(self._layouts, self.graph.inputs, dtypes, strict=True)
        ]
        with torch.no_grad():
            outputs = self._meta_program.rehearse(self._meta_tensors, inputs, rows=1 if batched else rows)
        for described, output in zip(self.graph.outputs, outputs, strict=True):
            if not isinstance(output, torch.Tensor):
                raise GraphError(f"output {described.name!r} is not a tensor")
            if batched and output.shape[:1] != (rows,):
                shape = tuple(output.shape)
                raise GraphError(f"output {described.name!r} has shape {shape} for a batch of {rows}: no batch axis")

    def _find_floats(self) -> None:
        """Find the observations of integers that the policy computes with as floats just as well."""
        for layout in self._layouts:
            if layout.observed and not layout.dtype.is_floating_point:
                layout.takes_floats = True
                try:
                    self._rehearse(1, [torch.float32 if other.takes_floats else other.dtype for other in self._layouts])
                except GraphError:
                    layout.takes_floats = False

    def _run_rows(self, tensors: Sequence[torch.Tensor], rows: int) -> list[torch.Tensor]:
        """Run a graph for one observation on each row: vectorised if all its operators can be, else one by one."""

        def one(*row: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(self._program.run(self._filled, row))

        if self._vectorises:
            axes = tuple(layout.axis for layout in self._layouts)
            try:
                with warnings.catch_warnings(
                    action="ignore"
                ):  # an operator that goes row by row inside is slow, not wrong
                    return list(torch.vmap(one, in_dims=axes)(*tensors))
            except GraphError:
                self._vectorises = False
        single = [
            one(
                *(
                    tensor if layout.axis is None else tensor[row]
                    for tensor, layout in zip(tensors, self._layouts, strict=True)
                )
            )
            for row in range(rows)
        ]
        return [torch.stack(column) for column in zip(*single, strict=True)]


@dataclass
class _Layout:
    """What the tensor of one input looks like.

    Attributes:
        name: Name of the input.
        shape: Its shape, -1 where rows lie.
        dtype: The element type that the policy was called with.
        observed: Whether it is part of the observation.
        takes_floats: Whether floats are left as they are though ``dtype`` is of integers.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    observed: bool
    takes_floats: bool = False

    @classmethod
    def of(cls, given: plain.Input, *, batched: bool) -> _Layout:
        observed = given.role == "observation"
        shape = (-1, *given.shape) if observed and not batched else given.shape
        return cls(given.name, shape, dtype(given.dtype), observed)

    @property
    def axis(self) -> int | None:
        return self.shape.index(-1) if -1 in self.shape else None

    @property
    def without_rows(self) -> tuple[int, ...]:
        return tuple(length for length in self.shape if length != -1)

    def with_rows(self, rows: int) -> tuple[int, ...]:
        return tuple(rows if length == -1 else length for length in self.shape)

    def rows(self, shape: Sequence[int]) -> int:
        return 1 if self.axis is None else shape[self.axis]

    def fits(self, shape: Sequence[int]) -> bool:
        return len(shape) == len(self.shape) and all(
            length == wanted or (wanted == -1 and length > 0) for length, wanted in zip(shape, self.shape, strict=True)
        )

    def cast(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dtype == self.dtype:
            return tensor
        if tensor.is_floating_point() and not self.dtype.is_floating_point:
            return tensor.float() if self.takes_floats else tensor.round().to(self.dtype)
        return tensor.to(self.dtype)

    def expanded(self, tensor: torch.Tensor, rows: int) -> torch.Tensor:
        return tensor if self.axis is None or tensor.shape[self.axis] == rows else tensor.expand(self.with_rows(rows))
