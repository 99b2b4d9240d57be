"""Whether the viewer's memory stays flat: much stream, a tab that looks on and one that has stalled.

The stalled tab is a connection to the page's socket that never acknowledges anything. Memory is what the processes of
the viewer hold resident; growth is the slope of a line through all samples::

    python -m benchmarks.memory --minutes 30
    python -m benchmarks.memory --minutes 30 --faster 10     # as many steps in three minutes

``--faster`` takes an agent whose environment costs next to nothing. Maps come as fast as the explainer makes them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
from websockets.sync.client import connect
from websockets.typing import Origin

from .processes import first_heat, free_endpoint, helper, tab, viewer
from .report import Row, run

TITLE = "Memory of the viewer"
MB = 1e6

#: Minutes until the page keeps as many steps and maps as it ever will; growth counts from then on.
SETTLE = 1.0

#: Points of the curve that is printed, the first and the last included.
POINTS = 7


def measure(*, minutes: float = 30.0, speed: float = 60.0, faster: float = 1.0) -> list[Row]:
    """Watch what an agent streams in so many minutes."""
    endpoint = free_endpoint()
    demo = ("-m", "agentwrap.demo", "--endpoint", endpoint, "--speed", str(speed), "--seed", "1", "--companion")
    torrent = ("-m", "benchmarks.torrent", endpoint, str(speed * faster))
    with ExitStack() as stack:
        stack.enter_context(helper(*(demo if faster == 1 else torrent)))
        process, address = stack.enter_context(viewer(endpoint))
        host = urlsplit(address).netloc
        browser = stack.enter_context(tab(address))
        first_heat(browser)
        stalled = connect(f"ws://{host}/frames", origin=Origin(f"http://{host}"), max_queue=1, ping_interval=None)
        stack.enter_context(stalled)  # pings would end it: their answers are not read either
        page = psutil.Process(process.pid)
        (explainer,) = page.children()
        return watch({"page": page, "explainer": explainer}, minutes / faster, lambda: json.loads(browser.line()))


def watch(
    processes: dict[str, psutil.Process], minutes: float, paints: Callable[[], list[dict[str, Any]]]
) -> list[Row]:
    """Sample what processes hold resident, whenever ``paints`` gives what a tab has painted: once a second or so."""
    start = time.monotonic()
    samples: list[tuple[float, ...]] = []
    steps: list[int] = []
    maps: set[int] = set()
    while (now := (time.monotonic() - start) / 60) < minutes + SETTLE or len(samples) < 2:
        painted = [paint for paint in paints() if paint["step"] is not None]
        if now < SETTLE:
            continue
        samples.append((now, *(process.memory_info().rss / MB for process in processes.values())))
        steps += [paint["step"] for paint in painted]
        maps |= {paint["map"]["step"] for paint in painted if paint["map"]}
    columns = np.array(samples).T
    return [
        {
            "benchmark": "memory",
            "process": name,
            "minutes": round(columns[0][-1] - columns[0][0], 2),
            "steps": max(steps) - min(steps),
            "maps_painted": len(maps),
            **_growth(columns[0], resident),
        }
        for name, resident in zip(processes, columns[1:], strict=True)
    ]


def _growth(minutes: Any, resident: Any) -> Row:
    curve = np.interp(np.linspace(minutes[0], minutes[-1], POINTS), minutes, resident)
    return {
        "start_mb": round(resident[0], 1),
        "end_mb": round(resident[-1], 1),
        "max_mb": round(resident.max(), 1),
        "growth_mb_per_minute": round(np.polyfit(minutes, resident, 1)[0], 3),
        "curve_mb": " ".join(f"{value:.0f}" for value in curve),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--minutes", type=float, default=30.0, help="how much stream, after a first minute")
    parser.add_argument("--speed", type=float, default=60.0, help="the agent's steps per second")
    parser.add_argument("--faster", type=float, default=1.0, help="let the same steps come so many times as fast")


if __name__ == "__main__":
    run(TITLE, add_arguments, measure)
