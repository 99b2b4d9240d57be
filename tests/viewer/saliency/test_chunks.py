"""How many observations a policy is given at a time."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from agentwrap_viewer.saliency import explain, perturbed, refine
from agentwrap_viewer.saliency.chunks import MOST_NUMBERS, TURNS, Chunks, usual_size

#: On it 289 spots are put.
IMAGE = torch.rand(4, 84, 84, generator=torch.Generator().manual_seed(0))
USUAL = usual_size(IMAGE.numel())


class Recorded:
    """A function of the brightness of two corners that notes the sizes of its batches, and says how long each takes."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.clock = 0.0

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(batch))
        self.clock += 0.02 + 0.0001 * len(batch)
        return torch.stack([batch[:, :, :9, :9].mean((1, 2, 3)), batch[:, :, -9:, -9:].mean((1, 2, 3))], 1)


def told(chunks: Chunks, seconds: dict[int, float], count: int) -> list[int]:
    """Evaluate so many observations at a time each, and return in which batches."""
    sizes = []
    while count:
        sizes.append(chunks.next(count))
        chunks.took(sizes[-1], seconds[sizes[-1]])
        count -= sizes[-1]
    return sizes


def test_three_sizes_are_taken_in_turns_then_the_one_that_took_least_for_each() -> None:
    chunks = Chunks(32, 512)
    sizes = told(chunks, {16: 2.0, 32: 3.0, 64: 4.0}, TURNS * (16 + 32 + 64))
    assert sizes == [32, 16, 64] * TURNS and chunks.best == 64 and not chunks.measuring
    assert told(chunks, {64: 9.0, 10: 9.0}, 138) == [64, 64, 10] and chunks.best == 64


def test_noise_leaves_the_usual_size() -> None:
    chunks = Chunks(32, 512)
    told(chunks, {16: 0.95, 32: 2.0, 64: 3.7}, TURNS * 112)
    assert chunks.best == 32 and not chunks.measuring


def test_the_first_batch_of_a_size_does_not_count() -> None:
    chunks = Chunks(32, 32)  # no larger one is tried
    for size in (32, 16) * TURNS:
        chunks.took(size, 50.0 if size == 32 and not chunks._turns[32] else size / 32)
    assert chunks.best == 32


def test_few_observations_are_one_batch_and_large_ones_are_not_doubled() -> None:
    assert told(Chunks(32, 512), {20: 1.0}, 20) == [20]
    assert usual_size(3 * 224 * 224) == 8 and 2 * 8 * 3 * 224 * 224 > MOST_NUMBERS
    policy, huge = Recorded(), torch.rand(3, 224, 224)
    explain(policy, huge, method="occlusion", target=0, patch=28, patch_stride=28)
    assert max(policy.sizes) == 8


def test_a_policy_that_pays_for_each_call_gets_larger_batches_and_the_same_map(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = Recorded()
    monkeypatch.setattr(perturbed, "time", SimpleNamespace(perf_counter=lambda: policy.clock))
    first = explain(policy, IMAGE, target=0)
    assert {USUAL // 2, USUAL, 2 * USUAL} <= set(policy.sizes), "measured while the map is made"
    assert sum(policy.sizes) == 289 + 1, "and nothing is evaluated for that"
    for _ in range(4):
        explain(policy, IMAGE, target=0)
    policy.sizes.clear()
    later = explain(policy, IMAGE, target=0)
    assert sum(policy.sizes) == 289 + 1 and policy.sizes.count(2 * USUAL) >= 2 and USUAL // 2 not in policy.sizes
    np.testing.assert_allclose(later.grid, first.grid, rtol=0, atol=1e-6 * first.grid.max())
    *_, last = refine(policy, IMAGE, target=0)
    np.testing.assert_allclose(last.grid, first.grid, rtol=0, atol=1e-6 * first.grid.max())


def test_a_size_that_is_asked_for_stays() -> None:
    policy = Recorded()
    explain(policy, IMAGE, target=0, chunk=50)
    assert max(policy.sizes) == 50 and {USUAL // 2, USUAL, 2 * USUAL}.isdisjoint(policy.sizes)
