"""The map as steps come: live, with whatever latents they hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from recordings import record_cartpole
from states import latents, states

from agentwrap_protocol.messages import Step
from agentwrap_protocol.spaces import Box
from agentwrap_viewer import open_recording
from agentwrap_viewer.states import Atlas, StatesError, embed


def atlas(steps: Sequence[Step] = (), **options: Any) -> Atlas:
    made = Atlas(fakes.hello(), **options)
    made.add(steps)
    return made


def test_points_are_placed_from_the_first_ten_on() -> None:
    made = atlas(states(9))
    assert made.method is None and made.problem is not None and "1 more are missing" in made.problem
    made.add(states(1, first=9))
    assert made.method == "pca" and made.problem is None and np.isfinite(made.xy[:10]).all()
    for number in range(10, 200):
        made.add(states(1, first=number))
        assert np.isfinite(made.xy[: number + 1]).all()


def test_tsne_takes_over_and_new_points_find_their_place() -> None:
    made = atlas(states(200))
    assert made.wants_fit
    made.fit()
    assert made.method == "tsne" and not made.wants_fit
    before = made.xy[:200].copy()
    made.add(states(50, first=200))
    np.testing.assert_array_equal(made.xy[:200], before)
    groups = latents(250)[1]
    centres = np.stack([made.xy[:200][groups[:200] == group].mean(0) for group in range(4)])
    nearest = np.argmin(np.linalg.norm(made.xy[200:250, None] - centres, axis=2), axis=1)
    assert (nearest == groups[200:]).all(), "a new point lies among those that it is like"


def test_a_fit_beside_new_points_places_them_too_and_does_not_jump() -> None:
    made = atlas(states(150))
    made.fit()
    made.add(states(100, first=150))
    assert made.wants_fit
    fit = made.begin_fit()
    fit.run()
    made.add(states(20, first=250))
    before = made.xy[:270].copy()
    assert made.finish_fit(fit) and np.isfinite(made.xy[:270]).all()
    assert np.median(np.linalg.norm(made.xy[:270] - before, axis=1)) < 0.15 * np.ptp(before)


def test_another_network_begins_anew_and_says_so() -> None:
    made = atlas(states(30))
    generation, fit = made.generation, None
    made.add(states(70, first=30))
    fit = made.begin_fit()
    fit.run()
    made.add(states(12, first=100, size=20))
    assert len(made) == 12 and made.generation > generation and made.step.tolist() == list(range(100, 112))
    assert "step 100" in made.notes[-1] and "32 to 20" in made.notes[-1]
    assert not made.finish_fit(fit), "a layout of the other network's latents is of no use"


def test_latents_that_are_no_numbers_are_left_out_and_counted() -> None:
    steps = states(20)
    steps[3].arrays["output/latent"] = np.full(32, np.nan, np.float32)
    steps[5].arrays["output/latent"] = np.full(32, np.inf, np.float32)
    made = atlas(steps)
    assert made.left_out == 2 and len(made) == 18 and np.isfinite(made.xy[:18]).all()
    for step in steps:
        step.arrays["output/latent"] = np.full(32, np.nan, np.float32)
    assert "NaN" in (atlas(steps).problem or "")


def test_without_latents_it_says_how_to_get_some() -> None:
    made = atlas([fakes.step(number) for number in range(20)])
    assert made.without == 20 and "layers=" in (made.problem or "")


def test_a_layer_can_be_named() -> None:
    steps = states(20)
    for step in steps:
        step.arrays["output/layer/conv"] = np.random.default_rng(step.step).normal(size=(2, 3, 3)).astype(np.float32)
    assert atlas(steps).layers == ["latent", "layer/conv"] and atlas(steps).memory.size == 32
    assert atlas(steps, layer="layer/conv").memory.size == 18
    problem = atlas(steps, layer="layer/none").problem or ""
    assert "layer/none" in problem and "latent, layer/conv" in problem


def test_a_latent_larger_than_can_be_kept_is_refused() -> None:
    huge = fakes.step(0, arrays={"output/latent": np.zeros(200_000, np.float32)})
    with pytest.raises(StatesError, match="200,000"):
        atlas([huge])


def test_points_have_what_they_are_coloured_by() -> None:
    made = atlas(states(150))
    assert [column.name for column in made.columns][-1] == "action" and made.columns[-1].labels == fakes.ACTIONS
    np.testing.assert_array_equal(made.column("action"), np.arange(150) % 9)
    np.testing.assert_array_equal(made.column("time"), np.arange(150) % 100)
    np.testing.assert_allclose(made.column("value"), np.sin(np.arange(150) / 20), atol=1e-6)
    assert np.isfinite(made.column("entropy")).all() and np.isnan(made.column("return_to_go")).all()
    made.end_episode(0, 9.0)
    assert made.column("return_to_go")[:3].tolist() == [10, 9, 9], "all that is to come, this step's reward included"
    assert np.isnan(made.column("return_to_go")[100:]).all()
    with pytest.raises(StatesError, match="there are value, "):
        made.column("speed")


def test_components_of_a_continuous_action_are_columns() -> None:
    hello = fakes.hello(action_space=Box(shape=(2,), dtype="float32", low=-1, high=1), action_meanings=None)
    made = Atlas(hello)
    steps = states(12)
    for step in steps:
        step.arrays["action"] = np.array([0.5, -0.25], np.float32)
    made.add(steps)
    assert made.column("action_1").tolist() == [-0.25] * 12


def test_neighbours_are_alike_and_not_just_the_steps_beside() -> None:
    made = atlas(states(300))
    group = latents(300)[1]
    found = made.neighbours(150, 6)
    assert len(found) == 6 and all(group[step] == group[150] for step, _ in found)
    distances = [distance for _, distance in found]
    assert distances == sorted(distances) and distances[-1] < 1
    steps = [150, *(step for step, _ in found)]
    near = [(a, b) for a in steps for b in steps if a < b and b - a < 20 and a // 100 == b // 100]
    assert near == []
    with pytest.raises(StatesError, match="step 999"):
        made.neighbours(999)


def test_a_lasso_takes_what_is_inside() -> None:
    made = atlas(states(100))
    x, y = made.xy[:100].T
    middle = float(np.median(x))
    box = np.array(
        [[middle, y.min() - 1], [x.max() + 1, y.min() - 1], [x.max() + 1, y.max() + 1], [middle, y.max() + 1]]
    )
    np.testing.assert_array_equal(made.inside(box), np.flatnonzero(x > middle))
    assert not len(made.inside(np.zeros((0, 2))))


def test_a_recording_is_embedded_in_one_call(tmp_path: Path) -> None:
    with open_recording(record_cartpole(tmp_path / "run.mcap")) as recording:
        seen: list[tuple[int, int]] = []
        made = embed(recording, on_progress=lambda *where: seen.append(where))
        assert seen[-1] == (200, 200) and len(made) == 200 and made.method == "tsne"
        assert np.isfinite(made.xy[:200]).all() and made.step.tolist() == list(range(200))
        ended = recording.episodes[0]
        first = made.column("return_to_go")[0]
        assert first == ended.episode_return
        assert embed(recording, method="pca", max_points=50).method == "pca"
        with pytest.raises(StatesError, match="layer/none"):
            embed(recording, layer="layer/none")
