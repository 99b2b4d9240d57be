"""Methods that Captum has too: the same scores from both, for each kind of policy."""

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation, Occlusion
from torch import nn

from agentwrap_export.export import export_policy
from agentwrap_viewer.replica import Replica
from agentwrap_viewer.saliency import explain

IMAGE = np.random.default_rng(0).uniform(0, 1, (3, 24, 32)).astype(np.float32)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, 2, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.Tanh(), nn.Flatten(),
        nn.Linear(8 * 5 * 7, 6),
    ).eval()  # fmt: skip


def replica(policy):
    exported = export_policy(policy, (torch.from_numpy(IMAGE)[None],), {}, output_names=("logits",), batched=True)
    return Replica(exported.graph, exported.constants, {n: p.detach().numpy() for n, p in exported.parameters.items()})


KINDS = {"module": lambda p: p, "replica": replica, "callable": lambda p: lambda batch: p(batch)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fill", [0.0, 0.7])
@pytest.mark.parametrize("stride", [4, 2], ids=["apart", "overlapping"])
def test_occlusion_is_captums(kind, fill, stride):
    policy, patch = network(), 4
    grid = explain(
        KINDS[kind](policy), IMAGE, method="occlusion", target=2, patch=patch, patch_stride=stride, fill=fill
    ).grid
    found = Occlusion(policy).attribute(
        torch.from_numpy(IMAGE)[None], (3, patch, patch), (3, stride, stride), baselines=fill, target=2
    )
    total, number = np.zeros((24, 32)), np.zeros((24, 32))
    for (row, column), score in np.ndenumerate(grid):  # Captum gives each pixel the mean of the squares over it
        square = np.s_[stride * row : stride * row + patch, stride * column : stride * column + patch]
        total[square] += score
        number[square] += 1
    for channel in found[0].numpy():
        np.testing.assert_allclose(channel, total / number, rtol=0, atol=1e-4 * np.abs(grid).max())


@pytest.mark.parametrize("kind", ["module", "callable"])
def test_feature_perturbation_squares_captums_feature_ablation(kind):
    torch.manual_seed(0)
    policy, x = nn.Sequential(nn.Linear(7, 16), nn.Tanh(), nn.Linear(16, 4)), torch.randn(7)
    scores = explain(KINDS[kind](policy), x, method="feature_perturbation", background="zero", target=1).grid
    change = FeatureAblation(policy).attribute(x[None], target=1)[0]
    np.testing.assert_allclose(scores, 0.5 * change.detach().square(), rtol=1e-4, atol=1e-7)
