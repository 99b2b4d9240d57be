"""Calling a policy for others, by a clock that only its calls move: nothing here depends on how fast a machine is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from agentwrap.black_box import MOST_ROWS
from agentwrap.budget import PIECE
from agentwrap.probing import MOST_REQUESTS, Probing
from agentwrap_protocol.graph import Input
from agentwrap_protocol.messages import Probe

STEP = 0.01  #: Seconds that the environment takes for a step.


class Box:
    """Takes its time by the row; keeps the sizes of its calls."""

    inputs = (Input(name="observation", array="observation", dtype="float32", shape=(-1, 2)),)
    outputs = ("logits",)
    most_rows = MOST_ROWS

    def __init__(self, seconds_per_row: float) -> None:
        self.now, self.seconds_per_row, self.calls = 0.0, seconds_per_row, list[int]()
        self.error: Exception | None = None

    def clock(self) -> float:
        return self.now

    def __call__(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        rows = len(arrays["observation"])
        self.calls.append(rows)
        self.now += rows * self.seconds_per_row
        if self.error is not None:
            raise self.error
        return {"logits": 2 * arrays["observation"]}


class Asking:
    """A policy that is probed, and somebody who asks."""

    def __init__(self, seconds_per_row: float = 0.0002, ms_per_s: float = 50.0) -> None:
        self.box = Box(seconds_per_row)
        self.probing = Probing(ms_per_s, clock=self.box.clock)
        self.probing.open(self.box)
        self.answers: list[tuple[dict[str, Any], str | None]] = []

    def ask(self, rows: int, who: int = 1, **arrays: Any) -> None:
        observation = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
        request = Probe(stream=f"{who:032x}", source="0" * 32, arrays=arrays or {"observation": observation})
        self.probing.ask(request, lambda found, problem: self.answers.append((dict(found), problem)))

    def steps(self, count: int) -> float:
        """Let the agent make steps; return the longest that one was held up."""
        longest = 0.0
        for _ in range(count):
            self.box.now += STEP
            before = self.box.now
            if self.probing.waiting:
                self.probing.work()
            longest = max(longest, self.box.now - before)
        return longest

    def problem(self) -> str:
        (found, problem), *_ = self.answers
        assert not found and problem is not None
        return problem


def test_a_request_is_answered_row_by_row_over_several_steps() -> None:
    asking = Asking()
    asking.ask(300)
    assert asking.probing.waiting and not asking.box.calls  # nothing is called in the thread that asks
    asking.steps(200)
    ((found, problem),) = asking.answers
    assert problem is None and not asking.probing.waiting
    np.testing.assert_array_equal(found["output/logits"], 2 * np.arange(600, dtype=np.float32).reshape(300, 2))


@pytest.mark.parametrize("ms_per_s", [10.0, 50.0])
def test_the_agent_is_not_held_up_for_more_than_the_budget(ms_per_s: float) -> None:
    asking = Asking(seconds_per_row=0.0007, ms_per_s=ms_per_s)
    for _ in range(50):
        asking.ask(1000)
        asking.steps(20)
    spent = sum(asking.box.calls) * asking.box.seconds_per_row
    assert spent <= ms_per_s / 1000 * asking.box.now + PIECE
    assert spent >= 0.8 * ms_per_s / 1000 * asking.box.now  # and what it may take it takes
    asking.ask(1000)
    assert asking.steps(100) <= 2 * PIECE  # nor does a step wait for more than a piece, once its pace is known


def test_a_policy_sees_few_sizes_of_batches() -> None:
    asking = Asking()
    for rows in (1, 3, 7, 50, 111, 300):
        asking.ask(rows)
        asking.steps(300)
    assert len(asking.answers) == 6 and set(asking.box.calls) <= {2**power for power in range(10)}


def test_a_policy_that_takes_one_observation_at_a_time_sees_several_and_none_twice() -> None:
    asking = Asking(seconds_per_row=0.00005)
    asking.box.most_rows = 1
    asking.probing.open(asking.box)
    for _ in range(4):
        asking.ask(rows=48)
        asking.steps(20)
    assert sum(asking.box.calls) == 4 * 48 and max(asking.box.calls) > 8
    assert len(asking.answers) == 4


def test_without_a_step_nothing_is_called() -> None:
    asking = Asking()
    asking.ask(10)
    asking.box.now += 3600
    assert not asking.box.calls and not asking.answers


def test_a_newer_request_takes_the_place_of_one_that_waits() -> None:
    asking = Asking()
    asking.ask(10)
    asking.ask(1)
    assert "newer request" in asking.problem()
    asking.steps(20)
    assert len(asking.answers) == 2 and asking.answers[1][0]["output/logits"].shape == (1, 2)


def test_no_more_than_a_few_requests_wait() -> None:
    asking = Asking()
    for who in range(MOST_REQUESTS + 1):
        asking.ask(1, who)
    assert "wait already" in asking.problem()
    asking.steps(50)
    assert len(asking.answers) == MOST_REQUESTS + 1


def test_a_policy_that_raises_is_left_alone() -> None:
    asking = Asking()
    asking.box.error = ValueError("no such colour")
    asking.ask(5)
    with pytest.raises(ValueError, match="colour"):
        asking.steps(5)
    assert "ValueError" in asking.problem() and "no such colour" in asking.problem()
    asking.ask(5)
    asking.steps(100)
    assert len(asking.box.calls) == 1 and asking.probing.info is None and len(asking.answers) == 2


def test_a_policy_that_is_slow_is_left_alone() -> None:
    asking = Asking(seconds_per_row=0.2)
    for _ in range(5):
        asking.ask(5)
        asking.steps(1000)
    assert len(asking.box.calls) <= 3 and asking.probing.info is None
    assert "200 ms for one observation" in asking.problem()


def test_outputs_of_steps_take_half_of_the_budget_at_most() -> None:
    asking = Asking(seconds_per_row=0.002)
    for _ in range(1000):
        asking.box.now += STEP
        asking.probing.outputs({"observation": np.zeros(2, np.float32)})
    assert 0.4 * 0.05 <= 0.002 * len(asking.box.calls) / asking.box.now <= 0.5 * 0.05 + 0.001


def test_a_budget_of_nothing_calls_nothing() -> None:
    asking = Asking(ms_per_s=0)
    assert asking.probing.info is None
    asking.ask(1)
    assert "probe_ms_per_s is 0" in asking.problem()
    assert asking.probing.outputs({"observation": np.zeros(2, np.float32)}) is None and not asking.box.calls


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"image": np.zeros((1, 2), np.float32)}, "wanted are 'observation'"),
        ({"observation": np.zeros((1, 3), np.float32)}, r"shape \(1, 3\); wanted is \(B, 2\)"),
        ({"observation": np.zeros((1, 2), np.int64)}, "elements of int64"),
        ({"observation": np.zeros((0, 2), np.float32)}, "0 rows"),
        ({"observation": np.zeros((5000, 2), np.float32)}, "5000 rows"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_policy_sees_it(arrays: dict[str, Any], says: str) -> None:
    asking = Asking()
    asking.ask(0, **arrays)
    with pytest.raises(ValueError, match=says):
        raise ValueError(asking.problem())
    assert not asking.probing.waiting
