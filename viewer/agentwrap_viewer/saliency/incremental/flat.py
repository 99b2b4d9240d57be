"""The rule for a linear layer on a flattened map: only the lines of the map that differ are multiplied again."""

from __future__ import annotations

import numpy as np
import torch

from agentwrap_viewer.program import Values

from .geometry import Field, Ints, spans
from .maps import row_index, take
from .values import Map, Plain, Planned, Site


def linear_rule(site: Site) -> Planned | None:
    """Plan a linear layer on a flattened map; None for another step."""
    if site.step.node.op not in ("aten.addmm.default", "aten.mm.default"):
        return None
    with_bias = site.step.node.op == "aten.addmm.default"
    place = 1 if with_bias else 0
    kind = site.kinds[place]
    others = [other for index, other in enumerate(site.kinds) if index != place]
    if not isinstance(kind, Map) or not kind.flat or any(other is not Plain.FIXED for other in others):
        return None
    if len(site.kinds) != place + 2:
        return None
    return _linear(site, kind, place)


def _lines(field: Field, which: Ints, first: int, beyond: int) -> Ints:
    """Return the rows (n, lines, W) of the lines [first, beyond) of whole maps."""
    corner = np.tile((first, 0), (len(which), 1))
    return field.window(which, corner, (beyond - first, field.size[1]))


def _linear(site: Site, kind: Map, place: int) -> Planned:
    field, channels, count = kind.field, kind.channels, len(site.masks)
    (height, width), features = field.size, site.result.shape[1]
    slot, weight_slot = site.step.slots[place], site.step.slots[place + 1]
    bias_slot = site.step.slots[0] if place else None
    device = site.masks.device
    jobs = [
        (row_index(_lines(field, which, first, beyond), device), torch.from_numpy(which).to(device), first, beyond)
        for which, first, beyond in spans(
            field.low[:, 0], field.high[:, 0], cost=float(width * channels * features), group_cost=site.costs.group
        )
    ]

    def by_line(weight: torch.Tensor) -> torch.Tensor:
        """Bring the weight (C·H·W, F) into the order of a table, (H, W·C, F)."""
        lines = weight.reshape(channels, height, width, features).permute(1, 2, 0, 3)
        return lines.reshape(height, width * channels, features).contiguous()

    def act(values: Values) -> torch.Tensor:
        table = values[slot]
        weight = site.keep(values, weight_slot, "by line", by_line)
        bias = values[bias_slot] if bias_slot is not None else table.new_zeros(features)
        out: torch.Tensor = table.new_empty(count, features)
        for rows, which, first, beyond in jobs:
            unchanged = bias
            for start, stop in ((0, first), (beyond, height)):
                if stop > start:
                    clean = table[start * width : stop * width].reshape(1, -1)
                    unchanged = unchanged + (clean @ weight[start:stop].reshape(-1, features))[0]
            lines = take(table, rows).view(len(which), -1)
            result = torch.addmm(unchanged, lines, weight[first:beyond].reshape(-1, features))
            if len(jobs) == 1:
                return result
            out[which] = result
        return out

    return act, Plain.ROWS
