"""The rule for a linear layer on a flattened map: only the boxes of the map that differ are multiplied again."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from agentwrap_viewer.program import Values

from .changes import LOW, low
from .geometry import Field, Ints, spans
from .tables import take
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
    if len(site.kinds) != place + 2 or site.step.node.kwargs:
        return None
    if site.low and (site.arguments[place + 1].numel() > LARGE or not kind.field.clean):
        return _on_changes(site, kind, place)
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


def _on_changes(site: Site, kind: Map, place: int) -> Planned:
    """Lay all maps out as the weight has them, multiply what differs in low precision, and add the clean result."""
    count, slot, weight_slot = len(site.masks), site.step.slots[place], site.step.slots[place + 1]
    rows, keep = site.index(kind.field.whole(np.arange(count))), site.keep
    before_slot, clean_slot = site.clean(slot), site.clean()

    def act(values: Values) -> torch.Tensor:
        weight = keep(values, weight_slot, "low", low)
        maps = take(values[slot], rows).view(count, kind.field.pixels, -1).transpose(1, 2).reshape(count, -1)
        result: torch.Tensor = values[clean_slot] + (maps - values[before_slot]).to(LOW) @ weight
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
    """Add to the clean result what the changes give, line by line of the map.

    Lines are in the outer loop: what belongs to one line of a large weight stays in the cache while all perturbations
    that touch it are multiplied by it.
    """
    field, channels, features = kind.field, kind.channels, site.result.shape[1]
    slot, weight_slot = site.step.slots[place], site.step.slots[place + 1]
    strips = _strips(site, field, channels, float(channels * features))
    slabs = sorted(((slab, strip) for strip in strips for slab in strip.slabs), key=lambda pair: pair[0].top)
    order = torch.from_numpy(np.concatenate([strip.which for strip in strips]).argsort()).to(site.masks.device)
    count, clean_slot, keep = len(site.masks), site.clean(), site.keep
    kept_as, of = ("low, by line", LOW) if site.low else ("by line", site.arguments[place + 1].dtype)

    def act(values: Values) -> torch.Tensor:
        table, clean = values[slot], values[clean_slot]
        weight = keep(values, weight_slot, kept_as, lambda weight: _by_line(weight.to(of), kind))
        ordered: torch.Tensor = clean.repeat(count, 1)  # a copy, of one row too
        changes = {strip: strip.changes(table).to(of) for strip in strips}
        for slab, strip in slabs:
            changed = changes[strip][slab.first : slab.beyond, slab.top - strip.top : slab.bottom - strip.top]
            lines = weight[slab.top : slab.bottom, strip.columns].flatten(0, 1)
            sums = ordered[strip.start + slab.first : strip.start + slab.beyond]
            if of is LOW:
                sums += changed.flatten(1) @ lines
            else:
                sums.addmm_(changed.flatten(1), lines)
        return ordered.index_select(0, order)

    return act, Plain.ROWS


def _by_line(weight: torch.Tensor, kind: Map) -> torch.Tensor:
    """Bring the weight (C·H·W, F) into the order of a table, (H, W·C, F)."""
    (height, width), channels = kind.field.size, kind.channels
    lines = weight.reshape(channels, height, width, -1).permute(1, 2, 0, 3)
    return lines.reshape(height, width * channels, -1).contiguous()


@dataclass(frozen=True)
class _Slab:
    """Lines [top, bottom) of the map, and those perturbations of a strip, [first, beyond), that may touch them."""

    top: int
    bottom: int
    first: int
    beyond: int


@dataclass(frozen=True, eq=False)
class _Strip:
    """Perturbations that change nothing outside some columns of the map.

    Attributes:
        which: (n,): the perturbations, in the order in which they reach down the map.
        start: The place of the first of them in the order of all strips.
        top: The first line that any of them touches.
        lines: How many lines there are to the last.
        rows: The rows (n, lines, w) of the strip, for each of them.
        clean: The rows (lines, w) of the strip in the clean map.
        columns: Which numbers of each line of the map are in the strip.
        slabs: What is to be multiplied.
    """

    which: Ints
    start: int
    top: int
    lines: int
    rows: Rows
    clean: Rows
    columns: slice
    slabs: tuple[_Slab, ...]

    def changes(self, table: torch.Tensor) -> torch.Tensor:
        """Return how much the strip differs from the clean one, (n, lines, w·C)."""
        clean = take(table, self.clean)
        changes = take(table, self.rows).view(len(self.which), *clean.shape) - clean
        return changes.view(len(self.which), self.lines, self.columns.stop - self.columns.start)


def _strips(site: Site, field: Field, channels: int, cost: float) -> list[_Strip]:
    """Split perturbations into strips, so that all of it costs about least."""
    down = float((field.high - field.low)[:, 0].mean())
    parts = spans(field.low[:, 1], field.high[:, 1], cost=cost * down, group_cost=site.costs.group)
    strips, start = list[_Strip](), 0
    for some, left, right in parts:
        which = some[np.lexsort((field.high[some, 0], field.low[some, 0]))]
        low, high = field.low[which, 0], field.high[which, 0]
        top, bottom = int(low.min()), int(high.max())
        shape, corner = (bottom - top, right - left), np.array([[top, left]])
        rows = field.window(which, corner.repeat(len(which), 0), shape)
        clean = np.arange(top, bottom)[:, None] * field.size[1] + np.arange(left, right)
        columns = slice(left * channels, right * channels)
        slabs = _slabs(low, high, merged=right - left == field.size[1])
        strips.append(_Strip(which, start, top, bottom - top, site.index(rows), site.index(clean), columns, slabs))
        start += len(which)
    return strips


def _slabs(low: Ints, high: Ints, *, merged: bool) -> tuple[_Slab, ...]:
    """List lines and who may touch them; ``merged``: lines next to each other together where they are the same."""
    slabs = list[_Slab]()
    for line in range(int(low.min(initial=0)), int(high.max(initial=0))):
        touching = np.flatnonzero((low <= line) & (line < high))
        if not len(touching):
            continue
        slab = _Slab(line, line + 1, int(touching[0]), int(touching[-1]) + 1)
        last = slabs[-1] if slabs else slab
        if merged and slabs and (last.bottom, last.first, last.beyond) == (line, slab.first, slab.beyond):
            slabs[-1] = replace(last, bottom=line + 1)
        else:
            slabs.append(slab)
    return tuple(slabs)
