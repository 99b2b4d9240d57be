"""One captured call of a policy, on a copy of the policy that nothing done here can be felt through.

Also finds the axes along which many observations can be given at once, by trying: rows of a batch must come out as
they do alone.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import types
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from .errors import ExportError
from .inputs import CallInput, arrays_to_tensors, call_inputs
from .random_states import kept_random_states
from .recurrent import carried
from .results import output_tensors

#: Outputs that a map can explain. Where a policy has one of these, its other outputs may be left out of the graph.
EXPLAINED = ("logits", "q_values", "mean", "value")

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_NOISY_LOGGERS = ("torch.export._trace", "torch.fx.experimental.symbolic_shapes", "torch._export")


@dataclass(frozen=True)
class Call:
    """A call taken apart into tensors, which vary from step to step, and the rest, which is held fixed.

    Attributes:
        policy: The copy that is called.
        inputs: The tensors of the call.
        names: Names of the outputs.
        leaves: All leaves of ``(args, kwargs)``; those at ``places`` are the tensors of ``inputs``.
        spec: Structure of ``(args, kwargs)``.
    """

    policy: nn.Module
    inputs: tuple[CallInput, ...]
    names: tuple[str, ...]
    leaves: tuple[Any, ...]
    places: tuple[int, ...]
    spec: pytree.TreeSpec

    def __call__(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Call the policy with these tensors in place of the captured ones; return what ``names`` names."""
        return output_tensors(self.result(tensors))

    def result(self, tensors: Sequence[torch.Tensor]) -> Any:
        """Call the policy with these tensors in place of the captured ones; return what it returns."""
        leaves = list(self.leaves)
        for place, tensor in zip(self.places, tensors, strict=True):
            leaves[place] = tensor
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return self.policy(*args, **kwargs)


@dataclass(frozen=True)
class Layout:
    """How a call takes many observations at once, with what it gave when this was tried.

    Attributes:
        axes: For each input the axis along which rows lie, or None where all rows share it.
        added: Whether the axis is new (the policy was called with one observation without a batch axis).
        kept: Indices of the outputs that have their rows along axis 0.
        shared: Indices of the outputs that are the same for all rows and have no axis for them (a free ``log_std``).
        rows: Inputs of single calls, as the policy was called.
        expected: Outputs of these calls.
        carried: Of outputs that are the recurrent state that enters the next call: which input that fills.
    """

    axes: tuple[int | None, ...]
    added: bool
    kept: tuple[int, ...]
    shared: frozenset[int]
    rows: tuple[tuple[torch.Tensor, ...], ...]
    expected: tuple[tuple[torch.Tensor, ...], ...]
    carried: Mapping[int, int] = field(default_factory=dict)

    @property
    def batched(self) -> bool:
        """Whether there is an axis for rows at all."""
        return any(axis is not None for axis in self.axes)

    def batch(self, count: int) -> tuple[torch.Tensor, ...]:
        """The first ``count`` rows as one call."""
        if not self.batched:
            return self.rows[0]
        join = torch.stack if self.added else torch.cat
        columns = zip(*self.rows[:count], strict=True)
        return tuple(
            column[0] if axis is None else join(column, dim=axis).contiguous()
            for column, axis in zip(columns, self.axes, strict=True)
        )

    def rows_first(self, index: int, output: torch.Tensor) -> torch.Tensor:
        """Return an output of a batch with its rows in front: new state has them where the state has them."""
        axis = self.axes[self.carried[index]] if index in self.carried else None
        return output.movedim(axis, 0) if axis else output

    def agrees(self, index: int, output: torch.Tensor, count: int) -> bool:
        """Whether an output of ``batch(count)``, rows first, says for each row what that row alone gave."""
        rows = [expected[index] for expected in self.expected[:count]]
        if any(row.numel() * count != output.numel() for row in rows) or output.shape[:1] != (count,):
            return False
        return all(close(output[place].flatten(), row.flatten()) for place, row in enumerate(rows))


def close(got: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether two results are the same but for rounding: to 1e-5 of the largest value, in half precision 2e-2."""
    if got.shape != expected.shape or got.dtype != expected.dtype:
        return False
    if not expected.is_floating_point():
        return bool(torch.equal(got, expected))
    precise = expected.dtype in (torch.float32, torch.float64)
    finite = expected[expected.isfinite()].abs()
    scale = max(1.0, float(finite.max())) if finite.numel() else 1.0
    return bool(torch.allclose(got, expected, rtol=0, atol=(1e-5 if precise else 2e-2) * scale, equal_nan=True))


def prepare(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], names: Sequence[str]) -> Call:
    """Take a captured call apart; the module's copy is in evaluation mode and has none of our hooks."""
    args, kwargs = arrays_to_tensors((tuple(args), dict(kwargs)))
    inputs = tuple(call_inputs(module, args, kwargs))
    if not inputs:
        raise ExportError(
            "forward", f"{type(module).__name__} was called without a tensor: there is nothing to explain"
        )
    leaves, spec = pytree.tree_flatten((args, kwargs))
    places = tuple(place for place, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor))
    return Call(isolated_copy(module), inputs, tuple(names), tuple(leaves), places, spec)


def isolated_copy(module: nn.Module) -> nn.Module:
    """Return a copy that shares the parameters but nothing that calling it, or changing its mode, could alter."""
    memo: dict[int, Any] = {id(parameter): parameter for parameter in module.parameters()}
    for child in module.modules():
        memo.update((id(value), value.detach().clone()) for value in child._buffers.values() if value is not None)
        # a tensor kept from an earlier call may hang in a graph of gradients, which cannot be copied
        memo.update((id(v), v.detach().clone()) for v in vars(child).values() if isinstance(v, torch.Tensor))
        memo.update((id(hook), hook) for hooks in _hook_tables(child) for hook in hooks.values() if _is_ours(hook))
    try:
        copied = copy.deepcopy(module, dict(memo))
    except Exception:  # a socket, a lock, an environment: whatever a module may hold that refuses to be copied
        copied = _copy_modules(module, memo)
        _lead_to_copies(copied, memo)
    for child in copied.modules():
        child._compiled_call_impl = None
        for hooks in _hook_tables(child):
            for key in [key for key, hook in hooks.items() if _is_ours(hook)]:
                del hooks[key]
    return copied.eval()


def _copy_modules(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """Copy the tree of modules and its plain containers; everything else is shared."""
    if id(module) in memo:
        known: nn.Module = memo[id(module)]
        return known
    copied = memo[id(module)] = module.__class__.__new__(module.__class__)
    for name, value in vars(module).items():
        shallow = copy.copy(value) if isinstance(value, dict | list | set | deque) else memo.get(id(value), value)
        copied.__dict__[name] = shallow
    copied._buffers = {name: memo.get(id(value), value) for name, value in module._buffers.items()}
    copied._modules = {
        name: None if child is None else _copy_modules(child, memo) for name, child in module._modules.items()
    }
    return copied


def _lead_to_copies(copied: nn.Module, memo: Mapping[int, Any]) -> None:
    """Let attributes beside ``_modules`` that name modules, alone or in a container, name their copies.

    A list of critics that are registered one by one beside it (Stable-Baselines3) would else lead to the originals,
    whose weights a trace takes for constants.
    """

    def led(value: Any) -> Any:
        return memo.get(id(value), value) if isinstance(value, nn.Module) else value

    for child in copied.modules():
        for name, value in vars(child).items():
            if isinstance(value, nn.Module):
                vars(child)[name] = led(value)
            elif type(value) is dict and name != "_modules":
                vars(child)[name] = {key: led(each) for key, each in value.items()}
            elif type(value) in (list, tuple):
                vars(child)[name] = type(value)(map(led, value))


def _hook_tables(module: nn.Module) -> list[dict[int, Any]]:
    return [vars(module)[name] for name in _HOOKS if name in vars(module)]


def _is_ours(hook: Any) -> bool:
    owner = hook.__self__ if isinstance(hook, types.MethodType) else hook
    return bool(getattr(hook, "__agentwrap__", False) or getattr(owner, "__agentwrap__", False))


@contextlib.contextmanager
def undisturbed(inputs: Sequence[torch.Tensor]) -> Iterator[None]:
    """Leave random states, warning filters and settings as they were, and nothing printed by PyTorch's tracer."""
    validate = torch.distributions.Distribution._validate_args
    loggers = [logging.getLogger(name) for name in _NOISY_LOGGERS]
    disabled = [logger.disabled for logger in loggers]
    try:
        # checking a distribution's arguments branches on values, which no graph can
        torch.distributions.Distribution.set_default_validate_args(False)
        for logger in loggers:
            logger.disabled = True
        with (
            kept_random_states(inputs),
            torch.inference_mode(False),
            torch.no_grad(),
            warnings.catch_warnings(action="ignore"),
            contextlib.redirect_stderr(io.StringIO()),  # a trace that fails is printed there, whole
        ):
            yield
    finally:
        torch.distributions.Distribution.set_default_validate_args(validate)
        for logger, was in zip(loggers, disabled, strict=True):
            logger.disabled = was


def find_layout(call: Call, *, batched: bool) -> Layout | None:
    """Return the layout in which rows come out as they do alone, or None if there is none."""
    pairs = _carried(call)
    for axes in _candidates(call.inputs, batched):
        try:
            layout = _try_layout(call, axes, pairs, added=not batched)
        except Exception:  # the policy does not take such a batch; the next layout may fit
            continue
        if layout is not None:
            return layout
    return None


def single(call: Call) -> Layout:
    """Return the layout of the call as it was made: one row, all outputs."""
    row = tuple(given.tensor.detach().clone() for given in call.inputs)
    outputs = _called(call, row)
    nowhere = (None,) * len(row)
    return Layout(nowhere, False, tuple(range(len(outputs))), frozenset(), (row,), (tuple(outputs),))


def _called(call: Call, row: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    try:
        outputs = call([tensor.clone() for tensor in row])
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise ExportError(
            "forward", f"a copy of the policy in evaluation mode cannot be called; it raised {what}"
        ) from error
    if len(outputs) != len(call.names):
        text = f"the policy gave {len(outputs)} tensors in evaluation mode, {len(call.names)} are named: {call.names}"
        raise ExportError("forward", text)
    return outputs


def _candidates(inputs: Sequence[CallInput], batched: bool) -> Iterator[tuple[int | None, ...]]:
    """Axes to try: 0 for observations; for states 1 (nn.LSTM), then 0 (cells), then none (shared by all rows)."""
    tried = set()
    for preferred in (1, 0, None):
        axes = tuple(
            0 if given.role == "observation" else _state_axis(given.tensor, preferred, batched) for given in inputs
        )
        if axes not in tried:
            tried.add(axes)
            yield axes


def _state_axis(tensor: torch.Tensor, preferred: int | None, batched: bool) -> int | None:
    if preferred is None:
        return None
    if not batched:
        return min(preferred, max(tensor.dim() - 1, 0))  # (H,) → (1, H), but (layers, H) → (layers, 1, H)
    # an axis 1 is the batch's only beside the layers' and the features': of (1, 1) it would be a feature
    axes = [1, 0] if preferred == 1 and tensor.dim() >= 3 else [0]
    return next((axis for axis in axes if axis < tensor.dim() and tensor.shape[axis] == 1), None)


def _carried(call: Call) -> dict[int, int]:
    known = [index for index, name in enumerate(call.names) if name in EXPLAINED or name == "log_std"]
    try:
        return carried(call.inputs, call.result([given.tensor.clone() for given in call.inputs]), other=known)
    except Exception:  # a copy that cannot be called: who tries the layouts says so
        return {}


def _try_layout(call: Call, axes: tuple[int | None, ...], pairs: Mapping[int, int], *, added: bool) -> Layout | None:
    rows = tuple(
        tuple(
            given.tensor.detach().clone() if axis is None else _varied(given, index)
            for given, axis in zip(call.inputs, axes, strict=True)
        )
        for index in range(5)
    )
    expected = tuple(tuple(_called(call, row)) for row in rows)
    pairs = {index: place for index, place in pairs.items() if axes[place] is not None}
    layout = Layout(axes, added, tuple(range(len(call.names))), frozenset(), rows, expected, pairs)
    kept = set(layout.kept)
    shared = set(kept)
    for count in (2, 5):
        outputs = [layout.rows_first(index, output) for index, output in enumerate(call(layout.batch(count)))]
        kept &= {index for index in kept if layout.agrees(index, outputs[index], count)}
        shared &= {index for index in shared if all(close(outputs[index], row[index]) for row in expected)}
    explained = {index for index, name in enumerate(call.names) if name in EXPLAINED}
    if not kept or not explained <= kept:
        return None
    shared -= kept
    pairs = {index: place for index, place in pairs.items() if index in kept}
    return Layout(axes, added, tuple(sorted(kept | shared)), frozenset(shared), rows, expected, pairs)


def _varied(given: CallInput, index: int) -> torch.Tensor:
    """The captured tensor (index 0), or one as plausible: its elements moved along, floats changed a little."""
    tensor = given.tensor.detach().clone()
    if index == 0:
        return tensor
    tensor = tensor.flatten().roll(index).reshape(tensor.shape)
    if not tensor.is_floating_point():
        return tensor
    wave = torch.arange(tensor.numel(), device=tensor.device).reshape(tensor.shape).add(index).sin().to(tensor.dtype)
    # a recurrent state starts as zeros, which a factor would not tell apart
    return tensor * (1 + 0.05 * wave) + (0.1 * wave if given.role == "state" else 0)
