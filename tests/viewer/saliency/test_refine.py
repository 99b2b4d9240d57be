import numpy as np
import pytest
import torch
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from agentwrap_viewer.saliency import Explanation, Request, SaliencyError, explain, refine

OBSERVATION = np.random.default_rng(1).integers(0, 256, (4, 84, 84), np.uint8)


@pytest.fixture(scope="module")
def policy():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(4, 8, 8, 4), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 4, 2), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(648, 6),
    ).eval()  # fmt: skip


@pytest.mark.parametrize("evaluation", ["auto", "dense"])
@pytest.mark.parametrize("method", ["perturbation", "sarfa", "chosen_action", "occlusion", "rise"])
def test_last_refinement_is_what_explain_returns(policy, method, evaluation):
    options = {"method": method, "target": "actor" if method == "perturbation" else "chosen", "evaluation": evaluation}
    whole = explain(policy, OBSERVATION, **options)
    *_, last = refine(policy, OBSERVATION, budget_ms=0, **options)
    rounding = 1e-4 * np.abs(whole.grid).max()  # batches have other sizes
    np.testing.assert_allclose(last.grid, whole.grid, rtol=0, atol=rounding)
    np.testing.assert_allclose(last.heatmap, whole.heatmap, rtol=0, atol=rounding)
    assert last.refined == whole.refined == 1
    assert last.forwards == whole.forwards
    assert last.evaluation == whole.evaluation


def test_refinement_goes_from_coarse_to_fine(policy):
    maps = list(refine(policy, OBSERVATION, target="actor", budget_ms=60_000))
    assert [m.forwards for m in maps] == [0, 25, 81, 289]
    assert [m.refined for m in maps] == [0, 25 / 289, 81 / 289, 1]
    errors = [np.abs(m.grid - maps[-1].grid).mean() for m in maps[1:]]
    assert errors[0] > errors[1] > errors[2] == 0


def test_coarse_map_is_exact_at_its_centres_and_has_no_holes(policy):
    _, first, *_, last = refine(policy, OBSERVATION, target="actor", budget_ms=60_000)
    np.testing.assert_array_equal(first.grid[::4, ::4], last.grid[::4, ::4])
    assert first.grid.min() > 0
    assert first.heatmap.shape == (84, 84)


def test_first_map_ranks_as_the_full_one_does():
    smooth = gaussian_filter(np.random.default_rng(0).normal(size=(4, 84, 84)), (0, 2, 2))
    smooth[:, 40:] *= np.linspace(0, 1, 44)[:, None]  # blurring changes little in the middle, and much above and below
    image = np.float32(smooth)

    def policy(batch):  # sees all, but more of it to the right
        return (batch * torch.linspace(0.1, 1, 84)).square().sum((1, 2, 3))[:, None]

    first, *_, last = refine(policy, image, target="actor", budget_ms=60_000)
    assert first.forwards == 25
    assert spearmanr(first.grid, last.grid, axis=None).statistic > 0.9
    plain = RegularGridInterpolator((np.arange(0, 17, 4),) * 2, last.grid[::4, ::4])
    between = plain(np.stack(np.meshgrid(np.arange(17), np.arange(17), indexing="ij"), -1))
    assert np.abs(first.grid - last.grid).mean() < 0.7 * np.abs(between - last.grid).mean()


def test_budget_slices_a_level(policy):
    refined = [m.refined for m in refine(policy, OBSERVATION, target="actor", budget_ms=0, chunk=10)]
    assert len(refined) == 1 + 3 + 6 + 21  # what gradients predict, then chunks of 25, 56 and 208
    assert refined == sorted(refined)


def test_expected_importance_orders_a_level():
    seen = []

    def policy(batch):
        seen.append(len(batch))
        return batch[:, 60:62, 60:62].mean((1, 2))[:, None]

    image = torch.from_numpy(OBSERVATION[0]).float()
    explanation = Explanation(policy, image, Request(target="actor", chunk=25, options={"mask_sigma": 2.0}))
    while explanation.level < 1:
        explanation.advance()
    explanation.advance()  # the first chunk of the second level
    (partial,), whole = explanation.maps(), explain(policy, image, target="actor", mask_sigma=2.0)
    peak = np.unravel_index(whole.grid[::2, ::2].argmax(), (9, 9))
    assert partial.grid[::2, ::2][peak] == pytest.approx(whole.grid[::2, ::2][peak], rel=1e-4)


@pytest.mark.parametrize("evaluation", ["auto", "dense"])
@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_chunks_do_not_change_the_map(policy, chunk, evaluation):
    whole = explain(policy, OBSERVATION, target="actor")
    chunked = explain(policy, OBSERVATION, target="actor", chunk=chunk, evaluation=evaluation)
    np.testing.assert_allclose(chunked.grid, whole.grid, rtol=0, atol=1e-4 * whole.grid.max())


@pytest.mark.parametrize("evaluation", ["auto", "dense"])
def test_one_mask_alone_scores_as_among_a_thousand_in_one_batch(policy, evaluation):
    options = {"method": "occlusion", "patch": 21, "target": "chosen", "evaluation": evaluation}
    many = explain(policy, OBSERVATION, patch_stride=2, chunk=2000, **options)
    assert many.forwards == many.grid.size == 1024
    one = explain(policy, OBSERVATION, patch_stride=64, **options)
    assert one.forwards == one.grid.size == 1
    np.testing.assert_allclose(one.grid[0, 0], many.grid[0, 0], rtol=0, atol=1e-4 * np.abs(many.grid).max())
    parts = explain(policy, OBSERVATION, patch_stride=2, chunk=300, **options)
    np.testing.assert_allclose(parts.grid, many.grid, rtol=0, atol=1e-4 * np.abs(many.grid).max())


@pytest.mark.parametrize("evaluation", ["auto", "dense"])
def test_threads_do_not_change_the_map(policy, evaluation):
    whole = explain(policy, OBSERVATION, target="actor", evaluation=evaluation)
    before = torch.get_num_threads()
    try:
        for threads in {1, 3} - {before}:
            torch.set_num_threads(threads)
            other = explain(policy, OBSERVATION, target="actor", evaluation=evaluation)
            np.testing.assert_allclose(other.grid, whole.grid, rtol=0, atol=1e-4 * whole.grid.max())
    finally:
        torch.set_num_threads(before)


def test_nan_that_appears_on_the_way_is_named():
    def policy(batch):
        return torch.where(batch[:, :1, 0] < 0.5, torch.nan, batch[:, :1, 0])

    with pytest.raises(SaliencyError, match="logits is NaN"):
        explain(policy, torch.eye(20), target="actor")


def test_targets_share_the_forwards():
    rows = []

    def policy(batch):
        rows.append(len(batch))
        return batch[:, :3, 0], batch[:, 5, 5]

    maps = explain(policy, torch.eye(20), target=("actor", "critic", "chosen", 2))
    assert [m.target for m in maps] == ["actor", "critic", "chosen", 2]
    assert sum(rows) == 1 + 16 and all(m.forwards == 16 for m in maps)


def test_a_map_prints_what_it_is_and_not_its_numbers(policy):
    first = next(iter(refine(policy, OBSERVATION, target="actor", budget_ms=0)))
    assert repr(first) == "<SaliencyMap perturbation of actor, 84×84, 0% after 0 forwards>"


@pytest.mark.parametrize("evaluation", ["auto", "dense"])
def test_flat_parts_are_left_out_and_the_rest_is_exact(evaluation):
    class Corner(torch.nn.Module):
        """Sees the first quarter of the picture alone."""

        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv = torch.nn.Conv2d(1, 4, 4, 4)

        def forward(self, x):
            return self.conv(x[:, :1])[:, :, :10, :10].square().mean((2, 3))

    options = {"target": "actor", "evaluation": evaluation, "stride": 4}
    image = gaussian_filter(OBSERVATION[:1].astype(np.float32), (0, 2, 2)) / 255
    whole, flat = explain(Corner(), image, **options), explain(Corner(), image, flat=0.05, **options)
    *_, last = refine(Corner(), image, budget_ms=0, flat=0.05, **options)
    assert flat.forwards < whole.forwards == whole.grid.size and flat.refined == last.refined == 1
    np.testing.assert_array_equal(last.grid, flat.grid)
    exact = np.isclose(flat.grid, whole.grid, rtol=1e-3, atol=1e-4 * whole.grid.max())
    assert exact[whole.grid > 0.3 * whole.grid.max()].all()
    np.testing.assert_allclose(flat.grid, whole.grid, rtol=0, atol=0.25 * whole.grid.max())
