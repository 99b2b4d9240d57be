"""Moments are found where something unusual was put, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import hello, step
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import record_cartpole
from scipy.stats import median_abs_deviation

from agentwrap_protocol.spaces import Discrete
from agentwrap_viewer import open_recording
from agentwrap_viewer.recording import Recording
from agentwrap_viewer.recording.moments import Criteria, modified_z, peaks
from agentwrap_viewer.recording.writer import RecordingWriter

Write = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path) -> Write:
    """Records steps of which only some fields are given, and opens them."""

    @contextmanager
    def make(values: list[float], *, name: str = "value", **fields: Any) -> Iterator[Recording]:
        with RecordingWriter(tmp_path / "run.mcap", hello(action_space=Discrete(n=2)), overwrite=True) as writer:
            for number, value in enumerate(values):
                own = {key: each[number] for key, each in fields.items()}
                arrays = {f"output/{name}": np.asarray(value, np.float32), "action": np.array(own.pop("action", 0))}
                writer.add(step(number, arrays=arrays, **{"reward": 0.0, "episode": 0, "terminated": False, **own}))
        with open_recording(tmp_path / "run.mcap") as recording:
            yield recording

    return make


def noise(count: int, scale: float = 0.1) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(scale=scale, size=count)


def test_a_value_that_falls_is_found_where_it_has_fallen(run: Write) -> None:
    values = 10 + noise(400)
    values[200:] -= 5
    with run(values.tolist()) as recording:
        (found,) = recording.moments(["value_drop"], threshold=8)
        assert 200 <= found.index < 205 and found.step == found.index and found.score > 8
        assert "fell from 1" in found.text and "in 5 steps" in found.text
        assert recording.moments(["value_drop"], threshold=1000) == []


def test_a_value_that_falls_with_a_new_episode_has_not_dropped(run: Write) -> None:
    values = 10 + noise(400)
    values[200:] -= 5
    with run(values.tolist(), episode=[number // 200 for number in range(400)]) as recording:
        assert recording.moments(["value_drop"], threshold=8) == []


def test_td_errors_follow_their_definition(run: Write) -> None:
    count, gamma = 300, 0.9
    rewards = noise(count, 0.01)
    values = np.zeros(count, np.float32)
    values[150], rewards[220] = 1.0, 2.0
    with run(values.tolist(), reward=rewards.tolist()) as recording:
        found = {each.index: each for each in recording.moments(["td_error"], gamma=gamma, threshold=20, apart=0)}
        assert set(found) == {149, 150, 220}, "V rises unforeseen, and is not kept; a reward comes unforeseen"
        expected = {149: rewards[149] + gamma, 150: rewards[150] - 1.0, 220: 2.0}
        for index, error in expected.items():
            assert f"δ = {error:+.3g}" in found[index].text
        assert "better" in found[149].text and "worse" in found[150].text


def test_nothing_is_expected_after_a_terminated_step_and_unknown_after_one_cut_off(run: Write) -> None:
    values, cut = np.full(300, 5.0), [number == 99 for number in range(300)]
    episodes = [int(number > 99) for number in range(300)]
    options = {"threshold": 1.0, "gamma": 1.0}
    with run(values.tolist(), episode=episodes, terminated=cut, reward=noise(300).tolist()) as recording:
        assert 99 in [each.index for each in recording.moments(["td_error"], **options)]
    with run(values.tolist(), episode=episodes, truncated=cut, reward=noise(300).tolist()) as recording:
        assert 99 not in [each.index for each in recording.moments(["td_error"], apart=0, **options)]


def test_td_errors_of_q_values_are_those_of_the_action_taken(run: Write) -> None:
    q_values = np.stack([noise(200), noise(200) + 3], axis=1)
    actions = [1] * 200
    actions[120] = 0
    with run(q_values.tolist(), name="q_values", action=actions) as recording:
        (found,) = recording.moments(["td_error"], gamma=1.0, threshold=10)
        assert found.index == 120 and "better than expected" in found.text


def test_entropy_peaks_where_the_policy_hesitates(run: Write) -> None:
    logits = np.stack([4 + noise(300), np.zeros(300)], axis=1)
    logits[77] = 0
    with run(logits.tolist(), name="logits") as recording:
        found = recording.moments(["entropy_peak"], threshold=10)
        assert [each.index for each in found] == [77] and "0.693 nats" in found[0].text


def test_terminations_and_new_weights_are_all_there_unless_too_many(tmp_path: Path) -> None:
    with open_recording(record_cartpole(tmp_path / "run.mcap")) as recording:
        ended = np.flatnonzero(recording.array("terminated"))
        found = recording.moments(["terminated", "policy_version"])
        assert [each.index for each in found if each.kind == "terminated"] == ended.tolist()
        changed = [each for each in found if each.kind == "policy_version"]
        assert [each.text for each in changed] == [f"weights, version {k} → {k + 1}" for k in range(1, 4)]
        few = recording.moments(["terminated"], most=3)
        assert len(few) == 3 and {each.index for each in few} <= set(ended.tolist())


def test_all_kinds_are_found_in_the_order_of_steps_and_others_are_named(run: Write) -> None:
    values = 10 + noise(400)
    values[200:] -= 5
    with run(values.tolist(), terminated=[number == 399 for number in range(400)]) as recording:
        found = recording.moments()
        assert {"value_drop", "td_error", "terminated"} <= {each.kind for each in found}
        assert [each.index for each in found] == sorted(each.index for each in found)
        with pytest.raises(ValueError, match="no moments of kind 'boredom'; there are value_drop"):
            recording.moments(["boredom"])


@pytest.mark.parametrize(
    "wrong", [{"gamma": 1.1}, {"gamma": -0.1}, {"over": 0}, {"apart": -1}, {"most": 0}, {"threshold": float("nan")}]
)
def test_criteria_out_of_range_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Criteria(**wrong)


def test_nothing_is_found_where_nothing_is_known(run: Write) -> None:
    with run([float("nan")] * 50) as recording:
        assert recording.moments() == []
    with run([]) as recording:
        assert recording.moments() == []
    with run([1.0] * 3) as recording:
        assert recording.moments() == []


def test_scores_do_not_move_with_outliers() -> None:
    values = noise(1001, 1.0)
    values[500] = 1e6
    expected = (values - np.median(values)) / (1.4826 * median_abs_deviation(values))
    np.testing.assert_allclose(modified_z(values), expected)
    assert modified_z(np.array([1.0, np.nan, np.inf, 1.0])).tolist()[::3] == [0, 0]
    mostly_alike = np.array([0.0] * 9 + [1.0])
    assert modified_z(mostly_alike)[9] == pytest.approx(1 / (1.2533 * 0.1))


@settings(deadline=None)
@given(
    st.lists(st.floats(-10, 10) | st.just(float("nan")), max_size=60),
    st.integers(0, 10),
    st.integers(1, 10),
    st.floats(0, 8),
)
def test_peaks_are_apart_and_none_that_is_larger_is_left_out(
    scores: list[float], apart: int, most: int, threshold: float
) -> None:
    array = np.array(scores, np.float64)
    found = list(peaks(array, Criteria(apart=apart, most=most, threshold=threshold)))
    assert len(found) <= most and all(scores[index] >= threshold for index in found)
    assert all(abs(a - b) > apart for a in found for b in found if a != b)
    if len(found) < most:
        for index in np.flatnonzero(np.nan_to_num(array, nan=-np.inf) >= threshold):
            assert any(abs(index - other) <= apart and scores[other] >= scores[index] for other in found)
