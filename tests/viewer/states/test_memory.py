"""What is kept of a long run: the newest points, and a fair sample of all before."""

from __future__ import annotations

import numpy as np

from agentwrap_viewer.states.memory import StateMemory


def filled(count: int, *, seed: int = 0, **bounds: int) -> StateMemory:
    memory = StateMemory(4, 1, seed=seed, **bounds)
    for step in range(count):
        memory.rows[memory.add(step, np.full(4, step + 500, np.float32)), 0] = step
    return memory


def test_all_are_kept_until_it_is_full() -> None:
    memory = filled(100, max_points=100)
    assert memory.step.tolist() == list(range(100)) and len(memory) == 100


def test_then_the_newest_half_and_a_fair_sample_of_the_rest() -> None:
    kept = np.zeros(1000)
    for seed in range(60):
        memory = filled(1000, max_points=100, seed=seed)
        steps = memory.step[: len(memory)]
        assert set(range(950, 1000)) < set(steps.tolist()) and len(set(steps.tolist())) == 100
        np.testing.assert_array_equal(memory.rows[:100, 0], steps)
        np.testing.assert_allclose(
            memory.latents(np.arange(100))[:, 0] / memory.latents(np.arange(100))[0, 0],
            (steps + 500) / (steps[0] + 500),
            rtol=2e-3,
        )
        kept[steps] += 1
    shares = kept[:950].reshape(5, 190).sum(1) / kept[:950].sum()
    assert np.abs(shares - 0.2).max() < 0.03, "every part of the past is kept alike"


def test_bytes_are_bounded_too() -> None:
    memory = StateMemory(512, 5, max_bytes=10 * 1024 * 10)
    assert memory.capacity == 100


def test_finds_the_slot_of_a_step() -> None:
    memory = filled(300, max_points=50)
    for slot in range(50):
        assert memory.slot_of(int(memory.step[slot])) == slot
    gone = set(range(300)) - set(memory.step.tolist())
    assert all(memory.slot_of(step) is None for step in gone)


def test_large_numbers_do_not_overflow() -> None:
    memory = StateMemory(3, 1)
    memory.add(0, np.array([1e6, -1e6, 0], np.float32))
    memory.add(1, np.array([3e38, -3e38, 1e6], np.float32))
    found = memory.latents(np.arange(2))
    assert np.isfinite(found).all() and found[0].tolist() == [64, -64, 0] and found[1, 0] == 6e4
