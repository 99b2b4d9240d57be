"""The rule for a linear layer on a flattened map: only the boxes of the map that differ are multiplied again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from agentwrap_viewer.program import Values

from .geometry import Field, Ints, spans
from .maps import take
from .values import Map, Plain, Planned, Rows, Site

#: A weight of more numbers than this is not copied into the order of a table: that would take more than it gives.
LARGE = 2**24


def linear_rule(site: Site) -> Planned | None:
    """Plan a linear layer on a flattened map; None for another step."""
    if site.step.node.op not in ("aten.addmm.default", "aten.mm.default"):
        return None
    place = 1 if site.step.node.op == "aten.addmm.default" else 0
    kind = site.kinds[place]
    others = [other for index, other in enumerate(site.kinds) if index != place]
    if not isinstance(kind, Map) or not kind.flat or any(other is not Plain.FIXED for other in others):
        return None
    if len(site.kinds) != place + 2:
        return None
    if site.arguments[place + 1].numel() > LARGE:
        return _on_whole_maps(site, kind, place)
    return _on_boxes(site, kind, place) if kind.field.clean else _on_tables(site, kind, place)


def _on_whole_maps(site: Site, kind: Map, place: int) -> Planned:
    """Lay all maps out as the weight has them."""
    count, call, slots = len(site.masks), site.step.call, site.step.slots
    rows = site.index(kind.field.whole(np.arange(count)))

    def act(values: Values) -> torch.Tensor:
        arguments = [values[slot] for slot in slots]
        maps = take(arguments[place], rows).view(count, kind.field.pixels, -1)
        arguments[place] = maps.transpose(1, 2).reshape(count, -1)
        result: torch.Tensor = call(*arguments)
        return result

    return act, Plain.ROWS


def _on_tables(site: Site, kind: Map, place: int) -> Planned:
    """Lay the weight out as a table without clean rows has the maps."""
    count, slot, weight_slot = len(site.masks), site.step.slots[place], site.step.slots[place + 1]
    bias_slot, keep = site.step.slots[0] if place else None, site.keep
    rows = site.index(kind.field.whole(np.arange(count)))

    def act(values: Values) -> torch.Tensor:
        weight = keep(values, weight_slot, "by line", lambda weight: _by_line(weight, kind))
        maps, matrix = take(values[slot], rows).view(count, -1), weight.flatten(0, 1)
        return maps @ matrix if bias_slot is None else torch.addmm(values[bias_slot], maps, matrix)

    return act, Plain.ROWS


def _on_boxes(site: Site, kind: Map, place: int) -> Planned:
    """Add to the clean result what the changes in each box give, line by line of the box."""
    field, channels, features = kind.field, kind.channels, site.result.shape[1]
    slot, weight_slot = site.step.slots[place], site.step.slots[place + 1]
    jobs = [_Job.of(site, field, channels, box) for box in _boxes(field, float(channels * features), site.costs.group)]
    count, clean_slot, keep = len(site.masks), site.clean(), site.keep

    def act(values: Values) -> torch.Tensor:
        table, clean = values[slot], values[clean_slot]
        weight = keep(values, weight_slot, "by line", lambda weight: _by_line(weight, kind))
        out: torch.Tensor = table.new_empty(count, features)
        for job in jobs:
            out[job.which] = job.product(table, weight, clean)
        return out

    return act, Plain.ROWS


def _by_line(weight: torch.Tensor, kind: Map) -> torch.Tensor:
    """Bring the weight (C·H·W, F) into the order of a table, (H, W·C, F)."""
    (height, width), channels = kind.field.size, kind.channels
    lines = weight.reshape(channels, height, width, -1).permute(1, 2, 0, 3)
    return lines.reshape(height, width * channels, -1).contiguous()


@dataclass(frozen=True)
class _Box:
    """Perturbations that change nothing outside one box: lines [top, bottom), columns [left, right)."""

    which: Ints
    top: int
    bottom: int
    left: int
    right: int


def _boxes(field: Field, cost: float, group_cost: float) -> list[_Box]:
    """Split perturbations into groups that share a box, so that all of it costs about least."""
    boxes = []
    across = float((field.high - field.low)[:, 1].mean())
    for some, top, bottom in spans(field.low[:, 0], field.high[:, 0], cost=cost * across, group_cost=group_cost):
        low, high = field.low[some, 1], field.high[some, 1]
        for which, left, right in spans(low, high, cost=cost * (bottom - top), group_cost=group_cost):
            boxes.append(_Box(some[which], top, bottom, left, right))
    return boxes


@dataclass(frozen=True)
class _Job:
    """The products for one box.

    Attributes:
        which: (n,): the perturbations.
        rows: The rows of the box, for each of them.
        clean: (h·w,): the rows of the box in the clean map.
        lines: The box's first line and that after its last.
        columns: The numbers of each line of the map that are in the box.
        whole: Whether they are all, so that lines follow one another.
    """

    which: torch.Tensor
    rows: Rows
    clean: Rows
    lines: tuple[int, int]
    columns: slice
    whole: bool

    @classmethod
    def of(cls, site: Site, field: Field, channels: int, box: _Box) -> _Job:
        """Find the rows of a box."""
        shape, corner = (box.bottom - box.top, box.right - box.left), np.array([[box.top, box.left]])
        clean = (np.arange(box.top, box.bottom)[:, None] * field.size[1]) + np.arange(box.left, box.right)
        return cls(
            torch.from_numpy(box.which).to(site.masks.device),
            site.index(field.window(box.which, corner.repeat(len(box.which), 0), shape)),
            site.index(clean),
            (box.top, box.bottom),
            slice(box.left * channels, box.right * channels),
            shape[1] == field.size[1],
        )

    def product(self, table: torch.Tensor, weight: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
        """Return the results (n, F): the clean one (F,) and what the changes add to it."""
        changes = take(table, self.rows).view(len(self.which), -1) - take(table, self.clean).reshape(1, -1)
        part = weight[slice(*self.lines), self.columns]
        if self.whole:  # lines follow one another
            return torch.addmm(clean, changes, part.flatten(0, 1))
        first, *others = changes.chunk(len(part), 1)
        result = torch.addmm(clean, first, part[0])
        for changed, line in zip(others, part[1:], strict=True):
            result.addmm_(changed, line)
        return result
