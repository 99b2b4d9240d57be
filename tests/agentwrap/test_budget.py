from __future__ import annotations

from agentwrap.budget import PIECE, Budget, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_is_not_used_is_saved_up_to_a_second() -> None:
    clock = Clock()
    budget = Budget(50, clock)
    assert budget.left == 0
    clock.now = 0.5
    assert abs(budget.left - 0.025) < 1e-12
    clock.now = 100
    assert budget.left == 0.05
    budget.spend(0.08)
    assert abs(budget.left + 0.03) < 1e-12  # more was spent than there was: it is made up for
    clock.now = 101
    assert abs(budget.left - 0.02) < 1e-12


def settled(seconds_of, most: int) -> Pace:
    pace = Pace(most)
    for _ in range(100):
        pace.took(pace.rows, seconds_of(pace.rows))
    return pace


def test_pieces_grow_to_what_takes_the_time_of_one() -> None:
    assert settled(lambda rows: rows * PIECE / 40, 512).rows == 32
    assert settled(lambda rows: 0.0001, 64).rows == 64
    assert settled(lambda rows: 3 * PIECE, 64).rows == 1
    assert settled(lambda rows: rows * PIECE / 40, 1).rows == 1


def test_the_first_call_of_each_size_does_not_count() -> None:
    met: set[int] = set()

    def compiles(rows: int) -> float:
        first = rows not in met
        met.add(rows)
        return 3.0 if first else 0.0001

    assert settled(compiles, 64).rows == 64
