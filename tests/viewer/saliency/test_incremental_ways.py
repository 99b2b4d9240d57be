"""A layer can be computed in more ways than one: whichever costs decide for, maps are the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from replicas import replica_of
from torch import nn

from agentwrap_viewer.saliency import explain
from agentwrap_viewer.saliency.incremental import choices, costs, evaluator, maps, patches
from agentwrap_viewer.saliency.incremental.costs import Costs
from agentwrap_viewer.saliency.incremental.flat import _slabs

#: Costs by which windows are cut to exact sizes, to one size, or a convolution is computed as one product.
COSTS = {"many windows": Costs(1.0, 1.0), "few windows": Costs(1e9, 1e9), "one product": Costs(1e15, 1e-6)}


class Odd(nn.Module):
    """Kernels, strides, paddings and dilations that differ by axis, with and without bias."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2, 5, (3, 2), (2, 1), (1, 0)), nn.ReLU(),
            nn.Conv2d(5, 6, (2, 3), (1, 2), (1, 2), (2, 1), bias=False), nn.Tanh(),
            nn.Conv2d(6, 7, (3, 1), 1, (2, 0), (1, 2)), nn.ELU(), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.LazyLinear(4)

    def forward(self, x):
        return self.head(self.layers(x))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(11)
    module, example = Odd(), torch.rand(1, 2, 23, 31)
    module(example)
    return module.eval(), example


@pytest.mark.parametrize("frames", ["all", "newest"])
@pytest.mark.parametrize("costs", COSTS)
def test_maps_are_the_same_whatever_things_cost(network, costs, frames, monkeypatch):
    module, example = network
    taken = []
    from_patches, windowed = maps.from_patches, maps._windowed
    monkeypatch.setattr(maps, "from_patches", lambda *args: taken.append("product") or from_patches(*args))
    monkeypatch.setattr(maps, "_windowed", lambda *args, **rest: taken.append("windows") or windowed(*args, **rest))
    monkeypatch.setattr(evaluator, "costs", lambda *_: COSTS[costs])
    if costs != "one product":
        monkeypatch.setattr(maps, "patches_of", lambda *_: None)
    options = {"stride": 4, "mask_sigma": 0.6, "frames": frames}
    got = explain(replica_of(module, example, names=("logits",)), example[0], **options)
    expected = explain(lambda batch: module(batch), example[0], **options)
    assert (got.evaluation, expected.evaluation.partition(":")[0]) == ("incremental", "dense")
    assert set(taken) == ({"product"} if costs == "one product" else {"windows"})
    assert np.abs(got.grid - expected.grid).max() <= 1e-4 * expected.grid.max()


@pytest.mark.parametrize("numbers", [1, 1000, 2**16])
@pytest.mark.parametrize("threads", [1, 2])
def test_maps_are_the_same_in_blocks_of_any_size(network, numbers, threads, monkeypatch):
    module, example = network
    cut, blocks = patches._cut, []
    monkeypatch.setattr(patches, "_cut", lambda *args: blocks.append((args[0], cut(*args))) or cut(*args))
    monkeypatch.setattr(evaluator, "costs", lambda *_: replace(COSTS["one product"], block=numbers, piece=16))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        got = explain(replica_of(module, example, names=("logits",)), example[0], stride=4, mask_sigma=0.6)
    finally:
        torch.set_num_threads(before)
    expected = explain(lambda batch: module(batch), example[0], stride=4, mask_sigma=0.6)
    assert blocks and all(pieces % threads == 0 for _, (pieces, _) in blocks)
    assert (numbers == 2**16) == all(outputs <= pieces * length for outputs, (pieces, length) in blocks)
    assert np.abs(got.grid - expected.grid).max() <= 1e-4 * expected.grid.max()


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=9), st.booleans())
def test_slabs_hold_every_line_that_is_touched_once(pairs, merged):
    low, high = np.array([(min(pair), max(pair)) for pair in pairs]).T
    times = np.zeros((len(low), 7), int)
    for slab in _slabs(low, high, merged=merged):
        times[slab.first : slab.beyond, slab.top : slab.bottom] += 1
    assert times.max(initial=0) <= 1
    assert all(times[n, line] == 1 for n in range(len(low)) for line in range(low[n], high[n]))


@pytest.mark.parametrize("slow", ["straight", "turned"])
def test_layout_is_the_faster_one_measured_and_maps_are_the_same(network, slow, monkeypatch):
    module, example = network
    measured, given = [], []

    def timed(way, device):
        measured.append(way.__name__)
        way()
        return 2e-4 if way.__name__ == slow else 1e-4

    convolution = torch.nn.functional.conv2d
    monkeypatch.setattr(costs, "timed", timed)
    monkeypatch.setattr(maps, "patches_of", lambda *_: None)
    choices.channels_last.cache_clear()
    options = {"stride": 4, "mask_sigma": 0.6}
    replica = replica_of(module, example, names=("logits",))
    try:
        explain(replica, example[0], **options)
        once = len(measured)
        monkeypatch.setattr(
            torch.nn.functional,
            "conv2d",
            lambda windows, weight, *args: given.append(weight) or convolution(windows, weight, *args),
        )
        got = explain(replica, example[0], **options)
    finally:
        choices.channels_last.cache_clear()
    assert set(measured) == {"straight", "turned"}
    assert len(measured) == once  # on first use alone
    layouts = {weight.is_contiguous() for weight in given}
    expected = explain(lambda batch: module(batch), example[0], **options)
    assert layouts == {slow == "straight"}
    assert np.abs(got.grid - expected.grid).max() <= 1e-4 * expected.grid.max()


def test_a_machine_that_is_too_busy_to_measure_is_not_measured_for_long(monkeypatch):
    calls = []
    monkeypatch.setattr(costs, "timed", lambda way, device: calls.append(way) or 3.0)
    assert costs.fastest([lambda: None, lambda: None], torch.device("cpu")) == 0
    assert len(calls) == 2


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("better", [1, -1])
def test_blocks_and_pieces_are_those_that_take_least(threads, better, monkeypatch):
    def timed(way, device):
        way()
        (each,) = way.args
        return 1e-4 * (each.block * each.piece / 2**26) ** better  # well within the budget

    monkeypatch.setattr(costs, "timed", timed)
    usual, found = Costs(0.0, 0.0), costs._in_blocks(torch.device("cpu"), threads)
    times = 0.5 if better == 1 else 2
    assert (found.block, found.piece) == (times * usual.block, times * usual.piece)


def test_smallest_blocks_may_be_one_large_piece(monkeypatch):
    monkeypatch.setattr(costs, "timed", lambda way, device: way() or 1e-7 * way.args[0].block / way.args[0].piece)
    usual, found = Costs(0.0, 0.0), costs._in_blocks(torch.device("cpu"), 1)
    assert (found.block, found.piece) == (usual.block // 2, 2 * usual.piece)


def test_layout_is_measured_once_for_windows_of_all_sizes(monkeypatch):
    calls = []
    monkeypatch.setattr(costs, "timed", lambda way, device: calls.append(way) or 1.0)
    choices.channels_last.cache_clear()
    try:
        for window in ((5, 5), (6, 7)):
            like = choices.Convolution(
                torch.device("cpu"), 1, torch.float32, (4, 3, 3, 3), (1, 1), (1, 1), window=window
            )
            choices.channels_last(like)
            assert len(calls) == 2  # one turn, too slow for another
    finally:
        choices.channels_last.cache_clear()
