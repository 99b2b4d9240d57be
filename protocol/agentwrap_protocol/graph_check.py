"""Checks on a policy graph that its types alone do not make (SPEC section 6).

Whoever receives a graph calls ``check`` before anything else, and ``check_constants`` and ``check_parameters`` before
the arrays are used; whoever makes one calls them too, so that a fault is found where it arose. A graph that passes
refers only to what exists, runs in its own order, names operators that are allowed, and has tensors that fit and are
bounded. Whether an operator accepts its arguments shows only when it runs.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from .codec import DEFAULT_LIMITS, DTYPES
from .errors import GraphError
from .graph import Argument, Graph, GraphShape, Input, List, Node, Ref, Tensor

#: Element types that parameters and constants may have, and the bytes each takes.
ITEM_SIZES = {np.dtype(dtype).name: np.dtype(dtype).itemsize for dtype in sorted(DTYPES)}

#: Most nodes, and most parameters and constants, each.
MAX_NODES, MAX_TENSORS = 65_536, 16_384

#: How deep lists in arguments may nest.
MAX_DEPTH = 8

_OPERATOR = re.compile(r"[a-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+){0,3}")
_INPUT_ARRAY = re.compile(r"observation(/.+)?|input/.+", re.DOTALL)


def check(graph: Graph, *, allowed: Callable[[str], bool] | None = None) -> None:
    """Check that a graph is whole.

    Args:
        graph: The graph.
        allowed: Tells whether an operator, by its name, may run; None leaves that to a later check.

    Raises:
        GraphError: The text names the node, input, weight or operator at fault.
    """
    _check_counts(graph)
    for input_ in graph.inputs:
        _check_input(input_, graph.batched)
    if graph.batched and not any(-1 in input_.shape for input_ in graph.inputs):
        raise GraphError("the graph is batched, but no input has a batch axis (-1)")
    _check_tensors("parameter", graph.parameters)
    _check_tensors("constant", graph.constants)
    _check_names(graph)
    _check_nodes(graph, allowed)
    _check_outputs(graph)


def check_parameters(graph: Graph, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Check that ``arrays`` holds exactly the graph's parameters, by name, each with its shape and element type.

    Raises:
        GraphError: The text names the parameter that is missing, surplus, or of another shape or type.
    """
    _check_arrays("parameter", graph.parameters, arrays)


def check_constants(graph: Graph, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Check the graph's constants as ``check_parameters`` does its parameters; by name, without ``constant/``.

    Raises:
        GraphError: As there.
    """
    _check_arrays("constant", graph.constants, arrays)


def _check_counts(graph: Graph) -> None:
    for what, count, most in (
        ("nodes", len(graph.nodes), MAX_NODES),
        ("parameters", len(graph.parameters), MAX_TENSORS),
        ("constants", len(graph.constants), MAX_TENSORS),
    ):
        if count > most:
            raise GraphError(f"{count} {what}, at most {most} are accepted")
    if not graph.inputs:
        raise GraphError("the graph has no input")
    if not graph.outputs:
        raise GraphError("the graph has no output")


def _check_input(input_: Input, batched: bool) -> None:
    if not _INPUT_ARRAY.fullmatch(input_.array):
        raise GraphError(
            f"input {input_.name!r}: filled by array {input_.array!r}, which is none of "
            "observation, observation/<key>, input/<name>"
        )
    if input_.dtype not in ITEM_SIZES and input_.dtype != "bfloat16":
        raise GraphError(f"input {input_.name!r}: {input_.dtype!r} is not an element type")
    if input_.shape.count(-1) > (1 if batched else 0):
        raise GraphError(f"input {input_.name!r}: shape {input_.shape} has {_batch_fault(batched)}")


def _batch_fault(batched: bool) -> str:
    return "more than one batch axis (-1)" if batched else "a batch axis (-1), but the graph is not batched"


def _check_tensors(what: str, tensors: Iterable[Tensor]) -> None:
    total = 0
    for tensor in tensors:
        if tensor.dtype not in ITEM_SIZES:
            raise GraphError(
                f"{what} {tensor.name!r}: element type {tensor.dtype!r} does not travel; "
                f"those that do are {', '.join(ITEM_SIZES)}"
            )
        if -1 in tensor.shape:
            raise GraphError(f"{what} {tensor.name!r}: shape {tensor.shape} has a batch axis (-1)")
        total += _check_bytes(f"{what} {tensor.name!r}", tensor.shape, tensor.dtype)
    if total > DEFAULT_LIMITS.total:
        raise GraphError(f"{what}s of {total} bytes together, at most {DEFAULT_LIMITS.total} are accepted")


def _check_bytes(what: str, shape: GraphShape, dtype: str) -> int:
    size = math.prod(length or 1 for length in shape) * ITEM_SIZES[dtype]
    if size > DEFAULT_LIMITS.array:
        raise GraphError(f"{what}: {dtype} {shape} takes {size} bytes, at most {DEFAULT_LIMITS.array} are accepted")
    return size


def _check_names(graph: Graph) -> None:
    """Inputs, parameters, constants and nodes share one space of names."""
    for name, count in Counter([*_given(graph), *(node.name for node in graph.nodes)]).items():
        if count > 1:
            raise GraphError(f"{count} inputs, parameters, constants or nodes are named {name!r}")


def _given(graph: Graph) -> list[str]:
    """Names of what is there before the first node runs."""
    tensors = (*graph.parameters, *graph.constants)
    return [*(input_.name for input_ in graph.inputs), *(tensor.name for tensor in tensors)]


def _check_nodes(graph: Graph, allowed: Callable[[str], bool] | None) -> None:
    every = {node.name for node in graph.nodes}
    known = set(_given(graph))
    for node in graph.nodes:
        if not _OPERATOR.fullmatch(node.op):
            raise GraphError(f"node {node.name!r}: {node.op!r} is not the name of an operator")
        if allowed is not None and not allowed(node.op):
            raise GraphError(f"node {node.name!r}: operator {node.op!r} is not allowed")
        for ref in _refs(node):
            if ref.name not in known:
                fault = "does not come before it: a cycle, or a wrong order" if ref.name in every else "does not exist"
                raise GraphError(f"node {node.name!r}: refers to {ref.name!r}, which {fault}")
        known.add(node.name)


def _refs(node: Node) -> Iterator[Ref]:
    """Everything that a node refers to."""
    arguments: list[tuple[Argument, int]] = [(argument, 0) for argument in (*node.args, *node.kwargs.values())]
    while arguments:
        argument, depth = arguments.pop()
        if isinstance(argument, Ref):
            yield argument
        elif isinstance(argument, List):
            if depth == MAX_DEPTH:
                raise GraphError(f"node {node.name!r}: lists nest more than {MAX_DEPTH} deep")
            arguments.extend((item, depth + 1) for item in argument.items)


def _check_outputs(graph: Graph) -> None:
    known = {*_given(graph), *(node.name for node in graph.nodes)}
    names = Counter(output.name for output in graph.outputs)
    for output in graph.outputs:
        if names[output.name] > 1:
            raise GraphError(f"{names[output.name]} outputs are named {output.name!r}")
        if output.value.name not in known:
            raise GraphError(f"output {output.name!r}: refers to {output.value.name!r}, which does not exist")
    for input_ in graph.inputs:
        _check_next(input_, names)


def _check_next(input_: Input, outputs: Container[str]) -> None:
    if input_.next is None:
        return
    if input_.role != "state" or -1 not in input_.shape:
        raise GraphError(f"input {input_.name!r}: has a next value, but is no state with a batch axis (-1)")
    if input_.next not in outputs:
        raise GraphError(f"input {input_.name!r}: its next value is output {input_.next!r}, which does not exist")


def _check_arrays(what: str, tensors: Iterable[Tensor], arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    wanted = {tensor.name: tensor for tensor in tensors}
    for name, tensor in wanted.items():
        array = arrays.get(name)
        if array is None:
            raise GraphError(f"{what} {name!r} is missing")
        if tuple(array.shape) != tuple(tensor.shape):
            raise GraphError(f"{what} {name!r}: shape {tuple(array.shape)}, the graph has {tuple(tensor.shape)}")
        if array.dtype.name != tensor.dtype:
            raise GraphError(f"{what} {name!r}: element type {array.dtype.name}, the graph has {tensor.dtype}")
    for name in arrays:
        if name not in wanted:
            raise GraphError(f"{what} {name!r} is none of the graph's")
