"""Observations that count something out: there is nothing between two values, and so nothing to blur or to derive."""

import numpy as np
import pytest
import torch
from replicas import replica_of
from torch import nn

from agentwrap_viewer.saliency import SaliencyError, explain


class Lookup(nn.Module):
    """Owes its logits to a table of what the first number of three counts out, and to twice as much of the second."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(6, 2)
        with torch.no_grad():
            self.table.weight.copy_(torch.tensor([[0.0, 0.0], [1, 0], [2, 0], [3, 0], [4, 0], [5, 0]]))

    def forward(self, counts):
        return self.table(counts[:, 0]) + 2 * self.table(counts[:, 1])


class ToFloat(nn.Module):
    """Makes floats of whole numbers."""

    def forward(self, x):
        return x.float()


COUNTS, SEEN = np.array([3, 1, 5]), np.array([[1, 1, 0], [5, 3, 2]])
EXPECTED = [(0.5 * 2**2 + 0.5 * 2**2) / 2, (0.5 * 0**2 + 0.5 * 4**2) / 2, 0]


@pytest.mark.parametrize("kind", ["module", "replica", "function"])
def test_numbers_that_are_looked_up_are_replaced_by_others_that_were_seen(kind):
    module = Lookup().eval()
    replica = replica_of(module, torch.from_numpy(COUNTS)[None], names=("logits",))
    policy = {"module": module, "replica": replica, "function": lambda batch: module(batch)}[kind]
    found = explain(policy, COUNTS, history=SEEN, target="actor")
    assert found.method == "feature_perturbation"
    np.testing.assert_allclose(found.grid, EXPECTED)
    with pytest.raises(SaliencyError, match="of whole numbers that are looked up; feature_perturbation does$"):
        explain(policy, COUNTS, method="gradient")


def test_numbers_that_a_policy_computes_with_have_gradients_as_before():
    policy = nn.Sequential(ToFloat(), nn.Linear(3, 2, bias=False))
    found = explain(policy, COUNTS, method="gradient", target=0)
    np.testing.assert_allclose(found.grid, policy[1].weight[0].detach(), rtol=1e-6)


@pytest.mark.parametrize("kind", ["module", "replica"])
def test_numbers_of_a_dict_are_replaced_alone_and_in_vectors(kind):
    class Both(Lookup):
        def forward(self, observation):
            counts = torch.cat([observation["mode"][:, None], observation["seen"]], 1)
            return super().forward(counts) * observation["on"][:, None]

    observation = {"mode": np.int64(3), "seen": np.array([1, 5]), "on": np.float32(1)}
    policy = Both().eval()
    if kind == "replica":
        rows = {name: torch.as_tensor(array)[None] for name, array in observation.items()}
        policy = replica_of(policy, rows, names=("logits",))
    history = {"mode": SEEN[:, 0], "seen": SEEN[:, 1:], "on": np.zeros(1)}
    maps = explain(policy, observation, history=history, target=["actor"])
    assert {found.entry: found.grid.tolist() for found in maps} == {
        "mode": EXPECTED[:1],
        "seen": EXPECTED[1:],
        "on": [0.5 * 5**2],
    }
