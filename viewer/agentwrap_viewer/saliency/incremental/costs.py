"""What things cost on a device, measured when they are first weighed against each other."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Costs:
    """Costs in multiply-adds of a convolution, so that they can be added to what layers compute.

    Attributes:
        group: One more group of windows: calls, and a worse use of vector units.
        moved: One number that is copied from one place to another.
    """

    group: float
    moved: float

    def window(self, multiply_adds: float, read: float, written: float) -> float:
        """Return the cost of one pixel of a window that is gathered, computed and put into a table."""
        return multiply_adds + self.moved * (read + written)


#: Channels, side and number of the windows that are measured.
_CHANNELS, _SIDE, _COUNT = 64, 12, 16

#: Number and side of the outputs in a group that is too small to be computed well.
_FEW, _SMALL = 15, 4

#: How often a call is measured: at least, at most, and after how many seconds no more than at least.
_FEWEST_TURNS, _MOST_TURNS, _MOST_SECONDS = 8, 48, 0.1

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
    return Costs(grouped, moved)


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


def timed(act: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that one call takes, to its end on the device."""
    start = time.perf_counter()
    act()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
