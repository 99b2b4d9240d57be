"""How much sooner two processes have explained a recording than one: ``agentwrap explain`` as a user runs it.

The recording is the example, five hundred steps of Enduro. The command runs on a few of its steps and on many, so that
what it takes to start (torch, the policy, the processes) and what a map takes are told apart: ``maps_per_s`` is what a
long recording sees, ``ratio`` beside one process on one thread, ``whole_ratio`` with the start. By itself one process
computes on all cores; that is the last row::

    python -m benchmarks.explain --steps 300 --rounds 2
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from agentwrap_viewer.commands.arguments import example

from .report import Row, run

TITLE = "How fast a recording is explained"

#: Steps of the short run, as a share of those of the long one.
SHORT = 0.2

#: Variants: processes, and the threads that one may compute with, None for as many as it likes.
VARIANTS = {
    "1 process, 1 thread": (1, 1),
    "2 processes": (2, None),
    "1 process, threads on all cores": (1, None),
}


def measure(*, steps: int = 300, rounds: int = 2) -> list[Row]:
    """Measure all variants in turns."""
    short = max(1, round(SHORT * steps))
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in VARIANTS}
    for _ in range(rounds):
        for name, (jobs, threads) in VARIANTS.items():
            taken[name].append((explain(short, jobs, threads), explain(steps, jobs, threads)))
    found = {name: _medians(times) for name, times in taken.items()}
    (base_few, base_many) = found["1 process, 1 thread"]
    return [
        {
            "benchmark": "explain/enduro",
            "variant": name,
            "maps_per_s": round((steps - short) / (many - few), 2),
            "ratio": round((base_many - base_few) / (many - few), 3),
            "whole_s": round(many, 2),
            "whole_ratio": round(base_many / many, 3),
        }
        for name, (few, many) in found.items()
    ]


def _medians(times: list[tuple[float, float]]) -> tuple[float, float]:
    return statistics.median(few for few, _ in times), statistics.median(many for _, many in times)


def explain(steps: int, jobs: int, threads: int | None) -> float:
    """Run the command; returns how many seconds it took.

    Raises:
        CalledProcessError: It failed.
    """
    environment = dict(os.environ) | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "maps.mcap"
        command = [sys.executable, "-m", "agentwrap_viewer", "explain", str(example()), "--out", str(out)]
        start = time.perf_counter()
        subprocess.run(
            [*command, "--steps", f"0:{steps}", "--jobs", str(jobs)], env=environment, check=True, capture_output=True
        )
        return time.perf_counter() - start


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--steps", type=int, default=300, help="steps to explain, 500 at most")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each variant")


if __name__ == "__main__":
    run(TITLE, add_arguments, measure)
