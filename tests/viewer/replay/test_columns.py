"""What is known of all steps at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from recordings import known
from scipy.stats import entropy

from agentwrap_protocol.spaces import Discrete, MultiDiscrete
from agentwrap_viewer import open_recording
from agentwrap_viewer.recording.scalars import entropy_of_logits, rewards
from agentwrap_viewer.replay.columns import LONGEST, Columns, playing_times, reduced, series
from agentwrap_viewer.replay.store import RecordedStore


def test_steps_are_played_as_they_were_made_but_not_too_fast_and_without_pauses() -> None:
    made = np.array([10.0, 10.1, 10.101, 500.0, 499.0])
    np.testing.assert_allclose(np.diff(playing_times(made, fps=50)), [0.1, 0.02, LONGEST, 0.02])
    assert playing_times(made[:1], fps=50).tolist() == [0.0] and not len(playing_times(made[:0], fps=50))


def test_entropy_is_that_of_the_distributions() -> None:
    logits = np.random.default_rng(1).normal(size=(6, 5)) * 3
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(entropy_of_logits(logits, Discrete(n=5)), entropy(chances, axis=1))
    parts = [np.exp(part) / np.exp(part).sum(1, keepdims=True) for part in (logits[:, :2], logits[:, 2:])]
    both = sum(entropy(part, axis=1) for part in parts)
    np.testing.assert_allclose(entropy_of_logits(logits, MultiDiscrete(counts=(2, 3))), both)


def test_entropy_where_actions_are_ruled_out_or_outputs_are_not_numbers() -> None:
    logits = np.array([[0.0, 0.0, -np.inf], [np.nan, 0.0, 0.0]])
    found = entropy_of_logits(logits, Discrete(n=3))
    assert found[0] == pytest.approx(np.log(2)) and np.isnan(found[1])


def test_reducing_keeps_the_extremes() -> None:
    values = np.zeros(10_000, np.float32)
    values[7003], values[42] = 5.0, np.nan
    found = reduced(values, 100)
    assert found.shape == (100, 2) and found[70].tolist() == [0, 5] and np.nanmax(np.delete(found, 70, 0)) == 0
    few = reduced(np.array([1.0, np.nan, 3.0], np.float32), 100)
    np.testing.assert_array_equal(few, [[1, 1], [np.nan, np.nan], [3, 3]])


def test_the_overview_has_episodes_value_and_entropy(store: RecordedStore) -> None:
    overview = store.columns.overview
    assert overview.borders.tolist() == [0, 100, 200] and overview.episodes.tolist() == [0, 1, 2]
    assert overview.columns["value"][249].tolist() == [249, 249]
    assert overview.columns["entropy"][0, 0] == pytest.approx(np.log(9), rel=1e-6)
    assert overview.columns["reward"][:11, 1].tolist() == [1, *[0] * 9, 1]
    assert store.columns.start_of(1) == 100 and store.columns.start_of(7) == 200
    assert store.columns.position_of(120) == 120 and store.columns.position_of(10**9) == 249


def test_rewards_of_steps_that_were_not_recorded_are_counted(write: Callable[..., Path]) -> None:
    steps = [known(number, reward=0.5, episode_return=0.5 * (number % 100 + 1)) for number in range(0, 210, 4)]
    with open_recording(write(steps)) as recording:
        found = rewards(recording, 0, len(steps))
        assert found[1:25].tolist() == [2.0] * 24  # four steps each
        assert found[0] == 0.5 and found[25] == 0.5, "nothing is known of what came before an episode's first"
        np.testing.assert_array_equal(rewards(recording, 7, 30), found[7:30])
        assert series(recording, 3, 5)[:, 0].tolist() == [12, 16]
        assert Columns.of(recording).position_of(13) == 4
