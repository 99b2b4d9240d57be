"""A convolution as one product: what lies under the kernel side by side, for each output that differs.

Windows of equal size are computed with few numbers moved, but each size is a call of its own, and sizes are rounded up
to have few of them. Here nothing is rounded, and one product serves all; but each number is moved once for each output
that sees it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from agentwrap_viewer.program import Values

from .geometry import Axis, Field, Group, Ints, grouped
from .tables import take
from .values import Map, Planned, Site

#: Most numbers that are brought together (2 MiB): no more than stay in the cache. Of 25 masks on the Nature CNN this
#: takes less than windows do, of all 289 it was no faster.
MOST_NUMBERS = 2**19


@dataclass(frozen=True)
class Patches:
    """A convolution's output in exact boxes.

    Attributes:
        axes: Of the convolution.
        before: The layout of what it is given.
        field: The layout of what it gives.
        cost: What that takes.
    """

    axes: tuple[Axis, Axis]
    before: Field
    field: Field
    cost: float


def patches_of(site: Site, kind: Map, axes: tuple[Axis, Axis], low: Ints, high: Ints) -> Patches | None:
    """Lay out a convolution's output without rounding sizes; None where that is too much to bring together.

    Args:
        site: The convolution.
        kind: Its input.
        axes: Its axes.
        low: (N, 2): where outputs begin to differ.
        high: (N, 2): where that ends.
    """
    if not kind.field.clean:
        return None
    weight = site.arguments[1]
    field = grouped(low, high, (axes[0].length, axes[1].length), cost=1, group_cost=0, clean=True)
    numbers, outputs = weight[0].numel(), field.count - field.pixels - 1
    if outputs * numbers > MOST_NUMBERS:
        return None
    cost = site.costs.group + outputs * site.costs.window(weight.numel(), numbers, 0)
    return Patches(axes, kind.field, field, cost)


def from_patches(site: Site, patches: Patches) -> Planned:
    """Plan a convolution that is multiplied patch by patch."""
    weight = site.arguments[1]
    out_channels, numbers = weight.shape[0], weight[0].numel()
    field, axes = patches.field, patches.axes
    count, pixels, padding_row = field.count, field.pixels, patches.before.pixels  # what is run holds no layout
    slot, weight_slot, bias_slot = site.step.slots[:3]
    has_bias, clean_slot, keep = site.arguments[2] is not None, site.clean(), site.keep
    pads = any(axis.padding for axis in axes)
    rows = site.index(np.concatenate([_under(patches, group) for group in field.groups]))

    def act(values: Values) -> torch.Tensor:
        table = values[slot]
        if pads:
            table[padding_row] = 0
        matrix = keep(values, weight_slot, "patches", lambda w: w.permute(2, 3, 1, 0).reshape(numbers, -1).contiguous())
        out: torch.Tensor = table.new_empty(count, out_channels)
        out[:pixels] = values[clean_slot]
        out[pixels] = 0
        under, differing = take(table, rows).view(-1, numbers), out[pixels + 1 :]
        if has_bias:
            torch.addmm(values[bias_slot], under, matrix, out=differing)
        else:
            torch.mm(under, matrix, out=differing)
        return out

    return act, Map(field, out_channels)


def _under(patches: Patches, group: Group) -> Ints:
    """Return the rows under the kernel of each output of a group, (outputs, taps)."""
    axes = patches.axes
    corner = np.stack([axis.source(group.corner[:, place]) for place, axis in enumerate(axes)], 1)
    down, across = (
        np.arange(length)[:, None] * axis.stride + np.arange(axis.kernel) * axis.dilation
        for length, axis in zip(group.shape, axes, strict=True)
    )
    needed = (axes[0].needed(group.shape[0]), axes[1].needed(group.shape[1]))
    rows = patches.before.window(group.which, corner, needed)
    under: Ints = rows[:, down[:, None, :, None], across[None, :, None, :]]
    return under.reshape(-1, axes[0].kernel * axes[1].kernel)
