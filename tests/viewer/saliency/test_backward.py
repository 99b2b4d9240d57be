"""Gradients taken step by step from values that are there equal those that torch records."""

import pytest
import torch
from networks import Impala
from torch import nn

from agentwrap_export.export import export_policy
from agentwrap_viewer.replica import Replica
from agentwrap_viewer.saliency.incremental.backward import gradients
from agentwrap_viewer.saliency.incremental.values import Kept


class Mixed(nn.Module):
    """Steps with rules and without: kernels that no stride divides, padding, dilation, groups, a norm, sums, parts."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, (5, 3), (3, 2), (1, 2))
        self.norm, self.wide = nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, 1, 2, dilation=2)
        self.groups, self.pool = nn.Conv2d(6, 6, 1, groups=2, bias=False), nn.MaxPool2d(2)
        self.head, self.value = nn.LazyLinear(4), nn.LazyLinear(1, bias=False)

    def forward(self, x):
        x = self.norm(self.first(x.permute(0, 3, 1, 2) / 2 - 0.1)).relu()
        x = x + self.wide(x)
        left, right = self.pool(torch.cat([x, self.groups(x).tanh()], 1)).chunk(2, 1)
        x = (left * right + left).flatten(1)
        return self.head(x), self.value(x)


class Unseen(nn.Module):
    """A stride larger than the kernel, and an edge that no output sees."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Conv2d(2, 3, 2, 5), nn.Linear(3 * 3 * 4, 2)

    def forward(self, x):
        return self.head(self.layer(x).flatten(1)), x.sum((1, 2, 3))


@pytest.mark.parametrize(
    ("module", "shape"),
    [(Mixed, (27, 22, 3)), (Unseen, (2, 14, 19)), (Impala, (3, 64, 64))],
    ids=lambda item: str(item),
)
@pytest.mark.parametrize("looked_at", [(0, 1), (0,), (1,)], ids=["both", "actor", "critic"])
def test_gradients_are_those_of_torch(module, shape, looked_at):
    torch.manual_seed(0)
    network, image = module(), torch.rand(1, *shape)
    network.eval()(image)
    policy = export_policy(network, (image,), {}, output_names=("logits", "value"), batched=True)
    weights = {name: tensor.detach().numpy() for name, tensor in policy.parameters.items()}
    replica = Replica(policy.graph, policy.constants, weights)
    (given,) = replica.graph.inputs
    run = replica.prepared({given.name: image}, given.name, rows=1)
    kept, program = Kept(), run.program
    with torch.no_grad():
        values = program.trace(run.filled, run.single)
    directions = {program.outputs[place]: torch.randn(5, values[program.outputs[place]].numel()) for place in looked_at}
    before = [value.clone() if isinstance(value, torch.Tensor) else value for value in values]

    def keep(slot, purpose, make):
        return kept(values, slot, purpose, make)

    with torch.no_grad():
        got = gradients(program, values, program.inputs[0], directions, keep)

    leaf = image.clone().requires_grad_()
    given = network(leaf)
    given = tuple(given.values()) if isinstance(given, dict) else given
    outputs = [given[place].flatten() for place in looked_at]
    for k in range(5):
        along = [directions[program.outputs[place]][k] for place in looked_at]
        (expected,) = torch.autograd.grad(outputs, leaf, along, retain_graph=True)
        torch.testing.assert_close(got[k], expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))
    for one, other in zip(values, before, strict=True):
        assert one is other or not isinstance(one, torch.Tensor) or torch.equal(one, other)


def test_what_does_not_reach_an_output_changes_nothing():
    torch.manual_seed(0)
    network, image = Unseen(), torch.rand(1, 2, 14, 19)
    policy = export_policy(network.eval(), (image,), {}, output_names=("logits", "value"), batched=True)
    weights = {name: tensor.detach().numpy() for name, tensor in policy.parameters.items()}
    replica = Replica(policy.graph, policy.constants, weights)
    (given,) = replica.graph.inputs
    run = replica.prepared({given.name: image}, given.name, rows=1)
    values = run.program.trace(run.filled, run.single)
    rows = {run.program.inputs[0]: torch.randn(3, image.numel())}
    elsewhere = {slot + 10**6: tensor for slot, tensor in rows.items()}
    assert not gradients(run.program, values, run.program.inputs[0], elsewhere, lambda *_: None).any()
