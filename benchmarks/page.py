"""How soon a step's heat is painted in the browser, and how many frames a second the page shows.

The demo's agent plays at 30 steps/s; explainer, page and a headless Chromium that draws in software share its machine.
A latency runs from when a step message was made to when the browser had painted the first map of that step::

    python -m benchmarks.page --seconds 60
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np

from .processes import first_heat, free_endpoint, helper, tab, viewer
from .report import Row, run

TITLE = "From a step to its heat painted in the browser"
SPEED = 30.0


def measure(*, seconds: float = 60.0) -> list[Row]:
    """Watch the demo's agent for so long."""
    endpoint = free_endpoint()
    agent = ("-m", "agentwrap.demo", "--endpoint", endpoint, "--speed", str(SPEED), "--seed", "1", "--companion")
    with helper(*agent), viewer(endpoint, nice=0) as (_, address), tab(address, nice=0) as browser:
        first_heat(browser)
        settled = time.monotonic() + 5
        while time.monotonic() < settled:
            browser.line()
        paints: list[dict[str, Any]] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            paints += json.loads(browser.line())
    return [figures(paints)]


def figures(paints: list[dict[str, Any]]) -> Row:
    """Turn paints into figures."""
    span = paints[-1]["painted"] - paints[0]["painted"]
    heat = {paint["mapStep"]: paint for paint in reversed(paints) if paint["newHeat"]}  # each step's first
    latencies = [1000 * (paint["painted"] - paint["mapTime"]) for paint in heat.values()]
    steps = [paint["step"] for paint in paints if paint["step"] is not None]
    return {
        "benchmark": "page",
        "agent_steps_per_s": round((steps[-1] - steps[0]) / span, 2),
        "page_frames_per_s": round((len(set(steps)) - 1) / span, 2),
        "maps_per_s": round(len(heat) / span, 2),
        "step_to_heat_ms_p50": round(float(np.percentile(latencies, 50)), 1),
        "step_to_heat_ms_p95": round(float(np.percentile(latencies, 95)), 1),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to watch")


if __name__ == "__main__":
    run(TITLE, add_arguments, measure)
