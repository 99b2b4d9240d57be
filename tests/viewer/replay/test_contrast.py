"""What two policies compute for all steps: asked for nearest first, kept, and marked where they act differently."""

from __future__ import annotations

import numpy as np
import pytest

from agentwrap_protocol.messages import Outputs
from agentwrap_protocol.spaces import Box, Discrete
from agentwrap_viewer.replay.compare import short
from agentwrap_viewer.replay.contrast import AHEAD, PART, PATIENCE, Contrast

STEPS = np.arange(1000, 1000 + 5 * PART, dtype=np.int64)


class Explainer:
    """Notes what it is asked for, and answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[np.ndarray] = []
        self.there = True

    def evaluate(self, steps: np.ndarray, versions: tuple[int, int]) -> bool:
        assert versions == (1, 2)
        if self.there:
            self.asked.append(steps)
        return self.there


def begun(**options: object) -> Contrast:
    return Contrast(STEPS, (1, 2), ("novice", "expert"), Discrete(n=3), action_name="ABC".__getitem__, **options)


def answer(contrast: Contrast, steps: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
    for version, best in ((1, left), (2, right)):
        logits = np.eye(3, dtype=np.float32)[best] * 5
        arrays = {"step": steps, "output/logits": logits, "output/value": np.full(len(steps), version, np.float32)}
        contrast.take(Outputs(stream="0" * 32, source="1" * 32, policy_version=version, arrays=arrays))


def test_policies_that_differ_in_masked_options_alone_agree() -> None:
    asked = []

    def free(begin: int, end: int, options: int) -> np.ndarray:
        asked.append((begin, end, options))
        return np.arange(begin, end)[:, None] % 2 != np.array([0, 2, 2])  # at even steps the first option is masked

    contrast = begun(free=free)
    zeros = np.zeros(6, np.int64)
    answer(contrast, STEPS[4:10], zeros, zeros + 1)
    assert asked == [(4, 10, 3)]
    assert contrast.disagree[4:10].tolist() == [False, True] * 3
    assert [contrast.actions(position)[0].tolist() for position in (4, 5)] == [[1], [0]]


def test_what_is_nearest_is_asked_for_first_and_not_all_at_once() -> None:
    contrast, explainer = begun(), Explainer()
    contrast.near = 2 * PART + 3
    contrast.ask(explainer)
    contrast.ask(explainer)
    assert len(explainer.asked) == AHEAD
    assert explainer.asked[0][0] == STEPS[contrast.near]
    assert sorted(explainer.asked[0]) == STEPS[2 * PART : 3 * PART].tolist()
    while len(explainer.asked) < 5:
        steps = explainer.asked[-1]
        answer(contrast, steps, np.zeros(len(steps), int), np.ones(len(steps), int))
        contrast.ask(explainer)
    for steps in explainer.asked:
        answer(contrast, steps, np.zeros(len(steps), int), np.ones(len(steps), int))
    assert contrast.complete and contrast.known == len(STEPS)
    assert sorted(np.concatenate(explainer.asked).tolist()) == STEPS.tolist(), "each step once"


def test_what_does_not_come_is_asked_for_again_without_what_came() -> None:
    now = [0.0]
    contrast, explainer = begun(clock=lambda: now[0]), Explainer()
    explainer.there = False
    contrast.ask(explainer)  # there is none yet
    explainer.there = True
    contrast.ask(explainer)
    answer(contrast, STEPS[:100], np.zeros(100, int), np.zeros(100, int))
    now[0] = PATIENCE + 1
    contrast.ask(explainer)
    assert sorted(explainer.asked[-2]) == STEPS[100:PART].tolist()


def test_a_mark_stands_where_they_begin_to_act_differently() -> None:
    contrast = begun()
    assert contrast.marks() == [] and contrast.outputs(3, 0) is None and contrast.actions(3) is None
    left, right = np.array([0, 0, 0, 1, 1, 2, 2]), np.array([0, 1, 1, 1, 0, 0, 0])
    answer(contrast, STEPS[:7], left, right)
    assert [(mark.step, mark.kind) for mark in contrast.marks()] == [
        (1001, "disagreement"),
        (1004, "disagreement"),
        (1005, "disagreement"),
    ]
    p = np.exp(5) / (np.exp(5) + 2)
    assert contrast.distance[1] == pytest.approx(p - (1 - p) / 2)
    assert contrast.marks()[0].text == f"novice A, expert B (distance {p - (1 - p) / 2:.2f})"
    outputs = contrast.outputs(4, 1)
    assert outputs is not None and outputs["value"] == 2
    figures = contrast.figures()
    assert (figures["known"], figures["disagreements"], figures["steps"]) == (7, 5, len(STEPS))


def test_answers_about_other_steps_or_versions_change_nothing() -> None:
    contrast = begun()
    for version, steps in ((7, STEPS[:2]), (1, STEPS[:2] + 10**6)):
        logits = np.zeros((2, 3), np.float32)
        arrays = {"step": steps, "output/logits": logits}
        contrast.take(Outputs(stream="0" * 32, source="1" * 32, policy_version=version, arrays=arrays))
    assert contrast.changes == 0 and contrast.known == 0


def test_policies_that_cannot_be_compared_say_why_and_nothing_more_is_asked() -> None:
    contrast, explainer = begun(), Explainer()
    for version in (1, 2):
        arrays = {"step": STEPS[:2], "output/value": np.zeros(2, np.float32)}
        contrast.take(Outputs(stream="0" * 32, source="1" * 32, policy_version=version, arrays=arrays))
    assert contrast.problem is not None and "output value" in contrast.problem
    contrast.ask(explainer)
    assert not explainer.asked


def test_continuous_actions_are_said_by_their_elements() -> None:
    space = Box(shape=(2,), dtype="float32", low=-1.0, high=1.0)
    contrast = Contrast(STEPS, (1, 2), ("a", "b"), space)
    for version, mean in ((1, [0.0, 0.0]), (2, [0.0, 1.5])):
        arrays = {"step": STEPS[:1], "output/mean": np.array([mean], np.float32)}
        contrast.take(Outputs(stream="0" * 32, source="1" * 32, policy_version=version, arrays=arrays))
    assert contrast.said(0) == "a 0, 0, b 0, 1.5 (distance 0.75)"
    assert len(contrast.marks()) == 1


def test_names_lose_what_both_begin_with() -> None:
    assert short("enduro-novice", "enduro-expert") == ("novice", "expert")
    assert short("version 1", "version 2") == ("version 1", "version 2")
    assert short("step-", "step-9") == ("step-", "step-9")
    assert short("best", "best") == ("best (left)", "best (right)")


def test_it_grows_and_keeps_what_is_known() -> None:
    contrast, explainer = Contrast(STEPS[:200], (1, 2), ("novice", "expert"), Discrete(n=3)), Explainer()
    left, right = np.zeros(200, int), np.arange(200) % 2
    answer(contrast, STEPS[:200], left, right)
    assert contrast.complete
    before, marks = contrast.distance.copy(), contrast.marks()
    contrast.grow(STEPS[:500])
    assert not contrast.complete and contrast.known == 200 and contrast.outputs(300, 0) is None
    np.testing.assert_array_equal(contrast.distance, np.append(before, np.full(300, np.nan)))
    assert contrast.marks() == marks
    while not contrast.complete:
        contrast.ask(explainer)
        steps = explainer.asked[-1]
        assert steps.min() >= STEPS[200]
        answer(contrast, steps, np.zeros(len(steps), int), np.ones(len(steps), int))
    assert contrast.disagree[200:].all() and contrast.actions(499) is not None
