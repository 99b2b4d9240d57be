"""From PyTorch's exported program to plain data: the nodes that the outputs need, one for one, and nothing else."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.export.graph_signature import InputKind, OutputKind

from agentwrap_protocol import graph as plain
from agentwrap_protocol.operators import OPERATORS

from .errors import ExportError
from .pytree import distinct

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_./]")
_TRACE_LINE = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>.+)\n\s*(?P<code>.*)')
_LIBRARIES = (str(Path(torch.__file__).parent), str(Path(__file__).parent))

_SIZE_HELPERS: dict[Any, str] = {
    operator.add: "size.add",
    operator.sub: "size.sub",
    operator.mul: "size.mul",
    operator.floordiv: "size.floordiv",
    operator.mod: "size.mod",
    operator.getitem: "getitem",
    torch.sym_max: "size.max",
    torch.sym_min: "size.min",
}

#: What a linear layer's input or output may pass through on its way without becoming something else.
_PASSING = {
    torch.ops.aten.view.default,
    torch.ops.aten.squeeze.dim,
    torch.ops.aten.squeeze.dims,
    torch.ops.aten.unsqueeze.default,
    torch.ops.aten.alias.default,
    torch.ops.aten.clone.default,
    torch.ops.aten._to_copy.default,
}
_LINEAR: dict[Any, int] = {torch.ops.aten.addmm.default: 1, torch.ops.aten.mm.default: 0}


@dataclass(frozen=True)
class Program:
    """An exported program in core operators, with its values sorted by what they are.

    Attributes:
        module: The graph as a module that takes all of ``values`` and the inputs, in order of its placeholders.
        parameters: Placeholders that are parameters or buffers, each with its name in the policy.
        constants: Placeholders that are tensors held fixed.
        inputs: Placeholders of the inputs, in the order of the call.
        outputs: The results, in order; what the policy changed in place is not among them.
    """

    module: torch.fx.GraphModule
    parameters: dict[torch.fx.Node, str]
    constants: dict[torch.fx.Node, torch.Tensor]
    inputs: tuple[torch.fx.Node, ...]
    outputs: tuple[torch.fx.Node, ...]

    def __call__(self, parameters: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Run the program; return the results of ``outputs``."""
        filled = {**self.constants, **dict(zip(self.inputs, inputs, strict=True))}
        filled |= {node: parameters[name] for node, name in self.parameters.items()}
        placeholders = [node for node in self.module.graph.nodes if node.op == "placeholder"]
        results = self.module(*(filled[node] for node in placeholders))
        return [results[place] for place in _result_places(self.module, self.outputs)]


def sort_program(exported: torch.export.ExportedProgram, *, prefix: str) -> Program:
    """Sort an exported program's values; names of parameters lose ``prefix``.

    Raises:
        ExportError: The program needs something that is not a tensor.
    """
    nodes = {node.name: node for node in exported.graph.nodes}
    parameters: dict[torch.fx.Node, str] = {}
    constants: dict[torch.fx.Node, torch.Tensor] = {}
    inputs: list[torch.fx.Node] = []
    for spec in exported.graph_signature.input_specs:
        node = nodes[spec.arg.name]
        match spec.kind:
            case InputKind.PARAMETER | InputKind.BUFFER:
                parameters[node] = str(spec.target).removeprefix(prefix)
            case InputKind.CONSTANT_TENSOR:
                constants[node] = exported.constants[str(spec.target)]
            case InputKind.USER_INPUT:
                inputs.append(node)
            case _:
                raise ExportError(str(spec.target), f"the policy computes with {spec.target}, which is not a tensor")
    results = [spec for spec in exported.graph_signature.output_specs if spec.kind is OutputKind.USER_OUTPUT]
    outputs = tuple(nodes[spec.arg.name] for spec in results)
    return Program(exported.graph_module, parameters, constants, tuple(inputs), outputs)


def _result_places(module: torch.fx.GraphModule, outputs: Iterable[torch.fx.Node]) -> list[int]:
    (results,) = next(node for node in module.graph.nodes if node.op == "output").args
    return [results.index(node) for node in outputs]


def needed(outputs: Iterable[torch.fx.Node]) -> set[torch.fx.Node]:
    """Return all nodes that these results are computed from, themselves included."""
    found: set[torch.fx.Node] = set()
    waiting = list(outputs)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            if _fixed_size(node) is None:
                waiting.extend(node.all_input_nodes)
    return found


def obstacle(outputs: Iterable[torch.fx.Node]) -> ExportError | None:
    """Return what keeps these results from being written as plain data, if something does."""
    for node in sorted(needed(outputs)):  # in order of execution
        if node.op == "placeholder" or _fixed_size(node) is not None:
            continue
        name = operator_name(node)
        if name not in OPERATORS:
            why = "draws random numbers" if _is_random(node) else "is not among the operators of a policy graph"
            return ExportError(name, f"{name} {why}; it is used at {where(node)}")
    return None


def operator_name(node: torch.fx.Node) -> str:
    """Return the protocol's name of a node's operator; a description of it where it has none."""
    if node.op != "call_function":
        return f"{node.op} {node.target}"
    helper = _SIZE_HELPERS.get(node.target)
    return helper or str(node.target).removeprefix("torch.ops.")


def where(node: torch.fx.Node) -> str:
    """Return the line of the user's code that a node stems from: ``file:line: code``."""
    lines = list(_TRACE_LINE.finditer(node.meta.get("stack_trace") or ""))
    for line in reversed(lines):
        if not line["file"].startswith(_LIBRARIES):
            return f"{line['file']}:{line['line']}: {line['code'].strip()}"
    return "a place unknown"


def _is_random(node: torch.fx.Node) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _fixed_size(node: torch.fx.Node) -> int | float | bool | None:
    """The value of a node that computes a length which is always the same."""
    value = node.meta.get("val")
    if node.op == "call_function" and isinstance(value, bool | int | float):
        return value
    return None


class GraphWriter:
    """Writes a program as a graph. Names are given once, so that each value has one and no two have the same."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._names: dict[torch.fx.Node, str] = {}
        self._taken: set[str] = set()
        self._casts: dict[torch.fx.Node, plain.Node] = {}

    def write(
        self, inputs: Sequence[plain.Input], outputs: Mapping[str, torch.fx.Node], *, batched: bool
    ) -> plain.Graph:
        """Return the graph that computes ``outputs``.

        Args:
            inputs: Description of each of the program's inputs. States that no output needs are left out.
            outputs: The results by name.
            batched: Whether shapes have a batch axis.

        Raises:
            ExportError: An argument is of a kind that a graph has no words for.
        """
        program, wanted = self._program, needed(outputs.values())
        described = {
            node: given
            for node, given in zip(program.inputs, inputs, strict=True)
            if node in wanted or given.role == "observation"
        }
        for node, given in described.items():
            self._name(node, given.name)
        parameters = [node for node in program.parameters if node in wanted]
        constants = [node for node in program.constants if node in wanted]
        for node in parameters:
            self._name(node, f"weight/{program.parameters[node]}")
        steps = [
            node
            for node in program.module.graph.nodes
            if node in wanted and node.op != "placeholder" and _fixed_size(node) is None
        ]
        for node in (*constants, *steps):
            self._name(node, node.name)
        for node in (*parameters, *constants):
            if node.meta["val"].dtype is torch.bfloat16:
                self._cast(node)
        return plain.Graph(
            inputs=tuple(described.values()),
            parameters=tuple(self._tensor(node) for node in parameters),
            constants=tuple(self._tensor(node) for node in constants),
            nodes=(*self._casts.values(), *(self._node(node) for node in steps)),
            outputs=tuple(plain.Output(name=name, value=self._reference(node)) for name, node in outputs.items()),
            batched=batched,
        )

    def named(self, nodes: Iterable[torch.fx.Node]) -> dict[str, torch.fx.Node]:
        """Return those of the nodes that the graph has, by name."""
        return {self._names[node]: node for node in nodes if node in self._names}

    def _name(self, node: torch.fx.Node, name: str) -> None:
        self._names[node] = distinct(_NOT_IN_NAMES.sub("_", name)[:250], self._taken)

    def _cast(self, node: torch.fx.Node) -> None:
        """Let a bfloat16 tensor, an element type that does not travel, travel as float32 and become bfloat16 there."""
        name = distinct(f"{self._names[node]}/bfloat16", self._taken)
        self._casts[node] = plain.Node(
            name=name,
            op="aten._to_copy.default",
            args=(plain.Ref(self._names[node]),),
            kwargs={"dtype": plain.Dtype("bfloat16")},
        )

    def _reference(self, node: torch.fx.Node) -> plain.Ref:
        return plain.Ref(self._casts[node].name if node in self._casts else self._names[node])

    def _tensor(self, node: torch.fx.Node) -> plain.Tensor:
        value = node.meta["val"]
        dtype = "float32" if node in self._casts else dtype_name(value.dtype)
        return plain.Tensor(name=self._names[node], dtype=dtype, shape=tuple(map(int, value.shape)))

    def _node(self, node: torch.fx.Node) -> plain.Node:
        return plain.Node(
            name=self._names[node],
            op=operator_name(node),
            args=tuple(self._argument(argument, node) for argument in node.args),
            kwargs={name: self._argument(argument, node) for name, argument in node.kwargs.items()},
        )

    def _argument(self, argument: Any, node: torch.fx.Node) -> plain.Argument:
        match argument:
            case torch.fx.Node():
                fixed = _fixed_size(argument)
                return self._reference(argument) if fixed is None else fixed
            case float() if not math.isfinite(argument):
                return plain.Number(argument)
            case None | bool() | int() | float() | str():
                return argument
            case list() | tuple():
                return plain.List(tuple(self._argument(item, node) for item in argument))
            case torch.dtype():
                return plain.Dtype(dtype_name(argument))
            case torch.device():
                return plain.Enum("device", "default")
            case torch.layout():
                return plain.Enum("layout", _word(argument))
            case torch.memory_format():
                return plain.Enum("memory_format", _word(argument))
        name = operator_name(node)
        raise ExportError(name, f"{name} has an argument of type {type(argument).__name__} at {where(node)}")


def dtype_name(dtype: torch.dtype) -> str:
    """Return ``float32`` for ``torch.float32``."""
    return _word(dtype)


def _word(constant: Any) -> str:
    return str(constant).removeprefix("torch.")


def head_input(output: torch.fx.Node) -> torch.fx.Node | None:
    """Return the input of the linear layer that gives this result (the last activations), if its rows are the batch."""
    node = _through(output)
    place = _LINEAR.get(node.target)
    if place is None:
        return None
    activations = node.args[place]
    if not isinstance(activations, torch.fx.Node):
        return None
    rows, out_rows = activations.meta["val"].shape[0], output.meta["val"].shape[0]
    return activations if str(rows) == str(out_rows) else None


def _through(node: torch.fx.Node) -> torch.fx.Node:
    while node.target in _PASSING and isinstance(node.args[0], torch.fx.Node):
        node = node.args[0]
    return node
