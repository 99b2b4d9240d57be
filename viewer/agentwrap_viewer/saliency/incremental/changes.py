"""Products in bfloat16: of what masks change, never of activations.

A product in bfloat16 rounds to 1/256 of what it is given. Of an activation that would be far more than what most masks
change. So what is multiplied is the difference to the map without a mask, and the result is added to the clean one in
float32: rounding is relative to the change. Products are summed in float32 and rounded once, at their end.
"""

from __future__ import annotations

from typing import Any

import torch

from agentwrap_viewer.program import Values

from .geometry import Field
from .tables import take
from .values import Plain, Planned, Site

#: What changes are multiplied in.
LOW = torch.bfloat16

#: A weight of fewer numbers than this is multiplied as it is, in float32: nothing is won by less.
SMALL = 2**16

_LINEAR = {"aten.addmm.default": 1, "aten.mm.default": 0}


def low(weight: torch.Tensor) -> torch.Tensor:
    """Return a weight as changes are multiplied with it."""
    return weight.to(LOW)


class Differences:
    """What a table holds beyond the clean map, as another table with the same rows."""

    def __init__(self, site: Site, field: Field, slot: int) -> None:
        """Plan.

        Args:
            site: The layer that is given the table.
            field: The table's layout.
            slot: Where the table is.
        """
        self._start = field.pixels + 1 if field.clean else 0
        self._clean = None if field.clean else site.clean(slot)
        self._pixels = site.index(field.pixel()[self._start :])

    def of(self, table: torch.Tensor, values: Values) -> torch.Tensor:
        """Return the differences in low precision: none in the clean rows, nor in that of the padding."""
        clean = table if self._clean is None else values[self._clean]
        changed = torch.empty(table.shape, dtype=LOW, device=table.device)
        changed[: self._start] = 0
        torch.sub(table[self._start :], take(clean, self._pixels), out=changed[self._start :])
        return changed


def rows_rule(site: Site) -> Planned | None:
    """Plan a linear layer on whole rows, one for each mask; None for another step."""
    place = _LINEAR.get(site.step.node.op)
    if place is None or len(site.kinds) != place + 2 or site.step.node.kwargs:
        return None
    if site.arguments[place].shape[0] != 1:  # not one row for each mask
        return None
    if site.arguments[place + 1].numel() < SMALL:
        return None
    others = [kind for index, kind in enumerate(site.kinds) if index != place]
    if site.kinds[place] is not Plain.ROWS or any(other is not Plain.FIXED for other in others):
        return None
    slot, weight_slot, keep = site.step.slots[place], site.step.slots[place + 1], site.keep
    before_slot, clean_slot = site.clean(slot), site.clean()

    def act(values: Values) -> torch.Tensor:
        weight = keep(values, weight_slot, "low", low)
        changed = (values[slot] - values[before_slot]).to(LOW)
        result: torch.Tensor = values[clean_slot] + changed @ weight
        return result

    return act, Plain.ROWS


def refusal(device: torch.device) -> str:
    """Say why a device cannot multiply in bfloat16; empty where it can."""
    if device.type == "cpu":
        return "" if _processor_multiplies() else "this processor has neither AVX512-BF16 nor AMX"
    if device.type == "cuda":
        return "" if torch.cuda.is_bf16_supported(including_emulation=False) else "this GPU has no bfloat16"
    return f"nothing is known of bfloat16 on {device.type}"


def _processor_multiplies() -> bool:
    said: Any = getattr(torch.cpu, "get_capabilities", None)
    if said is not None:
        has = said()
        return bool(has.get("avx512_bf16") or has.get("amx_bf16") or has.get("bf16"))
    asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(bool(ask()) for ask in asked if ask is not None)  # torch before 2.10
