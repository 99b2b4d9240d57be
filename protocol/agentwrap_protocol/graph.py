"""A policy's computation as plain data (SPEC section 6).

A graph is a list of nodes in the order of execution. Each applies one operator to constants, graph inputs, parameters
and the results of earlier nodes: there is nothing to evaluate and no code. Whoever runs a graph decides which
operators it allows.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .spaces import Name

#: Axis lengths; -1 is the batch axis, whose length is free.
GraphShape = Annotated[tuple[Annotated[int, Meta(ge=-1, le=2**31)], ...], Meta(max_length=16)]
NodeName = Annotated[str, Meta(max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_./]*\Z")]


class Ref(msgspec.Struct, frozen=True, tag_field="t", tag="ref"):
    """The value of an input, parameter, constant or earlier node."""

    name: NodeName


class Dtype(msgspec.Struct, frozen=True, tag_field="t", tag="dtype"):
    """An element type, e.g. ``float32``."""

    name: Name


class Enum(msgspec.Struct, frozen=True, tag_field="t", tag="enum"):
    """A named constant.

    A memory format (``contiguous_format``), a layout (``strided``) or ``device``: the device that runs the graph.
    """

    kind: Literal["memory_format", "layout", "device"]
    name: Name


class Number(msgspec.Struct, frozen=True, tag_field="t", tag="number"):
    """A float that plain data has no sign for: ``inf``, ``-inf`` or ``nan``."""

    value: float


class List(msgspec.Struct, frozen=True, tag_field="t", tag="list"):
    """Several arguments in a row."""

    items: Annotated[tuple[Argument, ...], Meta(max_length=65_536)]


#: An argument: a number, a flag, None, a word, a reference, or a list of such.
Argument = None | bool | int | float | str | Ref | Dtype | Enum | Number | List


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """An input of the graph.

    Attributes:
        name: Name of the value in the graph.
        array: Name of the array in ``Step.arrays`` that fills it: ``observation``, ``observation/<key>`` or
            ``input/<name>``. Where a step has ``input/<name>``, that is used in place of ``observation``.
        role: ``observation`` (what is explained) or ``state`` (held fixed).
        dtype: Element type the policy was called with.
        shape: Its shape, batch axis included as -1.
        next: Of recurrent state: the output that is its value at the next step, with the batch axis in front.
    """

    name: NodeName
    array: Name
    role: Literal["observation", "state"] = "observation"
    dtype: Name
    shape: GraphShape
    next: Name | None = None


class Tensor(msgspec.Struct, frozen=True, kw_only=True):
    """A parameter or constant: name, element type and shape."""

    name: NodeName
    dtype: Name
    shape: GraphShape


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One operation.

    Attributes:
        name: Name of its result.
        op: Name and overload of the operator, e.g. ``aten.convolution.default``, or one of the few size helpers.
        args: Positional arguments.
        kwargs: Keyword arguments.
    """

    name: NodeName
    op: Annotated[str, Meta(max_length=256)]
    args: Annotated[tuple[Argument, ...], Meta(max_length=4096)] = ()
    kwargs: Annotated[dict[Name, Argument], Meta(max_length=64)] = {}


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """A named output (``logits``, ``q_values``, ``mean``, ``log_std``, ``value``, …) and the value that it is."""

    name: Name
    value: Ref


class Graph(msgspec.Struct, frozen=True, kw_only=True):
    """A policy's computation.

    Attributes:
        inputs: In the order of the call.
        parameters: Filled by ``Weights``.
        constants: Filled by the ``constant/<name>`` arrays of the ``PolicyGraph`` message.
        nodes: In the order of execution.
        outputs: What comes out.
        batched: False where the policy was exported for one observation without a batch axis (-1 then stands nowhere).
    """

    inputs: Annotated[tuple[Input, ...], Meta(min_length=1, max_length=256)]
    parameters: Annotated[tuple[Tensor, ...], Meta(max_length=16_384)] = ()
    constants: Annotated[tuple[Tensor, ...], Meta(max_length=16_384)] = ()
    nodes: Annotated[tuple[Node, ...], Meta(max_length=65_536)] = ()
    outputs: Annotated[tuple[Output, ...], Meta(min_length=1, max_length=256)]
    batched: bool = True
