"""A policy graph compiled to steps on numbered slots, and the rehearsal that bounds what the steps will take."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from agentwrap_protocol import graph as plain
from agentwrap_protocol.errors import GraphError

from .operators import dtype, operator, word

#: Most elements of one tensor, and most bytes of all that are held at one moment, for whichever batch is run.
MAX_ELEMENTS, MAX_BYTES = 2**28, 2**33

#: What slots hold, by number: tensors, lengths, literals.
Values = list[Any]

_LATER = object()  # stands in a slot for a value that is not known yet


@dataclass(frozen=True, slots=True)
class Step:
    """One call: ``values[out] = call(*(values[slot] for slot in slots))``; then what is ``dead`` is let go."""

    call: Callable[..., Any]
    slots: tuple[int, ...]
    out: int
    node: plain.Node
    guard: Callable[..., None] | None = None
    dead: tuple[int, ...] = ()


class Program:
    """The steps of a graph for one device.

    Steps that depend on no input (a transposed weight, a normalised one) run once for each set of weights, in ``fill``;
    the others at each ``run``.

    Attributes:
        inputs: Slots of the graph's inputs, in its order.
        outputs: Slots of its outputs.
        steps: What is done at each run.

    Args:
        graph: A graph that has passed the protocol's check.
        device: Where its tensors are.

    Raises:
        GraphError: An operator is not allowed, or its arguments do not fit; the text names the node.
    """

    def __init__(self, graph: plain.Graph, device: torch.device) -> None:
        self._device = device
        self._values: Values = []
        self._slots: dict[str, int] = {}
        self._tensors = [self._named(tensor.name) for tensor in (*graph.parameters, *graph.constants)]
        self.inputs = tuple(self._named(given.name) for given in graph.inputs)
        steps: list[Step] = []
        for node in graph.nodes:
            try:
                self._compile(node, steps)
            except GraphError as error:
                raise GraphError(f"node {node.name!r}: {node.op}: {error}") from None
        self.outputs = tuple(self._slots[output.value.name] for output in graph.outputs)
        self._fill_steps, self.steps = self._split(steps)

    def fill(self, tensors: Sequence[torch.Tensor]) -> Values:
        """Return the values before a run: parameters and constants in the graph's order, and what follows from them.

        Raises:
            GraphError: A step failed; the text names the node and the reason.
        """
        values = self._placed(list(self._values), self._tensors, tensors)
        _execute(self._fill_steps, values)
        return values

    def run(self, filled: Values, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return the outputs for these inputs, both in the graph's order. ``filled`` stays as it is.

        Raises:
            GraphError: A step failed; the text names the node and the reason.
        """
        values = self._placed(list(filled), self.inputs, inputs)
        _execute(self.steps, values)
        return [values[slot] for slot in self.outputs]

    def trace(self, filled: Values, inputs: Sequence[torch.Tensor], *, keep: Collection[int] | None = None) -> Values:
        """Run as ``run`` does and return the values in between too: all of them, or those in the slots ``keep``.

        Raises:
            GraphError: A step failed; the text names the node and the reason.
        """
        values = self._placed(list(filled), self.inputs, inputs)
        _execute(self.steps, values, kept=range(len(values)) if keep is None else frozenset(keep))
        return values

    def rehearse(self, tensors: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor], *, rows: int = 1) -> list[Any]:
        """Fill and run with every argument guarded and every result bounded; meant for tensors on device ``meta``.

        Args:
            tensors: Parameters and constants, in the graph's order.
            inputs: Inputs, in the graph's order.
            rows: How many such runs there will be at once.

        Returns:
            The outputs.

        Raises:
            GraphError: A step fails, or takes more than the bounds; the text names the node.
        """
        values = self._placed(list(self._values), [*self._tensors, *self.inputs], [*tensors, *inputs])
        held = sum(map(_size, tensors)) + sum(map(_size, inputs))
        for step in (*self._fill_steps, *self.steps):
            _rehearse(step, values)
            for tensor in _tensors(values[step.out]):
                if tensor.numel() * rows > MAX_ELEMENTS:
                    shape = tuple(tensor.shape)
                    raise _failure(step, f"gives a tensor of shape {shape}, more than {MAX_ELEMENTS} elements in all")
            held += _size(values[step.out])
            if held * rows > MAX_BYTES:
                raise _failure(step, f"{held * rows} bytes would be held at once, more than {MAX_BYTES}")
            for slot in step.dead:
                held -= _size(values[slot])
                values[slot] = None
        return [values[slot] for slot in self.outputs]

    @staticmethod
    def _placed(values: Values, slots: Sequence[int], tensors: Sequence[torch.Tensor]) -> Values:
        for slot, tensor in zip(slots, tensors, strict=True):
            values[slot] = tensor
        return values

    def _new(self, value: Any) -> int:
        self._values.append(value)
        return len(self._values) - 1

    def _named(self, name: str) -> int:
        slot = self._slots[name] = self._new(_LATER)
        return slot

    def _compile(self, node: plain.Node, steps: list[Step]) -> None:
        found = operator(node.op)
        found.check_arguments(node.args, node.kwargs)
        slots = [self._argument(argument, node, steps) for argument in node.args]
        keywords = {name: self._argument(argument, node, steps) for name, argument in node.kwargs.items()}
        if found.makes_tensor and "device" not in keywords:
            keywords["device"] = self._new(self._device)
        call = found.call
        later = {name: slot for name, slot in keywords.items() if self._values[slot] is _LATER}
        fixed = {name: self._values[slot] for name, slot in keywords.items() if name not in later}
        if later:
            call = partial(_call_with_keywords, call, tuple(later))
            slots.extend(later.values())
        if fixed:
            call = partial(call, **fixed)
        guard = partial(found.guard, **fixed) if found.guard else None
        steps.append(Step(call, tuple(slots), self._named(node.name), node, guard))

    def _argument(self, argument: plain.Argument, node: plain.Node, steps: list[Step]) -> int:
        """The slot that holds an argument: that of a value, or a new one for a literal."""
        match argument:
            case plain.Ref():
                return self._slots[argument.name]
            case plain.Dtype():
                return self._new(dtype(argument.name))
            case plain.Enum():
                return self._new(word(argument, self._device))
            case plain.Number():
                return self._new(argument.value)
            case plain.List():
                slots = tuple(self._argument(item, node, steps) for item in argument.items)
                if all(self._values[slot] is not _LATER for slot in slots):
                    return self._new([self._values[slot] for slot in slots])
                steps.append(Step(_to_list, slots, self._new(_LATER), node))
                return steps[-1].out
        return self._new(argument)

    def _split(self, steps: Sequence[Step]) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
        """Steps that no input matters to, and the others; each lets go of what is not used after it."""
        varying = set(self.inputs)
        for step in steps:
            if varying.intersection(step.slots):
                varying.add(step.out)
        first = [step for step in steps if step.out not in varying]
        ordered = first + [step for step in steps if step.out in varying]
        last_use = {step.out: index for index, step in enumerate(ordered)}
        for index, step in enumerate(ordered):
            last_use.update((slot, index) for slot in step.slots if slot in last_use)
        dead: list[list[int]] = [[] for _ in ordered]
        for slot, index in last_use.items():
            kept_for_later_runs = slot not in varying and index >= len(first)
            if slot not in self.outputs and not kept_for_later_runs:
                dead[index].append(slot)
        ordered = [replace(step, dead=tuple(slots)) for step, slots in zip(ordered, dead, strict=True)]
        return tuple(ordered[: len(first)]), tuple(ordered[len(first) :])


def _execute(steps: Sequence[Step], values: Values, *, kept: Collection[int] = ()) -> None:
    step = None
    try:
        for step in steps:
            values[step.out] = step.call(*[values[slot] for slot in step.slots])
            for slot in step.dead:
                if slot not in kept:
                    values[slot] = None
    except Exception as error:
        assert step is not None
        raise _failure(step, _reason(error)) from error


def _rehearse(step: Step, values: Values) -> None:
    arguments = [values[slot] for slot in step.slots]
    try:
        if step.guard is not None:
            step.guard(*arguments)
        values[step.out] = step.call(*arguments)
    except Exception as error:
        raise _failure(step, _reason(error)) from error


def _failure(step: Step, reason: str) -> GraphError:
    return GraphError(f"node {step.node.name!r}: {step.node.op}: {reason}")


def _reason(error: Exception) -> str:
    """The first line of what PyTorch says, which often goes on with its own stack."""
    return str(error).strip().split("\n")[0][:500] or type(error).__name__


def _call_with_keywords(call: Callable[..., Any], names: tuple[str, ...], *arguments: Any, **fixed: Any) -> Any:
    """Call with the last arguments as keywords."""
    split = len(arguments) - len(names)
    return call(*arguments[:split], **dict(zip(names, arguments[split:], strict=True)), **fixed)


def _to_list(*items: Any) -> list[Any]:
    return list(items)


def _tensors(value: Any) -> list[torch.Tensor]:
    values = value if isinstance(value, tuple | list) else (value,)
    return [item for item in values if isinstance(item, torch.Tensor)]


def _size(value: Any) -> int:
    """Bytes of a result, views counted as if they were not."""
    return sum(tensor.numel() * tensor.element_size() for tensor in _tensors(value))
