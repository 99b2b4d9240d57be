"""Run all benchmarks: ``python -m benchmarks [--quick]``. Tables first, JSON lines at the end."""

from __future__ import annotations

import argparse

from . import explain, learn, memory, page, recording, refine, saliency, state_map, wrapper
from .report import print_all


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="some minutes instead of an hour: to see that it runs")
    parser.add_argument("--minutes", type=float, help="how long to watch the viewer's memory (default: 5)")
    arguments = parser.parse_args()
    quick = arguments.quick
    print_all(
        [
            (wrapper.TITLE, wrapper.measure(rounds=2, steps=100) if quick else wrapper.measure()),
            (learn.TITLE, learn.measure(rounds=1, fresh=1) if quick else learn.measure()),
            (recording.TITLE, recording.measure(rounds=2, steps=100, long=2000) if quick else recording.measure()),
            (explain.TITLE, explain.measure(steps=30, rounds=1) if quick else explain.measure()),
            (saliency.TITLE, saliency.measure(rounds=2, only="289 soft") if quick else saliency.measure()),
            (refine.TITLE, refine.measure(frames=4, rounds=1) if quick else refine.measure()),
            (page.TITLE, page.measure(seconds=5 if quick else 60)),
            (state_map.TITLE, state_map.measure(points=5000, seconds=2) if quick else state_map.measure()),
            (memory.TITLE, memory.measure(minutes=arguments.minutes or (0.1 if quick else 5))),
        ]
    )


if __name__ == "__main__":
    main()
