"""A policy's computation as plain data: ``torch.export``, core operators, then a graph (SPEC section 6).

The policy itself is left alone: everything happens on a copy that shares its parameters (``call``).
"""

from __future__ import annotations

import traceback
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from agentwrap_protocol import graph as plain
from agentwrap_protocol.graph_check import check
from agentwrap_protocol.operators import OPERATORS

from .arrays import tensor_to_array
from .call import EXPLAINED, Call, Layout, close, find_layout, prepare, single, undisturbed
from .decompositions import decompositions
from .errors import ExportError
from .program import GraphWriter, Program, dtype_name, head_input, obstacle, sort_program
from .wrapping import unwrapped

#: Bytes of tensors held fixed that a graph may carry.
MAX_CONSTANT_BYTES = 64 * 2**20

_ROWS = (1, 2, 5)  # batches that the exported program is checked on
_FOREIGN = (str(Path(torch.__file__).parent), str(Path(__file__).parent), "<")


@dataclass(frozen=True)
class ExportedPolicy:
    """A policy as plain data.

    Attributes:
        graph: The computation.
        constants: Its tensors that never change, by name.
        parameters: The policy's own parameters and buffers, by the graph's names: references, not copies.
        sources: The same by their names in the module, as ``named_parameters`` and ``named_buffers`` have them.
    """

    graph: plain.Graph
    constants: dict[str, np.ndarray[Any, Any]]
    parameters: dict[str, torch.Tensor]
    sources: dict[str, str]


def own_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return a module's parameters and buffers as they are now, by name."""
    module = unwrapped(module)
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def export_policy(
    module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], *, output_names: Sequence[str], batched: bool
) -> ExportedPolicy:
    """Write what ``module(*args, **kwargs)`` computes as plain data.

    The module's parameters, buffers, mode, hooks and the random states are as before when this returns or raises. The
    graph is that of the module in evaluation mode, takes any number of observations at once wherever the module can
    (tried with 2 and 5), and has been compared with the module to 1e-5. Where the logits, Q-values or means come out of
    a linear layer, the graph has that layer's input as output ``latent`` too.

    Args:
        module: The policy.
        args: Positional arguments of a call that was made with one observation.
        kwargs: Keyword arguments of that call.
        output_names: A name for each of the tensors that the call returned (see ``results.output_tensors``). Outputs
            that are neither explained nor computable as plain data (a sampled action) or that have no batch axis are
            left out. New recurrent state comes out with its batch axis in front, and its input says so (``next``).
        batched: Whether the observation had a batch axis (of length 1).

    Raises:
        ExportError: The computation cannot be written as plain data; ``operation`` and the text name what stood in the
            way and where in the user's code.
        TypeError: The arguments do not fit the module's signature.
    """
    module = unwrapped(module)
    call = prepare(module, args, kwargs, output_names)
    with undisturbed([given.tensor for given in call.inputs]):
        _check_batch(call, batched)
        layout = find_layout(call, batched=batched)
        if layout is not None:
            try:
                return _export(module, call, layout, squeeze=False)
            except ExportError:
                pass  # its batch axis may be what stood in the way: see whether one observation at a time goes
        return _export(module, call, single(call), squeeze=batched)


def _check_batch(call: Call, batched: bool) -> None:
    for given in call.inputs:
        if batched and given.role == "observation" and given.tensor.shape[:1] != (1,):
            text = f"{given.name} has shape {tuple(given.tensor.shape)}; the call to export is one with a batch of 1"
            raise ExportError("forward", text)


class _Forward(nn.Module):
    """The call as a module that takes tensors and returns the outputs of a layout."""

    def __init__(self, call: Call, layout: Layout, *, squeeze: bool) -> None:
        super().__init__()
        self.policy = call.policy
        self._call, self._layout, self._squeeze = call, layout, squeeze
        self._observed = next(place for place, given in enumerate(call.inputs) if given.role == "observation")

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if self._squeeze:
            inputs = zip(tensors, self._call.inputs, strict=True)
            tensors = tuple(one.unsqueeze(0) if given.role == "observation" else one for one, given in inputs)
        outputs = self._call(tensors)
        return tuple(self._arranged(index, outputs[index], tensors) for index in self._layout.kept)

    def _arranged(self, index: int, output: torch.Tensor, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        if self._squeeze and output.shape[:1] == (1,):
            return output.squeeze(0)
        if index in self._layout.shared:
            row = output.squeeze(0) if not self._layout.added and output.shape[:1] == (1,) else output
            return row.expand(tensors[self._observed].shape[0], *row.shape)
        return self._layout.rows_first(index, output)


def _export(module: nn.Module, call: Call, layout: Layout, *, squeeze: bool) -> ExportedPolicy:
    program = _trace(_Forward(call, layout, squeeze=squeeze).eval(), call, layout, squeeze=squeeze)
    outputs = _writable({call.names[index]: node for index, node in zip(layout.kept, program.outputs, strict=True)})
    live = own_tensors(module)
    _compare(program, live, call, layout, set(outputs), squeeze=squeeze)
    latent = next((head_input(outputs[name]) for name in EXPLAINED[:3] if name in outputs), None)
    if layout.batched and latent is not None:
        outputs.setdefault("latent", latent)
    writer = GraphWriter(program)
    graph = writer.write(_described(call, layout, outputs, squeeze=squeeze), outputs, batched=layout.batched)
    check(graph, allowed=OPERATORS.__contains__)
    constants = {
        name: tensor_to_array(program.constants[node]) for name, node in writer.named(program.constants).items()
    }
    size = sum(array.nbytes for array in constants.values())
    if size > MAX_CONSTANT_BYTES:
        largest = max(constants, key=lambda name: constants[name].nbytes)
        text = (
            f"the policy holds {size} bytes of tensors that are neither parameters nor buffers, the largest {largest}"
        )
        raise ExportError("constants", f"{text}; at most {MAX_CONSTANT_BYTES} are sent: register them as buffers")
    sources = {name: program.parameters[node] for name, node in writer.named(program.parameters).items()}
    return ExportedPolicy(graph, constants, {name: live[source] for name, source in sources.items()}, sources)


def _trace(forward: _Forward, call: Call, layout: Layout, *, squeeze: bool) -> Program:
    """Trace the call and decompose it, or say where in the user's code that failed."""
    rows = torch.export.Dim("batch")
    tensors = _arguments(layout, 2, call, squeeze=squeeze)
    # an axis of length 1 would be taken as fixed, so the example has two rows
    dynamic = tuple(None if axis is None else {axis: rows} for axis in layout.axes)
    try:
        exported = torch.export.export(forward, tensors, dynamic_shapes=(dynamic,), strict=False)
        return sort_program(exported.run_decompositions(decompositions()), prefix="policy.")
    except ExportError:
        raise
    except Exception as error:
        operation, place = _blame(error)
        raise ExportError(operation, f"{operation} cannot be exported{place}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Why a computation cannot be traced, in words where it is the usual reason, else as PyTorch puts it."""
    if "DataDependent" in type(error).__name__ or "data-dependent" in str(error):
        return (
            "it depends on the numbers in a tensor (a branch, a loop, .item(), a shape), and a graph has no branches: "
            "compute both sides and choose with torch.where, or multiply by a mask"
        )
    return f"{type(error).__name__}: {str(error).strip().split(chr(10))[0]}"


def _arguments(layout: Layout, count: int, call: Call, *, squeeze: bool) -> tuple[torch.Tensor, ...]:
    tensors = layout.batch(count)
    if not squeeze:
        return tuple(tensor.clone() for tensor in tensors)
    inputs = zip(tensors, call.inputs, strict=True)
    return tuple(one.squeeze(0) if given.role == "observation" else one.clone() for one, given in inputs)


def _blame(error: BaseException) -> tuple[str, str]:
    """The line of the user's code that an exception of the tracer came through last, and where it stands."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_FOREIGN)]
    if not frames or not frames[-1].line:
        return "forward", ""
    last = frames[-1]
    return str(last.line), f" ({last.filename}:{last.lineno})"


def _writable(outputs: dict[str, torch.fx.Node]) -> dict[str, torch.fx.Node]:
    """Leave out what cannot be written, as long as it is not what maps explain."""
    explained = [name for name in outputs if name in EXPLAINED]
    for name, node in list(outputs.items()):
        problem = obstacle([node])
        if problem is None:
            continue
        if name in explained or not explained:
            raise problem
        del outputs[name]
    return outputs


def _compare(
    program: Program, live: Mapping[str, torch.Tensor], call: Call, layout: Layout, names: set[str], *, squeeze: bool
) -> None:
    """Refuse a program that computes something else than the policy did."""
    for count in _ROWS if layout.batched else (1,):
        got = program(live, _arguments(layout, count, call, squeeze=squeeze))
        for index, output in zip(layout.kept, got, strict=True):
            if call.names[index] not in names:
                continue
            if layout.batched and index not in layout.shared:
                same = layout.agrees(index, output, count)
            else:
                expected = layout.expected[0][index].flatten()
                same = close(output[:1].flatten() if layout.batched else output.flatten(), expected)
            if not same:
                text = (
                    f"{call.names[index]} of the exported program differs from the policy's own for a batch of {count}"
                )
                raise ExportError("forward", f"{text}: is the policy the same function at every call?")


def _described(call: Call, layout: Layout, outputs: Collection[str], *, squeeze: bool) -> list[plain.Input]:
    """The graph's inputs, -1 standing for the batch axis."""
    described = []
    filled = {place: call.names[index] for index, place in layout.carried.items() if call.names[index] in outputs}
    for place, (given, axis) in enumerate(zip(call.inputs, layout.axes, strict=True)):
        shape = list(given.tensor.shape)
        if axis is not None:
            shape[axis : axis + (0 if layout.added else 1)] = [-1]
        elif squeeze and given.role == "observation":
            shape = shape[1:]
        dtype = dtype_name(given.tensor.dtype)
        described.append(
            plain.Input(
                name=given.name,
                array=given.array,
                role=given.role,
                dtype=dtype,
                shape=tuple(shape),
                next=filled.get(place),
            )
        )
    return described
