"""How soon a step's heat is painted in the browser, and how many frames a second the page shows.

The demo's agent plays at 30 steps/s; explainer, page and a headless Chromium that draws in software share its machine.
A latency runs from when a step message was made to when the browser had painted the first map of that step. Where the
time goes, and which process takes how much of the processors, is told by ``--stages``::

    python -m benchmarks.page --seconds 60 --stages
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .processes import Usage, first_heat, free_endpoint, helper, tab, viewer
from .report import Row, run

TITLE = "From a step to its heat painted in the browser"
SPEED = 30.0

Paint = dict[str, Any]


def measure(*, seconds: float = 60.0, stages: bool = False) -> list[Row]:
    """Watch the demo's agent for so long."""
    endpoint = free_endpoint()
    demo = ("-m", "agentwrap.demo", "--endpoint", endpoint, "--speed", str(SPEED), "--seed", "1", "--companion")
    with helper(*demo) as agent, viewer(endpoint, nice=0) as (page, address), tab(address, nice=0) as browser:
        first_heat(browser)
        settled = time.monotonic() + 5
        while time.monotonic() < settled:
            browser.line()
        usage = Usage({"agent": agent.pid, "page": page.pid, "tab": browser.pid})
        paints: list[Paint] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            paints += json.loads(browser.line())
        processors = usage.rows()
    return [figures(paints), *([*stages_to_heat(paints), *stages_to_frame(paints), *processors] if stages else [])]


def figures(paints: Sequence[Paint]) -> Row:
    """Turn paints into figures."""
    span = paints[-1]["painted"] - paints[0]["painted"]
    heat = first_heats(paints)
    latencies = [1000 * (paint["painted"] - paint["map"]["time"]) for paint in heat]
    steps = [paint["step"] for paint in paints if paint["step"] is not None]
    return {
        "benchmark": "page",
        "agent_steps_per_s": round((steps[-1] - steps[0]) / span, 2),
        "page_frames_per_s": round((len(set(steps)) - 1) / span, 2),
        "maps_per_s": round(len(heat) / span, 2),
        "paints_per_s": round((len(paints) - 1) / span, 2),
        "step_to_heat_ms_p50": round(float(np.percentile(latencies, 50)), 1),
        "step_to_heat_ms_p95": round(float(np.percentile(latencies, 95)), 1),
    }


def first_heats(paints: Sequence[Paint]) -> list[Paint]:
    """Return for each step that got a map the paint that showed the first."""
    return list(
        {paint["map"]["step"]: paint for paint in reversed(paints) if paint["newHeat"] and paint["map"]}.values()
    )


def stages_to_heat(paints: Sequence[Paint]) -> list[Row]:
    """Take the way of a step's first map apart."""
    return _medians(
        "step to heat",
        [
            {
                "step made → explainer begins": paint["map"]["sent"] - paint["map"]["seconds"] - paint["map"]["time"],
                "first map computed": paint["map"]["seconds"],
                "map sent → page packs it": paint["packed"] - paint["map"]["sent"],
                **_in_browser(paint),
            }
            for paint in first_heats(paints)
        ],
    )


def stages_to_frame(paints: Sequence[Paint]) -> list[Row]:
    """Take the way of a step's frame apart."""
    first = {paint["step"]: paint for paint in reversed(paints) if paint["step"] is not None}
    return _medians(
        "step to frame",
        [
            {"step made → page packs it": paint["packed"] - paint["stepTime"], **_in_browser(paint)}
            for paint in first.values()
        ],
    )


def _in_browser(paint: Paint) -> dict[str, float]:
    return {
        "packed → received by the tab": paint["received"] - paint["packed"],
        "received → drawn": paint["drawn"] - paint["received"],
        "drawn → painted": paint["painted"] - paint["drawn"],
    }


def _medians(name: str, ways: Iterable[dict[str, float]]) -> list[Row]:
    rows = [{**way, "all": sum(way.values())} for way in ways]
    table = {stage: 1000 * np.array([row[stage] for row in rows]) for stage in rows[0]}
    return [
        {
            "benchmark": name,
            "stage": stage,
            "ms_p50": round(float(np.percentile(ms, 50)), 1),
            "ms_p95": round(float(np.percentile(ms, 95)), 1),
        }
        for stage, ms in table.items()
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to watch")
    parser.add_argument("--stages", action="store_true", help="tell where the time goes, and the processors'")


if __name__ == "__main__":
    run(TITLE, add_arguments, measure)
