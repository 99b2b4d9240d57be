import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agentwrap_viewer.saliency.arrangement import CentreGrid, FeatureTable, Mixture


@settings(max_examples=50, deadline=None)
@given(size=st.tuples(st.integers(1, 60), st.integers(1, 60)), stride=st.integers(1, 9))
def test_levels_of_a_grid_hold_every_centre_once_and_its_corners_first(size, stride):
    grid = CentreGrid.spaced(size, stride)
    order = torch.cat(grid.levels).tolist()
    assert sorted(order) == list(range(grid.count))
    corners = {0, len(grid.xs) - 1, grid.count - len(grid.xs), grid.count - 1}
    assert corners <= set(grid.levels[0].tolist())


def test_levels_are_every_fourth_every_second_and_all():
    assert [len(level) for level in CentreGrid.spaced((84, 84), 5).levels] == [25, 81 - 25, 289 - 81]


def test_heatmap_has_each_score_at_its_centre_and_is_linear_between():
    grid = CentreGrid.spaced((11, 12), 5)
    scores = np.arange(9, dtype=np.float32).reshape(3, 3) ** 2
    heat = grid.heatmap(scores)
    assert heat.shape == (11, 12) and heat.dtype == np.float32
    np.testing.assert_allclose(heat[::5, ::5], scores, rtol=1e-6)
    np.testing.assert_allclose(heat[0, 1], 0.8 * scores[0, 0] + 0.2 * scores[0, 1], rtol=1e-6)
    np.testing.assert_allclose(heat[10, 11], scores[2, 2], rtol=1e-6)  # beyond the last centre: the nearest


@pytest.mark.parametrize("level", [1, 2])
def test_estimate_is_exact_for_scores_that_are_a_plane(level):
    grid = CentreGrid.spaced((44, 39), 5)  # 9 by 8 centres: the last column is no multiple of four
    plane = torch.from_numpy(2.0 * grid.ys[:, None] + 3.0 * grid.xs + 1).float().reshape(1, -1)
    known = torch.cat(grid.levels[:level])
    scores = torch.full_like(plane, 1e6)  # what is not known must not matter
    scores[:, known] = plane[:, known]
    torch.testing.assert_close(grid.estimate(scores, level), plane)


def test_estimate_follows_what_scores_are_proportional_to():
    grid = CentreGrid.spaced((44, 39), 5)
    random = np.random.default_rng(0)
    sizes = torch.from_numpy(random.uniform(0, 9, grid.count)).float()
    sizes[random.integers(0, grid.count, 10)] = 0  # where nothing is changed
    whole = torch.stack([7 * sizes, -0.5 * sizes])
    known = torch.zeros_like(whole)
    known[:, grid.levels[0]] = whole[:, grid.levels[0]]
    torch.testing.assert_close(grid.estimate(known, 1, sizes), whole, rtol=1e-3, atol=1e-5)


def test_estimate_is_zero_where_all_scores_and_sizes_are():
    grid = CentreGrid.spaced((44, 39), 5)
    nothing = torch.zeros(1, grid.count)
    assert torch.equal(grid.estimate(nothing, 1, nothing[0]), nothing)


@pytest.mark.parametrize(
    "arrangement",
    [Mixture(np.ones((50, 3, 4), np.float32), 0.5), FeatureTable(5, 4), FeatureTable(100, 9), FeatureTable(3, 1)],
)
def test_levels_of_other_arrangements_hold_every_perturbation_once(arrangement):
    assert sorted(torch.cat(arrangement.levels).tolist()) == list(range(arrangement.count))


def test_features_first_level_has_a_sample_of_each():
    table = FeatureTable(200, 4)
    known = np.zeros(800, bool)
    known[table.levels[0]] = True
    scores = np.where(known, 2, 77).astype(np.float32)
    np.testing.assert_array_equal(table.grid(scores, known, None), np.full(200, 2))


def test_few_features_are_complete_at_once():
    assert len(FeatureTable(4, 16).levels) == 1
