"""The operators that the replica runs: those of the protocol's list, found in PyTorch and checked once more.

A graph comes from outside. Its operators are pure functions, their arguments are bound to PyTorch's own schema here,
and what PyTorch itself does not check before it reads or divides is checked by a guard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from agentwrap_protocol import graph as plain
from agentwrap_protocol.errors import GraphError
from agentwrap_protocol.operators import SIZE_OPERATORS, TENSOR_OPERATORS

#: Largest length, or product of lengths, that a size helper may give.
MAX_SIZE = 2**40

#: Largest window, stride, padding or dilation of a convolution or pool.
MAX_WINDOW = 2**16

_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.bool, torch.uint8, torch.int8, torch.uint16, torch.int16, torch.uint32, torch.int32, torch.uint64,
        torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64,
    )
}  # fmt: skip

_WORDS: dict[tuple[str, str], Any] = {
    ("layout", "strided"): torch.strided,
    ("memory_format", "contiguous_format"): torch.contiguous_format,
    ("memory_format", "preserve_format"): torch.preserve_format,
    ("memory_format", "channels_last"): torch.channels_last,
    ("memory_format", "channels_last_3d"): torch.channels_last_3d,
}

#: Parameters of a schema that take one kind of argument only: a device in words, say, would name a device of ours.
_KINDS: dict[str, tuple[type, str | None]] = {
    "ScalarType": (plain.Dtype, None),
    "Device": (plain.Enum, "device"),
    "Layout": (plain.Enum, "layout"),
    "MemoryFormat": (plain.Enum, "memory_format"),
}

#: Operators that make a tensor from nothing; they make it where the graph runs.
_FACTORIES = frozenset({"aten.full.default", "aten.arange.start_step", "aten.scalar_tensor.default"})

_POOLS = ("avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices")


def dtype(name: str) -> torch.dtype:
    """Return PyTorch's element type of this name.

    Raises:
        GraphError: There is none, or it is not one of numbers that the protocol knows.
    """
    if name not in _DTYPES:
        raise GraphError(f"{name!r} is not an element type; those are {', '.join(_DTYPES)}")
    return _DTYPES[name]


def word(constant: plain.Enum, device: torch.device) -> Any:
    """Return what a named constant stands for on ``device``.

    Raises:
        GraphError: It stands for nothing here.
    """
    if constant.kind == "device":
        return device
    if (constant.kind, constant.name) not in _WORDS:
        raise GraphError(f"{constant.name!r} is not a {constant.kind} that is understood")
    return _WORDS[constant.kind, constant.name]


@dataclass(frozen=True)
class Operator:
    """An operator that may run.

    Attributes:
        name: Its name in the protocol.
        call: The function.
        guard: Raises ``ValueError`` for arguments that PyTorch would not notice before harm is done; often None.
        schema: PyTorch's schema; None for size helpers.
    """

    name: str
    call: Callable[..., Any]
    guard: Callable[..., None] | None = None
    schema: torch.FunctionSchema | None = None

    @property
    def makes_tensor(self) -> bool:
        """Whether it makes a tensor from nothing."""
        return self.name in _FACTORIES

    def check_arguments(self, args: Sequence[plain.Argument], kwargs: Mapping[str, plain.Argument]) -> None:
        """Check number, names and kinds of the arguments.

        Raises:
            GraphError: They do not fit the schema; the text names the argument.
        """
        if self.schema is None:
            if kwargs or len(args) != 2:
                raise GraphError(f"takes 2 arguments, {len(args) + len(kwargs)} were given")
            return
        parameters = self.schema.arguments
        positional = [parameter for parameter in parameters if not parameter.kwarg_only]
        if len(args) > len(positional):
            raise GraphError(f"takes {len(positional)} positional arguments, {len(args)} were given")
        given = {parameter.name: argument for parameter, argument in zip(positional, args, strict=False)}
        for name, argument in kwargs.items():
            if name in given:
                raise GraphError(f"argument {name!r} is given twice")
            given[name] = argument
        known = {parameter.name: parameter for parameter in parameters}
        for name, argument in given.items():
            if name not in known:
                raise GraphError(f"has no argument {name!r}")
            _check_kind(known[name], argument)
        missing = [name for name, parameter in known.items() if name not in given and not parameter.has_default_value()]
        if missing:
            raise GraphError(f"argument {missing[0]!r} is missing")


def _check_kind(parameter: Any, argument: plain.Argument) -> None:
    if argument is None:
        return
    if parameter.name in ("pin_memory", "non_blocking") and argument is not False:
        raise GraphError(f"argument {parameter.name!r} must be false")
    kind = str(parameter.real_type).removeprefix("Optional[").removesuffix("]")
    wanted = _KINDS.get(kind)
    if wanted is None:
        if isinstance(argument, plain.Dtype | plain.Enum):
            raise GraphError(f"argument {parameter.name!r} takes {kind}, not a named constant")
        return
    of_type, of_kind = wanted
    if not isinstance(argument, of_type) or (of_kind and getattr(argument, "kind", None) != of_kind):
        raise GraphError(f"argument {parameter.name!r} takes a {of_kind or 'dtype'}")


def operator(name: str) -> Operator:
    """Return the operator of this name.

    Raises:
        GraphError: It is not on the list, or the installed PyTorch does not have it as a pure function.
    """
    if name in SIZE_OPERATORS:
        return Operator(name, _SIZE_HELPERS[name])
    if name not in TENSOR_OPERATORS:
        raise GraphError(f"operator {name!r} is not allowed")
    _, base, overload = name.split(".")
    found = getattr(getattr(torch.ops.aten, base, None), overload, None)
    if found is None:
        raise GraphError(f"operator {name!r} is not in PyTorch {torch.__version__}, which runs here")
    # so that an addition to the list, or another PyTorch, cannot let one in that changes or draws something
    if found._schema.is_mutable or torch.Tag.nondeterministic_seeded in found.tags:
        raise GraphError(f"operator {name!r} is not a pure function in PyTorch {torch.__version__}")
    return Operator(name, _STAND_INS.get(name, found), _GUARDS.get(name), found._schema)


def _on_sizes(function: Callable[[int, int], int]) -> Callable[[Any, Any], int]:
    """Let a function of Python see whole numbers only (times would repeat a list), and bound what it gives."""

    def call(left: Any, right: Any) -> int:
        if type(left) is not int or type(right) is not int:
            raise TypeError(f"takes whole numbers, not {type(left).__name__} and {type(right).__name__}")
        result = function(left, right)
        if abs(result) > MAX_SIZE:
            raise ValueError(f"gives {result}, more than {MAX_SIZE}")
        return result

    return call


def _axis_length(tensor: Any, axis: Any) -> int:
    if not isinstance(tensor, torch.Tensor) or type(axis) is not int:
        raise TypeError(f"takes a tensor and an axis, not {type(tensor).__name__} and {type(axis).__name__}")
    return tensor.shape[axis]


def _pick(results: Any, index: Any) -> Any:
    if not isinstance(results, tuple | list) or type(index) is not int:
        raise TypeError(f"takes several results and a place, not {type(results).__name__} and {type(index).__name__}")
    return results[index]


_SIZE_HELPERS: dict[str, Callable[[Any, Any], Any]] = {
    "aten.sym_size.int": _axis_length,
    "getitem": _pick,
    "size.add": _on_sizes(lambda left, right: left + right),
    "size.sub": _on_sizes(lambda left, right: left - right),
    "size.mul": _on_sizes(lambda left, right: left * right),
    "size.floordiv": _on_sizes(lambda left, right: left // right),
    "size.mod": _on_sizes(lambda left, right: left % right),
    "size.max": _on_sizes(max),
    "size.min": _on_sizes(min),
}


def _batch_norm(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    mean: torch.Tensor,
    variance: torch.Tensor,
    momentum: float,
    eps: float,
) -> tuple[torch.Tensor, ...]:
    """The same computation by an operator that has a gradient."""
    return torch.ops.aten.native_batch_norm.default(x, weight, bias, mean, variance, False, momentum, eps)  # type: ignore[no-any-return]


#: Equivalents that are called in place of the operator.
_STAND_INS: dict[str, Callable[..., Any]] = {
    "aten._native_batch_norm_legit_no_training.default": _batch_norm,
    # strides may differ from those at export, where the graph only depends on shapes
    "aten.view.default": torch.ops.aten.reshape.default,
}


def _guard_batch_norm(x: torch.Tensor, *others: Any, **_: Any) -> None:
    """PyTorch reads one value for each channel, however many there are."""
    if x.dim() < 2:
        raise ValueError(f"the input has shape {tuple(x.shape)}, which has no channels")
    for other in others:
        if isinstance(other, torch.Tensor) and other.shape != x.shape[1:2]:
            raise ValueError(f"statistics of shape {tuple(other.shape)} for {x.shape[1]} channels")


def _guard_division(left: Any, right: Any, *_: Any, rounding_mode: Any = None, **__: Any) -> None:
    """The smallest integer divided by -1 stops the process on x86 (SIGFPE)."""
    whole = [
        isinstance(v, int) if not isinstance(v, torch.Tensor) else not v.is_floating_point() for v in (left, right)
    ]
    if rounding_mode is not None and all(whole) and not (isinstance(right, int) and right > 0):
        raise ValueError("integers are divided by positive numbers only, not by a tensor")


def _guard_index(_: Any, indices: Any, *__: Any) -> None:
    """A mask picks as many elements as it has ones, which no rehearsal can know."""
    for index in indices:
        if isinstance(index, torch.Tensor) and index.dtype not in (torch.int32, torch.int64):
            raise ValueError(f"an index has element type {index.dtype}, not int32 or int64")


def _guard_window(*arguments: Any, **_: Any) -> None:
    """Kernels compute places in the input from strides and paddings, and lengths that overflow would lead elsewhere."""
    for argument in arguments:
        if isinstance(argument, list) and any(isinstance(item, int) and abs(item) > MAX_WINDOW for item in argument):
            raise ValueError(f"a window, stride, padding or dilation is larger than {MAX_WINDOW}")


def _guard_convolution(*arguments: Any, **_: Any) -> None:
    dtypes = {argument.dtype for argument in arguments if isinstance(argument, torch.Tensor)}
    if len(dtypes) > 1:
        raise ValueError(f"input, weight and bias have different element types: {', '.join(map(str, dtypes))}")
    _guard_window(*arguments)


_GUARDS: dict[str, Callable[..., None]] = {
    "aten.convolution.default": _guard_convolution,
    **{f"aten.{pool}.default": _guard_window for pool in _POOLS},
    "aten.index.Tensor": _guard_index,
    "aten._native_batch_norm_legit_no_training.default": _guard_batch_norm,
    "aten._native_batch_norm_legit.no_stats": _guard_batch_norm,
    "aten.div.Tensor_mode": _guard_division,
    "aten.div.Scalar_mode": _guard_division,
}
