"""What things cost on a device, measured when they are first weighed against each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Costs:
    """Costs in multiply-adds of a convolution, so that they can be added to what layers compute.

    Attributes:
        group: One more group of windows: calls, and a worse use of vector units.
        moved: One number that is copied from one place to another.
        block: Not a cost: the most numbers that convolutions bring together at a time for each thread of a processor;
            see ``patches``. 2**18 are 1 MiB; twice that took as long where it was measured, and the memory.
        piece: The outputs in one of the products that its threads share.
    """

    group: float
    moved: float
    block: int = 2**18
    piece: int = 256

    def window(self, multiply_adds: float, read: float, written: float) -> float:
        """Return the cost of one pixel of a window that is gathered, computed and put into a table."""
        return multiply_adds + self.moved * (read + written)


#: Channels, side and number of the windows that are measured.
_CHANNELS, _SIDE, _COUNT = 64, 12, 16

#: Number and side of the outputs in a group that is too small to be computed well.
_FEW, _SMALL = 15, 4

#: How often a call is measured: at least, at most, and after how many seconds no more than at least.
_FEWEST_TURNS, _MOST_TURNS, _MOST_SECONDS = 8, 48, 0.1

#: Inputs under a kernel, and rows of the table, where blocks are measured.
_TAPS, _ROWS = 8, 4096

#: Turns in which each way is taken.
_TURNS = 6

#: How much less another way has to take: less than that is noise.
WORTH = 0.9

#: What is believed of a processor. On two quiet cores of a Xeon 12e6 and 13.5 were measured (one thread: 6e6 and 17);
#: beside a training that took both cores, anything from 0 to 2e9 and 0.6 to 3000, with plans to match.
_GROUP_RANGE, _MOVED_RANGE = (1e6, 5e7), (4.0, 40.0)


@cache
def costs(device: torch.device, threads: int) -> Costs:
    """Measure, once for a process: some milliseconds.

    Args:
        device: Where windows will be computed.
        threads: torch's threads: with others, other costs.
    """
    weight = torch.randn(_CHANNELS, _CHANNELS, 3, 3, device=device).contiguous(memory_format=torch.channels_last)
    table = torch.randn(_COUNT * (_SIDE + 2) ** 2, _CHANNELS, device=device)
    out = torch.empty(_COUNT * _SIDE**2, _CHANNELS, device=device)
    rows = torch.arange(len(table), device=device, dtype=torch.int32)

    def group(count: int, side: int) -> None:
        length = count * (side + 2) ** 2
        windows = table.index_select(0, rows[:length]).view(count, side + 2, side + 2, -1).permute(0, 3, 1, 2)
        result = F.conv2d(windows, weight).permute(0, 2, 3, 1).reshape(-1, _CHANNELS)
        out[: len(result)] = result

    windows = table.view(_COUNT, _SIDE + 2, _SIDE + 2, -1).permute(0, 3, 1, 2)
    multiply_adds = len(out) * weight.numel()
    per_second = multiply_adds / _seconds(lambda: F.conv2d(windows, weight), device)
    moved = per_second * _seconds(lambda: table.index_select(0, rows), device) / table.numel()
    few = _FEW * _SMALL**2 * weight.numel()
    grouped = max(per_second * _seconds(lambda: group(_FEW, _SMALL), device) - few, 0.0)
    if device.type == "cpu":
        grouped, moved = (_within(value, *r) for value, r in ((grouped, _GROUP_RANGE), (moved, _MOVED_RANGE)))
    return replace(_in_blocks(device, threads), group=grouped, moved=moved)


def _in_blocks(device: torch.device, threads: int) -> Costs:
    """Find the best size of block, then that of its pieces, each beside half and twice of what is usual.

    By a product of the size of a convolution's with 64 channels: it is the cache that is asked for, not the network.
    """
    usual = Costs(0.0, 0.0)
    if device.type != "cpu":
        return usual
    numbers, outputs = _TAPS * _CHANNELS, 2 * threads * usual.block // (_TAPS * _CHANNELS)
    table, rows = torch.randn(_ROWS, _CHANNELS), torch.arange(outputs * _TAPS, dtype=torch.int32) % _ROWS
    weight, under = torch.randn(1, numbers, _CHANNELS), torch.empty(outputs * _TAPS, _CHANNELS)
    results = torch.empty(outputs, _CHANNELS)

    def by(each: Costs) -> None:
        block = threads * each.block // numbers
        pieces, there = max(1, block // each.piece), under[: block * _TAPS]  # half a block is less than two pieces
        for some, result in zip(torch.split(rows, block * _TAPS), torch.split(results, block), strict=True):
            torch.index_select(table, 0, some, out=there)
            product = there.view(pieces, -1, numbers), weight.expand(pieces, -1, -1)
            torch.bmm(*product, out=result.view(pieces, -1, _CHANNELS))

    for name in ("block", "piece"):
        kept = getattr(usual, name)
        ways = [replace(usual, **{name: size}) for size in (kept, kept // 2, kept * 2)]
        usual = ways[fastest([partial(by, way) for way in ways], device, budget=0.02)]
    return usual


def _within(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _seconds(act: Callable[[], object], device: torch.device) -> float:
    """Return the least time of some calls; the first ones, which set things up, are not counted.

    On a busy machine most calls wait for a thread that is not let run, a hundred times as long as they compute: they go
    on for a while, so that one that did not wait is among them.
    """
    best, until = float("inf"), time.perf_counter() + _MOST_SECONDS
    for turn in range(_MOST_TURNS):
        if turn >= _FEWEST_TURNS and time.perf_counter() > until:
            break
        taken = timed(act, device)
        if turn > 1:
            best = min(best, taken)
    return best


def fastest(ways: Sequence[Callable[[], object]], device: torch.device, *, budget: float = 0.005) -> int:
    """Return which way takes least, measured in turns; the first, unless another takes less than that by a tenth.

    Less than that is noise; on a machine too busy to tell it is the first. The first turn sets things up and is not
    counted; no further one begins after ``budget`` seconds.
    """
    least, spent = [float("inf")] * len(ways), 0.0
    for turn in range(_TURNS):
        taken = [timed(way, device) for way in ways]
        if turn:
            least = list(map(min, least, taken))
        spent += sum(taken)
        if spent > budget:
            break
    best = least.index(min(least))
    return best if least[best] < WORTH * least[0] else 0


def timed(act: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that one call takes, to its end on the device."""
    start = time.perf_counter()
    act()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
