"""Distances and differences against plain formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from agentwrap_protocol.messages import SaliencyMap
from agentwrap_protocol.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from agentwrap_viewer.comparison.measures import compare_outputs, map_difference

LOGITS = arrays(np.float32, (3, 4), elements=st.floats(-30, 30, width=32))
BOX = Box(shape=(2,), dtype="float32", low=-1.0, high=1.0)


@given(LOGITS, LOGITS)
def test_total_variation_is_half_the_summed_difference_and_symmetric(one: np.ndarray, other: np.ndarray) -> None:
    apart = compare_outputs({"logits": one}, {"logits": other}, Discrete(n=4))
    for row in range(3):
        p, q = (np.exp(x[row].astype(float)) / np.exp(x[row].astype(float)).sum() for x in (one, other))
        assert apart.distance[row] == pytest.approx(sum(max(a - b, 0) for a, b in zip(p, q, strict=True)), abs=1e-9)
        assert apart.disagree[row] == (one[row].argmax() != other[row].argmax())
    again = compare_outputs({"logits": other}, {"logits": one}, Discrete(n=4))
    np.testing.assert_allclose(apart.distance, again.distance)
    same = compare_outputs({"logits": one}, {"logits": one}, Discrete(n=4))
    assert not same.distance.any() and not same.disagree.any()


@pytest.mark.parametrize("name", ["logits", "q_values"])
@given(one=LOGITS, other=LOGITS, free=arrays(np.bool_, 4))
def test_masked_options_count_as_if_there_were_none(
    name: str, one: np.ndarray, other: np.ndarray, free: np.ndarray
) -> None:
    free[2] = True
    masks = np.broadcast_to(free, one.shape)
    apart = compare_outputs({name: one}, {name: other}, Discrete(n=4), masks)
    among = compare_outputs({name: one[:, free]}, {name: other[:, free]}, Discrete(n=int(free.sum())))
    np.testing.assert_allclose(apart.distance, among.distance, atol=1e-12)
    np.testing.assert_array_equal(apart.disagree, among.disagree)
    for with_masks, alone in zip(apart.actions, among.actions, strict=True):
        np.testing.assert_array_equal(with_masks, np.flatnonzero(free)[alone])


def test_of_several_choices_at_once_the_one_furthest_apart_counts() -> None:
    one, other = np.zeros((1, 5), np.float32), np.array([[0, 0, 50, 0, 0]], np.float32)
    apart = compare_outputs({"logits": one}, {"logits": other}, MultiDiscrete(counts=(2, 3)))
    assert apart.distance == pytest.approx([2 / 3]) and apart.actions[1].tolist() == [[0, 0]]
    assert not apart.disagree[0], "both begin with the first of equals"


def test_switches_are_apart_each_for_itself() -> None:
    one, other = np.array([[0.0, 3.0, -1.0]]), np.array([[math.log(3), 3.0, 1.0]])
    apart = compare_outputs({"logits": one}, {"logits": other}, MultiBinary(shape=(3,)))
    assert apart.distance == pytest.approx([1 / (1 + math.exp(-1)) - 1 / (1 + math.exp(1))])
    assert apart.disagree[0] and [each.tolist() for each in apart.actions] == [[[0, 1, 0]], [[1, 1, 1]]]


def test_q_values_are_apart_by_what_each_loses() -> None:
    one, other = np.array([[0.0, 10.0, 5.0]]), np.array([[4.0, 0.0, 2.0]])
    apart = compare_outputs({"q_values": one}, {"q_values": other}, Discrete(n=3))
    assert apart.distance == pytest.approx([(10 / 10 + 4 / 4) / 2]) and apart.disagree[0]
    flat = compare_outputs({"q_values": np.zeros((1, 3))}, {"q_values": other}, Discrete(n=3))
    assert flat.distance == pytest.approx([0.0])


def test_normal_distributions_are_apart_as_the_integral_says() -> None:
    mean, other = np.array([[0.0, 1.0]]), np.array([[0.5, 1.0]])
    deviation, wider = np.array([[1.0, 2.0]]), np.array([[1.5, 2.0]])
    x = np.linspace(-30, 30, 200_001)

    def density(m: float, s: float) -> np.ndarray:
        return np.exp(-((x - m) ** 2) / (2 * s * s)) / (s * math.sqrt(2 * math.pi))

    affinity = np.prod(
        [
            np.trapezoid(np.sqrt(density(mean[0, i], deviation[0, i]) * density(other[0, i], wider[0, i])), x)
            for i in (0, 1)
        ]
    )
    left = {"mean": mean, "log_std": np.log(deviation)}
    apart = compare_outputs(left, {"mean": other, "log_std": np.log(wider)}, BOX)
    assert apart.distance == pytest.approx([math.sqrt(1 - affinity)], abs=1e-6)
    assert compare_outputs(left, {**left, "mean": mean + 9}, BOX).disagree[0]


def test_actions_without_a_deviation_are_apart_by_a_share_of_the_range() -> None:
    apart = compare_outputs({"mean": np.zeros((1, 2))}, {"mean": np.array([[0.5, -1.5]])}, BOX)
    assert apart.distance == pytest.approx([0.75]) and apart.disagree[0]


def test_what_is_not_finite_is_not_known() -> None:
    bad = np.array([[np.nan, 0.0], [np.inf, 0.0], [0.0, 1.0]])
    for name in ("logits", "q_values"):
        apart = compare_outputs({name: bad}, {name: np.array([[1.0, 0.0]] * 3)}, Discrete(n=2))
        assert np.isnan(apart.distance).tolist() == [True, True, False] and apart.disagree.tolist() == [
            False,
            False,
            True,
        ]


def test_policies_without_an_actor_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match="output value"):
        compare_outputs({"value": np.zeros(1)}, {"value": np.zeros(1)}, Discrete(n=2))


def a_map(scores: list[float], scale: str = "magnitude", **more: np.ndarray) -> SaliencyMap:
    return SaliencyMap(
        stream="0" * 32, source="0" * 32, step=0, method="m", scale=scale, targets=("actor",), refined=1.0, seconds=0.0,
        forwards=1, arrays={"heatmap/actor": np.array([scores], np.float32), "grid/actor": np.zeros((1, 1)), **more},
    )  # fmt: skip


def test_maps_differ_by_shares_of_their_own_largest_score() -> None:
    found = map_difference(a_map([0, 5, 10]), a_map([0.02, 0.01, float("nan")]))
    assert found.keys() == {"heatmap/actor"}
    np.testing.assert_allclose(found["heatmap/actor"], [[1.0, 0.0, -1.0]])
    signed = map_difference(a_map([-2, 1], "signed"), a_map([3, 0], "signed"))
    np.testing.assert_allclose(signed["heatmap/actor"], [[2.0, -0.5]])
    relative = map_difference(a_map([7, 8, 9], "relative"), a_map([1, 1, 1], "relative"))
    np.testing.assert_allclose(relative["heatmap/actor"], [[0, -0.5, -1]])
    assert not map_difference(a_map([1.0]), a_map([1, 2]))
