"""A convolution as one product: what lies under the kernel side by side, for each output that differs.

Windows of equal size are computed with few numbers moved, but each size is a call of its own, and sizes are rounded up
to have few of them. Here nothing is rounded, but each number is moved once for each output that sees it. That is done
a block of outputs at a time, so many that what was brought together is still in the cache when it is multiplied.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from agentwrap_viewer.program import Values

from .changes import LOW, Differences
from .costs import Costs
from .geometry import Axis, Field, Group, Ints, grouped
from .values import Map, Planned, Site

#: Most numbers that are brought together at a time, where that is no processor with a cache for each thread.
BLOCK_NUMBERS_ELSEWHERE = 2**26


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
    """Lay out a convolution's output without rounding sizes; None where its input has no clean map.

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
    outputs = field.count - field.pixels - 1
    cost = site.costs.group + outputs * site.costs.window(weight.numel(), weight[0].numel(), 0)
    return Patches(axes, kind.field, field, cost)


def from_patches(site: Site, patches: Patches) -> Planned:
    """Plan a convolution that is multiplied patch by patch."""
    weight = site.arguments[1]
    out_channels, numbers = weight.shape[0], weight[0].numel()
    pixels, padding_row = patches.field.pixels, patches.before.pixels  # what is run holds no layout
    slot, weight_slot, bias_slot = site.step.slots[:3]
    has_bias, clean_slot, keep = site.arguments[2] is not None, site.clean(), site.keep
    pads = any(axis.padding for axis in patches.axes)
    rows = np.concatenate([_under(patches, group) for group in patches.field.groups])
    pieces, length = _cut(len(rows), numbers, site.masks.device, site.costs)
    blocks = _blocks(site, rows, pieces * length)
    field = replace(patches.field, count=pixels + 1 + len(blocks) * pieces * length)  # with what fills the last one
    count = field.count
    differences = Differences(site, patches.before, slot) if site.low else None
    kept_as, of = ("low patches", LOW) if site.low else ("patches", weight.dtype)
    places = _pixels(site, field) if site.low else None

    def act(values: Values) -> torch.Tensor:
        table, clean = values[slot], values[clean_slot]
        if differences is not None:
            table = differences.of(table, values)
        elif pads:
            table[padding_row] = 0
        matrix = keep(values, weight_slot, kept_as, lambda w: _matrix(w.to(of)))
        matrices = matrix.expand(pieces, -1, -1)
        out: torch.Tensor = clean.new_empty(count, out_channels)
        out[:pixels] = clean
        out[pixels] = 0
        if places is not None:
            torch.index_select(clean, 0, places, out=out[pixels + 1 :])
        under = table.new_empty(len(blocks[0]), table.shape[1])
        for rows, results in zip(blocks, out[pixels + 1 :].view(len(blocks), pieces, length, -1), strict=True):
            torch.index_select(table, 0, rows, out=under)
            if differences is not None:
                results += torch.bmm(under.view(pieces, length, -1), matrices)
            elif has_bias:
                torch.baddbmm(values[bias_slot], under.view(pieces, length, -1), matrices, out=results)
            else:
                torch.bmm(under.view(pieces, length, -1), matrices, out=results)
        return out

    return act, Map(field, out_channels)


def _pixels(site: Site, field: Field) -> torch.Tensor:
    """Return the pixels of all rows after the clean ones."""
    index = torch.from_numpy(field.pixel()[field.pixels + 1 :].astype(np.int32)).to(site.masks.device)
    return site.hold(index)


def _matrix(weight: torch.Tensor) -> torch.Tensor:
    """Return a weight (O, C, h, w) as what lies under the kernel is multiplied by it, (h·w·C, O)."""
    return weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous()


def _cut(outputs: int, numbers: int, device: torch.device, costs: Costs) -> tuple[int, int]:
    """Return of how many products a block consists, and of how many outputs each of them.

    One product for all, 64 channels wide, would be cut badly: on two cores 200 GFLOP/s in place of 280.

    Args:
        outputs: How many there are in all.
        numbers: How many lie under the kernel.
        device: Where.
        costs: What blocks and pieces are best there.
    """
    if device.type != "cpu":
        blocks = max(1, -(-outputs * numbers // BLOCK_NUMBERS_ELSEWHERE))
        return 1, -(-outputs // blocks)
    threads = torch.get_num_threads()
    blocks = max(1, round(outputs * numbers / (threads * costs.block)))
    pieces = max(1, round(outputs / blocks / costs.piece / threads)) * threads
    return pieces, -(-outputs // (blocks * pieces))


def _blocks(site: Site, rows: Ints, outputs: int) -> list[torch.Tensor]:
    """Cut rows (all outputs, taps) into indices for so many outputs each, filled up with the last output."""
    missing = -len(rows) % outputs
    filled = np.concatenate([rows, np.repeat(rows[-1:], missing, 0)]).astype(np.int32)
    index = torch.from_numpy(filled).to(site.masks.device)
    return list(site.hold(index).view(-1, outputs * rows.shape[1]))


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
