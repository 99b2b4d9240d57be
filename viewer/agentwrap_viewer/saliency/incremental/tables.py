"""Rows of a table, in which all pixels of a feature map under all perturbations lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .values import Hold, Rows


def take(table: torch.Tensor, rows: Rows) -> torch.Tensor:
    """Return rows of a table: a view where they follow one another."""
    return table[rows] if isinstance(rows, slice) else table.index_select(0, rows)


def row_index(rows: Any, device: torch.device, hold: Hold) -> Rows:
    """Return what ``take`` is given for these rows; ``hold`` takes note of it."""
    flat = np.ascontiguousarray(rows.reshape(-1))
    if len(flat) and (np.diff(flat) == 1).all():
        return slice(int(flat[0]), int(flat[0]) + len(flat))
    return hold(torch.from_numpy(flat.astype(np.int32)).to(device))
