"""What gradients say that each mask changes: all masks at once, from one pass back through the program."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F

from agentwrap_viewer.program import Program, Step, Values
from agentwrap_viewer.replica import Prepared

from .image import ORDER, is_affine, moved


@runtime_checkable
class Summing(Protocol):
    """Masks under which planes can be summed without making them."""

    def sums(self, planes: torch.Tensor) -> torch.Tensor:
        """Return the sum of each plane (…, H, W) under each mask, (…, count)."""


@dataclass(frozen=True)
class _Entrance:
    """The first convolution of an image that nothing else looks at.

    Attributes:
        before: What the image passes on the way there, each pixel by itself.
        convolution: The convolution.
        after: What is computed from its result, and from other inputs.
        axes: Where height and width are in its argument.
    """

    before: tuple[Step, ...]
    convolution: Step
    after: tuple[Step, ...]
    axes: tuple[int, int]

    def change(self, run: Prepared, clean: Values, change: torch.Tensor) -> torch.Tensor:
        """Return what a change of the image becomes on the way: the difference that it makes, since all is affine."""
        image, values = run.program.inputs[run.place], [*clean]
        values[image] = clean[image] + change
        for step in self.before:
            values[step.out] = step.call(*[values[slot] for slot in step.slots])
        difference: torch.Tensor = values[self.convolution.slots[0]] - clean[self.convolution.slots[0]]
        return difference


def slopes(
    run: Prepared, clean: Values, change: torch.Tensor, axes: tuple[int, int], directions: Mapping[int, torch.Tensor]
) -> torch.Tensor | None:
    """Return how fast outputs change when pixels of the image go towards ``image + change``.

    Args:
        run: The program, prepared for one row.
        clean: Its values for the image. They stay as they are.
        change: What a mask of ones adds to the image, (1, *shape).
        axes: Where its height and width are.
        directions: By slot of an output, what is looked at: (K, numbers of that output). Row k of the result is about
            the sum of the outputs' products with the directions' rows k.

    Returns:
        (K, H, W): the product with a mask, summed, is how much that mask adds, to first order. None where the program
        has no derivative.
    """
    entrance = _entrance(run.program, run.place, axes, clean)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            if entrance is not None:
                axes, planes = entrance.axes, _by_layer(run, clean, entrance, change, directions)
            else:
                image = run.program.inputs[run.place]
                product = _gradients(run.program.steps, clean, image, directions)[:, 0] * change
                others = [axis for axis in range(1, product.ndim) if axis not in axes]
                planes = product.sum(others) if others else product
    except RuntimeError:  # what torch says of what has no derivative
        return None
    return planes if axes[0] < axes[1] else planes.mT


def _by_layer(
    run: Prepared, clean: Values, entrance: _Entrance, change: torch.Tensor, directions: Mapping[int, torch.Tensor]
) -> torch.Tensor:
    """Go back to the first convolution's result, and on from there with channels summed before they are laid out.

    torch's own way back through a convolution of few channels and a large stride takes longer than all the rest.
    """
    step = entrance.convolution
    gradients = _gradients(entrance.after, clean, step.out, directions)[:, 0]
    weight, _, stride, padding, dilation = (clean[slot] for slot in step.slots[1:6])
    columns = weight.flatten(1).T @ gradients.flatten(2)  # (K, C·taps, pixels)
    sliding = {"kernel_size": weight.shape[2:], "dilation": dilation, "padding": padding, "stride": stride}
    columns *= F.unfold(entrance.change(run, clean, change), **sliding)
    by_tap = columns.unflatten(1, (weight.shape[1], -1)).sum(1)
    planes: torch.Tensor = F.fold(by_tap, clean[step.slots[0]].shape[2:], **sliding)[:, 0]
    return planes


def _gradients(
    steps: tuple[Step, ...], clean: Values, slot: int, directions: Mapping[int, torch.Tensor]
) -> torch.Tensor:
    """Return gradients with respect to what is in a slot, one for each direction, (K, 1, *shape)."""
    values = [*clean]
    leaf: torch.Tensor = clean[slot].detach().clone().requires_grad_()
    values[slot] = leaf
    differing = {slot}
    for step in steps:
        if not differing.isdisjoint(step.slots):
            values[step.out] = step.call(*[values[slot] for slot in step.slots])
            differing.add(step.out)
    reached = {slot: rows for slot, rows in directions.items() if values[slot].requires_grad}
    rows = len(next(iter(directions.values())))
    if not reached:
        return leaf.new_zeros(rows, *leaf.shape)
    outputs = [values[slot] for slot in reached]
    along = [rows.reshape(-1, *output.shape) for output, rows in zip(outputs, reached.values(), strict=True)]
    with warnings.catch_warnings(action="ignore"):  # an operator that goes row by row inside is slow, not wrong
        (found,) = torch.autograd.grad(outputs, leaf, along, is_grads_batched=True, allow_unused=True)
    return leaf.new_zeros(rows, *leaf.shape) if found is None else found


def _entrance(program: Program, place: int, axes: tuple[int, int], clean: Values) -> _Entrance | None:
    """Find the convolution through which alone the image goes; None where there is none."""
    carried, varying = {program.inputs[place]}, {*program.inputs, *(step.out for step in program.steps)}
    before: list[Step] = []
    after: list[Step] = []
    convolution: Step | None = None
    for step in program.steps:
        op, others = step.node.op, step.slots[1:]
        if carried.isdisjoint(step.slots) or op == "aten.sym_size.int":
            after.append(step)
        elif step.slots[0] not in carried or not varying.isdisjoint(others):
            return None
        elif is_affine(op, [clean[slot] for slot in others]):
            before.append(step)
            carried.add(step.out)
            if op == ORDER:
                axes = moved(axes, clean[others[0]])
        elif convolution is None and _is_plain(step, clean) and set(axes) == {2, 3}:
            convolution = step
        else:
            return None
    return None if convolution is None else _Entrance(tuple(before), convolution, tuple(after), axes)


def _is_plain(step: Step, clean: Values) -> bool:
    """Whether a step is a convolution in 2-D, neither transposed nor in groups."""
    if step.node.op != "aten.convolution.default":
        return False
    arguments = [clean[slot] for slot in step.slots]
    return arguments[1].ndim == 4 and not arguments[6] and arguments[8] == 1
