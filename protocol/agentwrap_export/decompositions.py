"""What PyTorch has no decomposition for, told in operators of a graph.

On the processor cells of recurrent layers and attention are made of operators that a graph may use. On a GPU they are
kernels of their own, so they are taken apart here, on every device. So is resizing as torchvision does it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

_aten = torch.ops.aten


def decompositions() -> dict[Any, Callable[..., Any]]:
    """Return PyTorch's decompositions into core operators, and those that it lacks."""
    table: dict[Any, Callable[..., Any]] = torch.export.default_decompositions()
    table[_aten._thnn_fused_lstm_cell.default] = lstm_cell
    table[_aten._thnn_fused_gru_cell.default] = gru_cell
    table[_aten.scaled_dot_product_attention.default] = _attention
    table[_aten._upsample_bilinear2d_aa.default] = _resize
    return table


def lstm_cell(
    given: torch.Tensor,
    kept: torch.Tensor,
    cell: torch.Tensor,
    given_bias: torch.Tensor | None = None,
    kept_bias: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return hidden and cell state (B, H) as ``torch.nn.LSTMCell`` says, and the gates, which only gradients need."""
    gates = _plus(given, given_bias) + _plus(kept, kept_bias)
    enter, forget, new, leave = gates.chunk(4, 1)
    cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
    return leave.sigmoid() * cell.tanh(), cell, gates


def gru_cell(
    given: torch.Tensor,
    kept: torch.Tensor,
    hidden: torch.Tensor,
    given_bias: torch.Tensor | None = None,
    kept_bias: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the hidden state (B, H) as ``torch.nn.GRUCell`` says, and what only gradients need."""
    given, kept = _plus(given, given_bias), _plus(kept, kept_bias)
    reset, update, new = given.chunk(3, 1)
    reset_kept, update_kept, new_kept = kept.chunk(3, 1)
    new = (new + (reset + reset_kept).sigmoid() * new_kept).tanh()
    return new + (update + update_kept).sigmoid() * (hidden - new), given


def _plus(gates: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return gates if bias is None else gates + bias


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    *args: Any,
    **kw: Any,
) -> torch.Tensor:
    """``torch.nn.functional.scaled_dot_product_attention`` as its documentation writes it out."""
    if attn_mask is not None and attn_mask.dtype == torch.bool:  # what may be attended to
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill(attn_mask.logical_not(), -math.inf)
    output: torch.Tensor = _aten._scaled_dot_product_attention_math(query, key, value, attn_mask, *args, **kw)[0]
    return output


def _resize(pictures: torch.Tensor, size: Sequence[int], align_corners: bool, *scales: float | None) -> torch.Tensor:
    """Resize (…, H, W) as ``torch.nn.functional.interpolate(…, mode="bilinear", antialias=True)`` does."""
    if align_corners or any(scale is not None for scale in scales):
        raise NotImplementedError("of resizing with antialias=True only that to a size, without align_corners")
    rows, columns = (_shares(pictures, axis - 2, int(length)) for axis, length in enumerate(size))
    return rows @ pictures @ columns.T


def _shares(pictures: torch.Tensor, axis: int, length: int) -> torch.Tensor:
    """How much each pixel along an axis has of each new one, (new, old): less with its distance, 1 in all."""
    ratio = pictures.shape[axis] / length
    old = torch.arange(pictures.shape[axis], device=pictures.device, dtype=pictures.dtype) + 0.5
    new = (torch.arange(length, device=pictures.device, dtype=pictures.dtype) + 0.5) * ratio
    shares = (1 - (old - new[:, None]).abs() / max(ratio, 1.0)).clamp(min=0)
    return shares / shares.sum(dim=1, keepdim=True)
