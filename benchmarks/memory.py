"""Whether the viewer's memory stays flat: much stream, a tab that looks on and one that has stalled.

The stalled tab is a connection to the page's socket that never acknowledges anything. Memory is what the processes of
the viewer hold resident; growth is the slope of a line through all samples::

    python -m benchmarks.memory --minutes 30
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack
from urllib.parse import urlsplit

import numpy as np
import psutil
from websockets.sync.client import connect
from websockets.typing import Origin

from .processes import first_heat, free_endpoint, helper, tab, viewer
from .report import Row, run

TITLE = "Memory of the viewer"
MB = 1e6

#: Minutes until the page keeps as many steps as it ever will; growth counts from then on.
SETTLE = 1.0


def measure(*, minutes: float = 30.0, speed: float = 60.0) -> list[Row]:
    """Watch an agent for so long."""
    endpoint = free_endpoint()
    agent = ("-m", "agentwrap.demo", "--endpoint", endpoint, "--speed", str(speed), "--seed", "1", "--companion")
    with ExitStack() as stack:
        stack.enter_context(helper(*agent))
        process, address = stack.enter_context(viewer(endpoint))
        host = urlsplit(address).netloc
        browser = stack.enter_context(tab(address))
        first_heat(browser)
        stack.enter_context(connect(f"ws://{host}/frames", origin=Origin(f"http://{host}"), max_queue=1))
        page = psutil.Process(process.pid)
        (explainer,) = page.children()
        return watch({"page": page, "explainer": explainer}, minutes, meanwhile=browser.line)


def watch(processes: dict[str, psutil.Process], minutes: float, meanwhile: Callable[[], object]) -> list[Row]:
    """Sample what processes hold resident, once a second or so (``meanwhile`` sets the pace)."""
    start = time.monotonic()
    samples: list[tuple[float, ...]] = []
    while (now := (time.monotonic() - start) / 60) < minutes + SETTLE or len(samples) < 2:
        meanwhile()
        if now >= SETTLE:
            samples.append((now, *(process.memory_info().rss / MB for process in processes.values())))
    columns = np.array(samples).T
    return [
        {
            "benchmark": "memory",
            "process": name,
            "minutes": round(columns[0][-1] - columns[0][0], 2),
            "start_mb": round(resident[0], 1),
            "end_mb": round(resident[-1], 1),
            "max_mb": round(resident.max(), 1),
            "growth_mb_per_minute": round(np.polyfit(columns[0], resident, 1)[0], 3),
        }
        for name, resident in zip(processes, columns[1:], strict=True)
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--minutes", type=float, default=30.0, help="how long to watch, after a first minute")
    parser.add_argument("--speed", type=float, default=60.0, help="the agent's steps per second")


if __name__ == "__main__":
    run(TITLE, add_arguments, measure)
