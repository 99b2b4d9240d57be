"""Rules for feature maps of which only windows differ: convolution, pooling, and what works on each pixel by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from agentwrap_viewer.program import Values

from .changes import LOW, Differences
from .choices import Convolution, channels_last
from .geometry import Axis, Field, Group, Ints, grouped
from .patches import from_patches, patches_of
from .tables import take
from .values import Map, Plain, Planned, Rows, Site

#: Operators that work on each pixel by itself, with weights that are one number for all or for a channel.
_POINTWISE = {
    f"aten.{name}"
    for name in """
    relu.default elu.default leaky_relu.default gelu.default tanh.default sigmoid.default hardtanh.default clamp.default
    neg.default abs.default exp.default sqrt.default rsqrt.default pow.Tensor_Scalar _to_copy.default clone.default
    mul.Tensor div.Tensor add.Tensor sub.Tensor mul.Scalar div.Scalar add.Scalar sub.Scalar maximum.default
    minimum.default _native_batch_norm_legit_no_training.default
    """.split()
}
_BATCH_NORM = "aten._native_batch_norm_legit_no_training.default"

Layer = Callable[[Values, torch.Tensor, Sequence[int]], torch.Tensor]


def map_rule(site: Site) -> Planned | None:
    """Plan a step with a feature map among its arguments; None where there is no rule."""
    op, kind = site.step.node.op, site.kinds[0]
    if op in _POINTWISE:
        return _pointwise(site)
    if not isinstance(kind, Map) or kind.flat or not site.rest_is_fixed:
        return None
    if op == "aten.convolution.default":
        return _convolution(site, kind)
    if op == "aten.max_pool2d_with_indices.default":
        return _max_pool(site, kind)
    if op == "aten.mean.dim":
        return _mean(site, kind)
    if op == "getitem" and site.arguments[1] == 0:
        (slot, _) = site.step.slots
        return (lambda values: values[slot][0]), kind
    return None


def flattened(site: Site) -> Planned | None:
    """Plan a reshape that lays each perturbation's map out in a row; None where it is another."""
    kind = site.kinds[0]
    assert isinstance(kind, Map)
    if site.step.node.op != "aten.view.default" or site.result.shape != (1, kind.channels * kind.field.pixels):
        return None
    slot = site.step.slots[0]
    return (lambda values: values[slot]), replace(kind, flat=True)


def convolution_axes(site: Site) -> tuple[Axis, Axis] | None:
    """Return the axes of a plain convolution in 2-D; None for a transposed, grouped or other one."""
    weight, _, stride, padding, dilation, transposed, _, groups = site.arguments[1:9]
    if weight.ndim != 4 or transposed or groups != 1:
        return None
    return _axes(site, weight.shape[2:], stride, padding, dilation)


def _axes(site: Site, kernel: Any, stride: Any, padding: Any, dilation: Any) -> tuple[Axis, Axis]:
    height, width = (
        Axis(
            kernel[i % len(kernel)],
            stride[i % len(stride)],
            padding[i % len(padding)],
            dilation[i % len(dilation)],
            length,
        )
        for i, length in enumerate(site.result.shape[2:4])
    )
    return height, width


def _convolution(site: Site, kind: Map) -> Planned | None:
    axes = convolution_axes(site)
    if axes is None:
        return None
    _, weight_slot, bias_slot = site.step.slots[:3]
    weight, _, stride, _, dilation = site.arguments[1:6]
    keep, low = site.keep, site.low
    layout = _layout(site, kind, axes, out_channels=weight.shape[0], cost=weight.numel())
    patches = patches_of(site, kind, axes, layout.low, layout.high)
    if patches is not None and patches.cost < layout.cost:
        return from_patches(site, patches)

    last = _is_best_last(site, axes, layout.field)
    order = torch.channels_last if last else torch.contiguous_format
    kept_as, of = (f"low, {order}", LOW) if low else (str(order), weight.dtype)

    def layer(values: Values, windows: torch.Tensor, padding: Sequence[int]) -> torch.Tensor:
        weight = keep(values, weight_slot, kept_as, lambda w: w.to(of).contiguous(memory_format=order))
        bias = None if low else values[bias_slot]  # it changes nothing
        return F.conv2d(windows.contiguous(memory_format=order), weight, bias, stride, padding, dilation)

    if low:
        return _of_changes(site, kind, axes, layer, layout, out_channels=weight.shape[0])
    return _windowed(site, kind, axes, layer, layout, out_channels=weight.shape[0], outside=0.0)


def _is_best_last(site: Site, axes: tuple[Axis, Axis], field: Field) -> bool:
    """Measure whether a convolution is to be given windows with channels last, by the size that most of them have."""
    weight = site.arguments[1]
    height, width = max(field.groups, key=lambda group: len(group.which)).shape
    window = axes[0].needed(height), axes[1].needed(width)
    stride, dilation = ((axes[0].stride, axes[1].stride), (axes[0].dilation, axes[1].dilation))
    of = LOW if site.low else weight.dtype
    threads, shape = torch.get_num_threads(), tuple(weight.shape)
    return channels_last(Convolution(site.masks.device, threads, of, shape, stride, dilation, window))


def _max_pool(site: Site, kind: Map) -> Planned | None:
    kernel: list[int]
    given: list[Any] = site.arguments[1:]
    kernel, stride, padding, dilation, ceil = given + [[], [], [0], [1], False][len(given) :]
    stride = stride or kernel
    if ceil:
        return None
    axes = _axes(site, kernel, stride, padding, dilation)

    def layer(values: Values, windows: torch.Tensor, padding: Sequence[int]) -> torch.Tensor:
        pooled: torch.Tensor = F.max_pool2d(windows, kernel, stride, list(padding), dilation)
        return pooled

    cost = kind.channels * axes[0].kernel * axes[1].kernel
    layout = _layout(site, kind, axes, out_channels=kind.channels, cost=cost)
    act, out = _windowed(site, kind, axes, layer, layout, out_channels=kind.channels, outside=-math.inf)
    return (lambda values: (act(values),)), out


def _mean(site: Site, kind: Map) -> Planned | None:
    """Plan the mean of each channel over the whole map."""
    _, axes, keeps, *others = (*site.arguments, False)
    if {axis % 4 for axis in axes} != {2, 3} or any(other is not None for other in others[1:]):
        return None
    count, slot = len(site.masks), site.step.slots[0]
    rows = site.index(kind.field.whole(np.arange(count)))

    def act(values: Values) -> torch.Tensor:
        means = take(values[slot], rows).view(count, kind.field.pixels, -1).mean(1)
        return means[:, :, None, None] if keeps else means

    return act, Plain.ROWS


@dataclass(frozen=True)
class _Job:
    """A group of windows: the rows that it needs, the shape they are given, and where its results go."""

    rows: Rows
    shape: tuple[int, ...]
    padding: tuple[int, ...]
    out: slice

    def windows(self, table: torch.Tensor) -> torch.Tensor:
        """Return what the layer is given, (n, C, h, w)."""
        return take(table, self.rows).view(*self.shape, -1).permute(0, 3, 1, 2)


def _windowed(
    site: Site,
    kind: Map,
    axes: tuple[Axis, Axis],
    layer: Layer,
    layout: _Layout,
    *,
    out_channels: int,
    outside: float,
) -> Planned:
    """Plan a layer that looks at windows; ``outside`` is what it takes for the padding."""
    before, slot, field = kind.field, site.step.slots[0], layout.field
    jobs = [_job(site, before, group, axes) for group in field.groups]
    pads = before.clean and any(axis.padding for axis in axes)
    clean_slot = site.clean() if field.clean else None
    count, pixels, padding_row = field.count, field.pixels, before.pixels  # what is run holds no layout

    def act(values: Values) -> torch.Tensor:
        table = values[slot]
        if pads:
            table[padding_row] = outside
        if clean_slot is None and len(jobs) == 1:
            return _rows(layer(values, jobs[0].windows(table), jobs[0].padding))
        out: torch.Tensor = table.new_empty(count, out_channels)
        if clean_slot is not None:
            out[:pixels] = values[clean_slot]
            out[pixels] = 0
        for job in jobs:
            out[job.out] = _rows(layer(values, job.windows(table), job.padding))
        return out

    return act, Map(field, out_channels)


def _of_changes(
    site: Site, kind: Map, axes: tuple[Axis, Axis], layer: Layer, layout: _Layout, *, out_channels: int
) -> Planned:
    """Plan a convolution of what differs, in windows, which is added to the clean result."""
    slot, field = site.step.slots[0], layout.field
    differences, jobs = (
        Differences(site, kind.field, slot),
        [_job(site, kind.field, group, axes) for group in field.groups],
    )
    pixel = field.pixel()
    places = [site.index(pixel[job.out]) for job in jobs]
    count, pixels, begins_clean, clean_slot = field.count, field.pixels, field.clean, site.clean()

    def act(values: Values) -> torch.Tensor:
        changed, clean = differences.of(values[slot], values), values[clean_slot]
        out: torch.Tensor = clean.new_empty(count, out_channels)
        if begins_clean:
            out[:pixels] = clean
            out[pixels] = 0
        for job, place in zip(jobs, places, strict=True):
            product = _rows(layer(values, job.windows(changed), job.padding))
            torch.add(take(clean, place), product, out=out[job.out])
        return out

    return act, Map(field, out_channels)


@dataclass(frozen=True)
class _Layout:
    """A layer's output in windows, or in whole maps.

    Attributes:
        low: (N, 2): where it begins to differ.
        high: (N, 2): where that ends.
        field: The layout.
        cost: What that takes.
    """

    low: Ints
    high: Ints
    field: Field
    cost: float


def _layout(site: Site, kind: Map, axes: tuple[Axis, Axis], *, out_channels: int, cost: int) -> _Layout:
    """Lay out a layer's output: in windows where that costs less than whole maps, of which nothing is copied."""
    before, size = kind.field, (axes[0].length, axes[1].length)
    ends = [axis.touched(before.low[:, place], before.high[:, place]) for place, axis in enumerate(axes)]
    low, high = (np.stack([end[which] for end in ends], 1) for which in (0, 1))
    group_cost, read = site.costs.group, kind.channels * axes[0].stride * axes[1].stride
    whole_pixel = site.costs.window(cost, read if before.clean else 0, 0)
    whole_cost = group_cost + len(low) * size[0] * size[1] * whole_pixel
    if before.clean:
        pixel = site.costs.window(cost, read, 2 * out_channels)  # they are read again by the next layer
        field = grouped(low, high, size, cost=pixel, group_cost=group_cost, clean=True)
        window_cost = sum(group_cost + group.count * pixel for group in field.groups)
        if window_cost < whole_cost:
            return _Layout(low, high, field, window_cost)
    none, all_of_it = np.zeros_like(low), np.tile(size, (len(low), 1))
    whole = grouped(none, all_of_it, size, cost=whole_pixel, group_cost=group_cost, clean=False)
    return _Layout(low, high, whole, whole_cost)


def _job(site: Site, before: Field, group: Group, axes: tuple[Axis, Axis]) -> _Job:
    out = slice(group.start, group.start + group.count)
    if group.shape == (axes[0].length, axes[1].length):
        rows = before.whole(group.which)
        return _Job(site.index(rows), rows.shape, tuple(axis.padding for axis in axes), out)
    corner = np.stack([axis.source(group.corner[:, i]) for i, axis in enumerate(axes)], 1)
    rows = before.window(group.which, corner, (axes[0].needed(group.shape[0]), axes[1].needed(group.shape[1])))
    return _Job(site.index(rows), rows.shape, (0, 0), out)


def _rows(maps: torch.Tensor) -> torch.Tensor:
    """Return (n, C, h, w) as rows (n·h·w, C)."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def _pointwise(site: Site) -> Planned | None:
    maps = [place for place, kind in enumerate(site.kinds) if isinstance(kind, Map)]
    kinds = [kind for kind in site.kinds if isinstance(kind, Map)]
    if any(kind.flat for kind in kinds) or not all(
        _fits_rows(site, place) for place in range(len(site.kinds)) if place not in maps
    ):
        return None
    if len(kinds) == 1:
        return _on_table(site, maps[0]), kinds[0]
    return _on_two_tables(site, maps, kinds) if len(kinds) == 2 else None


def _fits_rows(site: Site, place: int) -> bool:
    """Whether an argument means the same for a table (rows, C, 1, 1) as for a map (N, C, H, W)."""
    if site.kinds[place] is not Plain.FIXED:
        return False
    argument = site.arguments[place]
    if not isinstance(argument, torch.Tensor) or argument.ndim == 0 or site.step.node.op == _BATCH_NORM:
        return True
    shape = (1,) * (4 - argument.ndim) + tuple(argument.shape)
    return len(shape) == 4 and shape[0] == shape[2] == shape[3] == 1


def _on_table(site: Site, place: int) -> Callable[[Values], Any]:
    call, slots = site.step.call, site.step.slots
    if site.step.node.op == "aten.relu.default" and slots[0] in site.step.dead:
        return lambda values: values[slots[0]].relu_()  # nobody else looks at it

    def act(values: Values) -> Any:
        arguments = [values[slot] for slot in slots]
        arguments[place] = arguments[place][:, :, None, None]
        result = call(*arguments)
        return tuple(part[:, :, 0, 0] for part in result[:1]) if isinstance(result, tuple) else result[:, :, 0, 0]

    return act


def _on_two_tables(site: Site, places: list[int], kinds: list[Map]) -> Planned | None:
    call, slots = site.step.call, site.step.slots
    if kinds[0].field is kinds[1].field:
        return (lambda values: call(*[values[slot] for slot in slots])), kinds[0]
    large, small = (0, 1) if kinds[0].field.covers(kinds[1].field) else (1, 0)
    if not kinds[large].field.covers(kinds[small].field):
        return None
    rows = site.index(kinds[large].field.in_place_of(kinds[small].field))

    def act(values: Values) -> Any:
        arguments = [values[slot] for slot in slots]
        arguments[places[small]] = take(arguments[places[small]], rows)
        return call(*arguments)

    return act, kinds[large]
