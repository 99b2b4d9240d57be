"""What stands for a GPU's own kernels computes what PyTorch does on the processor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate, linear, scaled_dot_product_attention

from agentwrap_export.decompositions import gru_cell, lstm_cell
from agentwrap_export.export import export_policy
from agentwrap_viewer.replica import Replica


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("make", [nn.LSTMCell, nn.GRUCell])
def test_cells_are_those_of_the_layers(make: Any, bias: bool) -> None:
    torch.manual_seed(0)
    layer, given, hidden, cell = make(3, 5, bias=bias), torch.randn(2, 3), torch.randn(2, 5), torch.randn(2, 5)
    gates = linear(given, layer.weight_ih), linear(hidden, layer.weight_hh)
    biases = (layer.bias_ih, layer.bias_hh) if bias else ()
    with torch.no_grad():
        if make is nn.LSTMCell:
            found, wanted = lstm_cell(*gates, cell, *biases)[:2], layer(given, (hidden, cell))
        else:
            found, wanted = gru_cell(*gates, hidden, *biases)[:1], (layer(given, hidden),)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


class Attending(nn.Module):
    def __init__(self, attend: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.attend, self.head = attend, nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.attend(x.reshape(len(x), 2, 3, 4)).flatten(1)[:, :8])


@pytest.mark.parametrize(
    "attend",
    [
        lambda x: scaled_dot_product_attention(x, x, x),
        lambda x: scaled_dot_product_attention(x, x, x, is_causal=True, scale=0.3),
        lambda x: scaled_dot_product_attention(x, x, x, attn_mask=torch.ones(3, 3, dtype=torch.bool).triu()),
    ],
)
def test_attention_is_exported(attend: Any) -> None:
    torch.manual_seed(0)
    module, x = Attending(attend), torch.randn(3, 24)
    exported = export_policy(module, (x[:1],), {}, output_names=("logits",), batched=True)
    weights = {name: tensor.detach().numpy() for name, tensor in exported.parameters.items()}
    found = Replica(exported.graph, exported.constants, weights)({exported.graph.inputs[0].name: x})["logits"]
    torch.testing.assert_close(found, module(x).detach(), atol=1e-6, rtol=1e-5)
    assert not any("scaled_dot_product" in node.op for node in exported.graph.nodes)


class Resized(nn.Module):
    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size, self.head = size, nn.Linear(3 * size[0] * size[1], 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(interpolate(x, self.size, mode="bilinear", antialias=True).flatten(1))


@pytest.mark.parametrize("size", [(8, 10), (12, 20), (17, 5)])
def test_resizing_is_exported(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    module, x = Resized(size), torch.rand(3, 3, 12, 14)
    exported = export_policy(module, (x[:1],), {}, output_names=("logits",), batched=True)
    weights = {name: tensor.detach().numpy() for name, tensor in exported.parameters.items()}
    found = Replica(exported.graph, exported.constants, weights)({exported.graph.inputs[0].name: x})["logits"]
    torch.testing.assert_close(found, module(x).detach(), atol=1e-5, rtol=1e-5)
