"""What is predicted from gradients before any mask is evaluated."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr
from torch import nn

from agentwrap_viewer.saliency import explain, refine

SMOOTH = gaussian_filter(np.random.default_rng(0).normal(size=(3, 42, 50)), (0, 2, 2)).astype(np.float32)


class Linear(nn.Module):
    """Layers that are linear all together, so that first order is all there is; optionally on pictures (H, W, C)."""

    def __init__(self, last=False, actions=5, entrance=True, padding=0):
        super().__init__()
        torch.manual_seed(0)
        self.last, self.entrance = last, entrance
        self.conv = nn.Conv2d(3, 8, (5, 4), (2, 3), padding=padding, dilation=(1, 2))
        self.head = nn.LazyLinear(actions) if entrance else nn.Linear(3 * 42 * 50, actions)
        self.value = nn.LazyLinear(1) if entrance else nn.Linear(3 * 42 * 50, 1)

    def forward(self, x):
        x = (x.permute(0, 3, 1, 2) if self.last else x) / 3 + 1
        x = (self.conv(x) if self.entrance else x).flatten(1)
        return self.head(x), self.value(x)


def made(**options):
    policy = Linear(**options)
    image = np.ascontiguousarray(SMOOTH.transpose(1, 2, 0)) if options.get("last") else SMOOTH
    policy(torch.from_numpy(image)[None])
    return policy.eval(), image


@pytest.mark.parametrize(
    "options", [{}, {"last": True}, {"padding": (2, 3)}, {"entrance": False}], ids=["plain", "HWC", "padded", "no conv"]
)
def test_prediction_of_a_linear_policy_is_the_map(options):
    policy, image = made(actions=3, **options)  # as many actions as directions are looked at
    firsts = next(refine(policy, image, target=("actor", "critic"), budget_ms=0))
    wholes = explain(policy, image, target=("actor", "critic"))
    for first, whole in zip(firsts, wholes, strict=True):
        assert first.refined == 0 and first.forwards == 0 and first.evaluation.startswith("incremental")
        np.testing.assert_allclose(first.grid, whole.grid, rtol=0, atol=5e-4 * whole.grid.max())


def test_a_first_map_rests_on_masks_where_no_prediction_is_wanted():
    policy, image = made(actions=3)
    first = next(refine(policy, image, target="actor", budget_ms=0, predict=False))
    whole = explain(policy, image, target="actor", predict=False)
    assert first.forwards > 0 and first.evaluation.startswith("incremental")
    np.testing.assert_array_equal(whole.grid, explain(policy, image, target="actor").grid)


def test_few_directions_tell_much_of_many_outputs():  # of unrelated ones, as no trained policy has them
    policy, image = made(actions=18)
    first, whole = next(refine(policy, image, target="actor", budget_ms=0)), explain(policy, image, target="actor")
    assert spearmanr(first.grid, whole.grid, axis=None).statistic > 0.6
    assert 0.3 < first.grid.sum() / whole.grid.sum() < 3


@pytest.mark.parametrize("target", ["critic", 2, ("critic", "chosen", 0)])
def test_prediction_has_the_targets_that_are_asked_for(target):
    policy, image = made()
    image = 10 * image  # what masks change is far above rounding then, whatever the processor
    first, whole = next(refine(policy, image, target=target, budget_ms=0)), explain(policy, image, target=target)
    for one, other in zip(*((m if isinstance(m, tuple) else (m,)) for m in (first, whole)), strict=True):
        assert one.target == other.target and one.refined == 0
        np.testing.assert_allclose(one.grid, other.grid, rtol=0, atol=5e-4 * other.grid.max())


class Steps(nn.Module):
    """Layers that have a gradient of zero wherever they have one."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 4, 4)

    def forward(self, x):
        return torch.round(100 * self.conv(x)).flatten(1).mean(1, keepdim=True)


@pytest.mark.parametrize(
    "policy", [Steps(), lambda batch: batch.mean((1, 2, 3))[:, None]], ids=["without gradient", "callable"]
)
def test_where_gradients_say_nothing_refinement_begins_with_masks(policy):
    first = next(refine(policy, SMOOTH, target="actor", budget_ms=0))
    assert first.forwards > 0


def test_module_keeps_its_gradients_and_mode():
    policy, image = made()
    policy.train()
    list(refine(policy, image, target="actor"))
    assert policy.training and all(p.grad is None and p.requires_grad for p in policy.parameters())


def test_refinement_inside_inference_mode_ends_with_the_same_map():
    policy, image = made()
    with torch.inference_mode():
        *_, last = refine(policy, image, target="actor")
    whole = explain(policy, image, target="actor")
    np.testing.assert_allclose(last.grid, whole.grid, rtol=0, atol=5e-4 * whole.grid.max())
