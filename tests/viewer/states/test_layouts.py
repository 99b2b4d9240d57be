"""Layouts: what is alike lies together, new points beside what they are like, and nothing jumps."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.manifold import trustworthiness

from agentwrap_viewer.states.errors import StatesError
from agentwrap_viewer.states.layouts import NeighbourLayout, PrincipalLayout
from agentwrap_viewer.states.projection import Projection, Similarity

#: Steps in a ring of three latent dimensions, hidden in 24.
RING = 240


def ring(count: int = RING, *, seed: int = 0, noise: float = 0.02) -> np.ndarray:
    """Latents (count, 24) along a closed curve, in order."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    curve = np.stack([np.cos(angle), np.sin(angle), 0.5 * np.sin(3 * angle)], axis=1)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(24, 24)))[0][:3]
    return (curve @ turn + noise * np.random.default_rng(seed).normal(size=(count, 24))).astype(np.float32)


@pytest.fixture(scope="module")
def layout() -> NeighbourLayout:
    made = NeighbourLayout.of(ring())
    assert made is not None
    return made


def test_a_similarity_finds_the_turn_reflection_scale_and_shift() -> None:
    points = np.random.default_rng(3).normal(size=(50, 2))
    turn = np.array([[0.0, 2.0], [2.0, 0.0]])  # a reflection
    found = Similarity.between(points, points @ turn + [3.0, -1.0])
    np.testing.assert_allclose(found.apply(points), points @ turn + [3.0, -1.0], atol=1e-5)


def test_aligning_again_and_again_does_not_shrink() -> None:
    random = np.random.default_rng(4)
    before = random.normal(size=(100, 2))
    spread = before.std()
    for _ in range(20):
        other = before + random.normal(size=before.shape)
        before = Similarity.between(other, before).apply(other)
    assert before.std() == pytest.approx(spread, rel=0.01)


def test_principal_components_explain_what_varies() -> None:
    found = Projection.of(ring(), 3)
    assert found.explained > 0.98 and found.axes.shape == (24, 3)
    np.testing.assert_allclose(found.axes.T @ found.axes, np.eye(3), atol=1e-5)


def test_tsne_keeps_neighbours(layout: NeighbourLayout) -> None:
    assert trustworthiness(ring(), layout.xy, n_neighbors=8) > 0.95
    shuffled = np.random.default_rng(0).permutation(layout.xy)
    assert trustworthiness(ring(), shuffled, n_neighbors=8) < 0.7, "the measure can tell"


def test_new_points_are_placed_beside_what_they_are_like(layout: NeighbourLayout) -> None:
    placed = layout.place(ring(seed=9))
    apart = np.linalg.norm(placed - layout.xy, axis=1)
    assert np.median(apart) < 0.05 * np.ptp(layout.xy)
    assert trustworthiness(ring(seed=9), placed, n_neighbors=8) > 0.9


def test_a_fit_that_goes_on_does_not_jump(layout: NeighbourLayout) -> None:
    more = np.concatenate([ring(), ring(80, seed=5)])
    before = np.concatenate([layout.xy, layout.place(more[RING:])])
    again = NeighbourLayout.of(more, before=before, again=True, seed=7)
    assert again is not None
    moved = np.linalg.norm(again.xy - before, axis=1)
    assert np.median(moved) < 0.1 * np.ptp(before)
    assert again.xy.std() == pytest.approx(before.std(), rel=0.05)
    assert trustworthiness(more, again.xy, n_neighbors=8) > 0.95


def test_axes_found_anew_do_not_flip() -> None:
    first = PrincipalLayout.of(ring()[:120])
    same = PrincipalLayout.of(ring(), before=first.place(ring()) * [1, -1])
    turned = PrincipalLayout.of(ring(), before=first.place(ring()))
    np.testing.assert_allclose(same.place(ring()), turned.place(ring()) * [1, -1], atol=1e-3)


def test_a_fit_can_be_ended() -> None:
    assert NeighbourLayout.of(ring(), on_progress=lambda share: share > 0.1) is None


@pytest.mark.parametrize("kind", [PrincipalLayout, NeighbourLayout])
def test_fewer_than_ten_points_make_no_map(kind: type) -> None:
    with pytest.raises(StatesError, match="at least 10 .* 3 more are missing"):
        kind.of(ring(7))


def test_latents_that_are_all_the_same_or_of_one_number() -> None:
    same = PrincipalLayout.of(np.ones((12, 4), np.float32))
    assert np.isfinite(same.place(np.ones((3, 4), np.float32))).all()
    line = np.arange(20, dtype=np.float32)[:, None]
    assert np.isfinite(PrincipalLayout.of(line).place(line)).all()
    coinciding = NeighbourLayout.of(np.ones((70, 4), np.float32))
    assert coinciding is not None and np.isfinite(coinciding.xy).all()
