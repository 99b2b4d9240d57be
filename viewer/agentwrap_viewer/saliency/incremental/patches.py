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
from .values import Map, Planned, Rows, Site

#: Most numbers that are brought together for one product: for the sake of memory alone, since several small products
#: take longer than a large one, each waiting for all threads.
CHUNK_NUMBERS = 2**22


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
    """Lay out a convolution's output without rounding sizes; None where nothing is known of its input.

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
    numbers = weight[0].numel()
    pixel = site.costs.window(weight.numel(), numbers, 0)
    return Patches(axes, kind.field, field, site.costs.group + (field.count - field.pixels) * pixel)


def from_patches(site: Site, patches: Patches) -> Planned:
    """Plan a convolution that is multiplied patch by patch."""
    weight = site.arguments[1]
    out_channels, numbers = weight.shape[0], weight[0].numel()
    field, before, axes = patches.field, patches.before, patches.axes
    slot, weight_slot, bias_slot = site.step.slots[:3]
    has_bias, clean_slot, keep = site.arguments[2] is not None, site.clean(), site.keep
    pads, most = any(axis.padding for axis in axes), max(1, CHUNK_NUMBERS // numbers)
    jobs = _jobs(site, patches, most)

    def act(values: Values) -> torch.Tensor:
        table = values[slot]
        if pads:
            table[before.pixels] = 0
        matrix = keep(values, weight_slot, "patches", lambda w: w.permute(2, 3, 1, 0).reshape(numbers, -1).contiguous())
        out: torch.Tensor = table.new_empty(field.count, out_channels)
        out[: field.pixels] = values[clean_slot]
        out[field.pixels] = 0
        for rows, place in jobs:
            under = take(table, rows).view(-1, numbers)
            if has_bias:
                torch.addmm(values[bias_slot], under, matrix, out=out[place])
            else:
                torch.mm(under, matrix, out=out[place])
        return out

    return act, Map(field, out_channels)


def _jobs(site: Site, patches: Patches, most: int) -> list[tuple[Rows, slice]]:
    """Return, for runs of at most ``most`` outputs, the rows under the kernel and where the results go."""
    rows = np.concatenate([_under(patches, group) for group in patches.field.groups])
    start = patches.field.pixels + 1
    return [
        (site.index(rows[first : first + most]), slice(start + first, start + min(first + most, len(rows))))
        for first in range(0, len(rows), most)
    ]


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
