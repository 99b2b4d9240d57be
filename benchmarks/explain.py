"""How much sooner two processes have explained a recording than one: ``agentwrap explain`` as a user runs it.

The demo's expert plays Enduro for as many steps as are asked for, and is recorded. The command then runs on all steps
and on a few, so that what it takes to start (PyTorch, the policy, the processes) and what a map takes are told apart:
``ratio`` is what an endless recording would see, ``whole_ratio`` what this one sees, start included. ``--jobs`` names
the rows, each compared with the first::

    python -m benchmarks.explain --steps 1500 --rounds 1 --jobs 1 2
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from agentwrap import InterpretWrapper, demo

from .processes import free_endpoint
from .report import Row, run

TITLE = "How fast a recording is explained"

#: Steps of the short run, at most.
FEW = 64


def measure(*, steps: int = 1000, rounds: int = 1, jobs: Sequence[int] = (1, 2)) -> list[Row]:
    """Measure numbers of processes in turns."""
    few_steps = min(FEW, steps // 4)
    taken: dict[int, list[tuple[float, float]]] = {count: [] for count in jobs}
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "run.mcap"
        record(recording, steps)
        for _ in range(rounds):
            for count in jobs:
                taken[count].append((explain(recording, few_steps, count), explain(recording, steps, count)))
    found = {count: _medians(times) for count, times in taken.items()}
    base_few, base_many = found[jobs[0]]
    return [
        {
            "benchmark": "explain/enduro",
            "variant": f"--jobs {count}",
            "steps": steps,
            "maps_per_s": round((steps - few_steps) / (many - few), 2),
            "ratio": round((base_many - base_few) / (many - few), 3),
            "whole_s": round(many, 2),
            "whole_ratio": round(base_many / many, 3),
        }
        for count, (few, many) in found.items()
    ]


def _medians(times: list[tuple[float, float]]) -> tuple[float, float]:
    return statistics.median(few for few, _ in times), statistics.median(many for _, many in times)


def record(path: Path, steps: int) -> None:
    """Let the demo's expert play, and record it."""
    torch.set_num_threads(1)
    policy = demo.load_policy(demo.models_directory() / "enduro-expert.safetensors")
    env = InterpretWrapper(demo.make_enduro(), policy, record=path, endpoint=free_endpoint(), quiet=True)
    demo.play(env, policy, steps=steps, speed=0, seed=0)
    env.close()


def explain(recording: Path, steps: int, jobs: int) -> float:
    """Run the command; returns how many seconds it took.

    Raises:
        CalledProcessError: It failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "agentwrap_viewer", "explain", str(recording), "--steps", f"0:{steps}"]
        start = time.perf_counter()
        subprocess.run(
            [*command, "--out", str(Path(folder) / "maps.mcap"), "--jobs", str(jobs)], check=True, capture_output=True
        )
        return time.perf_counter() - start


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--steps", type=int, default=1000, help="steps to record and explain")
    parser.add_argument("--rounds", type=int, default=1, help="turns of each row")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2], help="numbers of processes, a row for each")


if __name__ == "__main__":
    run(TITLE, add_arguments, measure)
