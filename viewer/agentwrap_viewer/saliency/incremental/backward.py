"""Gradients of a program in several directions of its outputs at once, from values that are already there.

The directions are the batch: what a step passes back is computed for all of them together, and no second pass forward
is needed to record anything. Frequent operators have a rule; of any other torch takes the gradient, of that one step.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from agentwrap_viewer.program import Program, Step, Values

from .image import ORDER, is_affine, is_scaling

#: Gradients (K, *shape) with respect to the tensors in a slot, mostly one; None where there is none.
Parts = list[torch.Tensor | None]
#: Returns what follows from the weight in a slot, for a purpose.
Keep = Callable[[int, str, Callable[[torch.Tensor], torch.Tensor]], torch.Tensor]
#: Turns what comes back from a step's result into what it passes back, to the one argument that differs; None where it
#: cannot.
_Rule = Callable[[Step, Values, torch.Tensor, Keep], torch.Tensor | None]


def gradients(
    program: Program, values: Values, slot: int, directions: Mapping[int, torch.Tensor], keep: Keep
) -> torch.Tensor:
    """Return gradients with respect to what is in a slot, (K, *shape).

    Args:
        program: A program.
        values: All its values for one set of inputs. They stay as they are.
        slot: One of its inputs.
        directions: By slot of an output, what is looked at: (K, numbers of that output). Row k of the result is about
            the sum of the outputs' products with the directions' rows k.
        keep: Keeps what follows from weights.

    Raises:
        RuntimeError: A step on the way has no derivative.
    """
    differing, steps = {slot}, list[Step]()
    for step in program.steps:
        if not differing.isdisjoint(step.slots) and any(map(_is_real, _parts(values[step.out]))):
            differing.add(step.out)
            steps.append(step)
    found: dict[int, Parts] = {
        output: [rows.reshape(-1, *values[output].shape)] for output, rows in directions.items() if output in differing
    }
    for step in reversed(steps):
        given = found.pop(step.out, None)
        if given is not None and any(part is not None for part in given):
            for to, parts in _passed_back(step, values, given, differing, keep).items():
                found[to] = list(map(_sum, found[to], parts)) if to in found else parts
    (result,) = found.get(slot, [None])
    rows = len(next(iter(directions.values())))
    return values[slot].new_zeros(rows, *values[slot].shape) if result is None else result


def _passed_back(step: Step, values: Values, given: Parts, differing: set[int], keep: Keep) -> dict[int, Parts]:
    """Return what a step passes back to those slots of which its result is differentiable."""
    to = [slot for slot in step.slots if slot in differing]
    if step.node.op == "aten.add.Tensor" and len(to) == 2 and not step.node.kwargs:
        if values[to[0]].shape == values[to[1]].shape and to[0] != to[1]:
            return {slot: given for slot in to}
    rule = _RULES.get(step.node.op) or (_affine if is_affine(step.node.op, _others(step, values)) else None)
    if rule is not None and to == [step.slots[1 if step.node.op == "aten.addmm.default" else 0]]:
        (gradient,) = given
        passed = None if gradient is None else rule(step, values, gradient, keep)
        if passed is not None:
            return {to[0]: [passed]}
    return _by_torch(step, values, given, dict.fromkeys(to))


def _by_torch(step: Step, values: Values, given: Parts, to: Mapping[int, None]) -> dict[int, Parts]:
    """Have torch take the gradient of one step."""
    with torch.inference_mode(False), torch.enable_grad():
        leaves = {slot: list(map(_leaf, _parts(values[slot]))) for slot in to}
        arguments = [_like(values[slot], leaves[slot]) if slot in to else values[slot] for slot in step.slots]
        pairs = [
            (result, rows)
            for result, rows in zip(_parts(step.call(*arguments)), given, strict=True)
            if rows is not None and result.requires_grad
        ]
        wanted = [leaf for slot in to for leaf in leaves[slot] if _is_real(leaf)]
        if not pairs:
            return {}
        results, along = zip(*pairs, strict=True)
        with warnings.catch_warnings(action="ignore"):  # an operator that goes row by row inside is slow, not wrong
            passed = iter(torch.autograd.grad(results, wanted, along, is_grads_batched=True, allow_unused=True))
    return {slot: [next(passed) if _is_real(leaf) else None for leaf in leaves[slot]] for slot in to}


def _affine(step: Step, values: Values, gradient: torch.Tensor, keep: Keep) -> torch.Tensor:
    others = _others(step, values)
    if step.node.op == ORDER:
        order = [axis % len(others[0]) for axis in others[0]]
        ordered: torch.Tensor = gradient.permute(0, *(1 + order.index(axis) for axis in range(len(order))))
        return ordered
    passed: torch.Tensor = step.call(gradient, *others) if is_scaling(step.node.op) else gradient
    return passed.to(values[step.slots[0]].dtype)


def _relu(step: Step, values: Values, gradient: torch.Tensor, keep: Keep) -> torch.Tensor:
    passed: torch.Tensor = gradient * (values[step.out] > 0)
    return passed


def _view(step: Step, values: Values, gradient: torch.Tensor, keep: Keep) -> torch.Tensor:
    return gradient.reshape(len(gradient), *values[step.slots[0]].shape)


def _linear(step: Step, values: Values, gradient: torch.Tensor, keep: Keep) -> torch.Tensor | None:
    if step.node.kwargs:
        return None
    weight: torch.Tensor = values[step.slots[-1]]
    return gradient @ weight.T


def _convolution(step: Step, values: Values, gradient: torch.Tensor, keep: Keep) -> torch.Tensor | None:
    """Pass back through a plain convolution in 2-D of one image."""
    arguments = [values[slot] for slot in step.slots]
    (image, _, _, stride, padding, dilation, transposed, _, groups) = arguments[:9]
    if image.ndim != 4 or len(image) != 1 or transposed or groups != 1 or any(apart != 1 for apart in dilation):
        return None
    phases = keep(step.slots[1], "phases", lambda weight: _phases(weight, stride))
    return _interleaved(gradient[:, 0], phases, stride, padding, image.shape[1:])[:, None]


def _phases(weight: torch.Tensor, stride: Sequence[int]) -> torch.Tensor:
    """Turn a kernel (O, C, h, w) into one for each place between outputs, (stride[0]·stride[1]·C, O, ⌈h/s⌉, ⌈w/s⌉).

    An input is seen through every ``stride``-th number of the kernel alone: which, its place says (Shi et al. 2016,
    "Is the deconvolution layer the same as a convolutional layer?", arXiv:1609.07009).
    """
    down, across = (-(-length // apart) for length, apart in zip(weight.shape[2:], stride, strict=True))
    missing = [0, across * stride[1] - weight.shape[3], 0, down * stride[0] - weight.shape[2]]
    parts = F.pad(weight, missing).view(*weight.shape[:2], down, stride[0], across, stride[1]).flip(2, 4)
    phases = parts.permute(3, 5, 1, 0, 2, 4).reshape(-1, len(weight), down, across)
    return phases.contiguous(memory_format=torch.channels_last)


def _interleaved(
    gradient: torch.Tensor, phases: torch.Tensor, stride: Sequence[int], padding: Sequence[int], shape: Sequence[int]
) -> torch.Tensor:
    """Return the transposed convolution (K, *shape) of (K, O, h, w): a plain one for each place between outputs.

    torch's own takes five times as long where channels are few and the stride is large.
    """
    channels, height, width = shape
    found = F.conv2d(gradient, phases, None, 1, [length - 1 for length in phases.shape[2:]]).permute(0, 2, 3, 1)
    found = found.reshape(*found.shape[:3], *stride, channels).permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2)
    (top, left), (down, across) = padding, found.shape[1:3]
    unseen = [0, 0, 0, max(width + left - across, 0), 0, max(height + top - down, 0)]
    if any(unseen):  # by any output
        found = F.pad(found, unseen)
    return found[:, top : top + height, left : left + width].permute(0, 3, 1, 2)


_RULES: dict[str, _Rule] = {
    "aten.relu.default": _relu,
    "aten.view.default": _view,
    "aten.convolution.default": _convolution,
    "aten.addmm.default": _linear,
    "aten.mm.default": _linear,
}


def _others(step: Step, values: Values) -> list[Any]:
    return [values[slot] for slot in step.slots[1:]]


def _parts(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple | list) else [value]


def _like(value: Any, parts: list[Any]) -> Any:
    return parts if isinstance(value, tuple | list) else parts[0]


def _is_real(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _leaf(value: Any) -> Any:
    return value.detach().clone().requires_grad_() if _is_real(value) else value


def _sum(one: torch.Tensor | None, other: torch.Tensor | None) -> torch.Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other
