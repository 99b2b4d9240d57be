"""How soon a first map says most of what the full one will: refinement, on what a trained agent sees.

The demo's expert plays Enduro. For each of some frames the first map of ``refine`` is compared with the full one: its
time, everything included, as a share of that of ``explain``, and Spearman's rank correlation of the two heatmaps.
Evaluated incrementally it is what gradients predict, in batches it rests on the coarsest masks. Each frame is explained
in turn by both, after plans are made. The policy is the module, which is evaluated itself at each call too, to see that
its replica still computes the same; or the replica alone, as the live explainer has it::

    python -m benchmarks.refine --frames 20 --threads 2
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from agentwrap.demo import load_policy, make_enduro, models_directory
from agentwrap_export.export import export_policy
from agentwrap_export.weights import WeightsWatch
from agentwrap_viewer.replica import Replica
from agentwrap_viewer.saliency import explain, refine

from .report import Row, run

TITLE = "The first map of a refinement, beside the full one"

#: Steps between two frames, so that they differ.
APART = 50


def measure(*, frames: int = 20, threads: int = 2, rounds: int = 5) -> list[Row]:
    """Compare the first map with the full one."""
    torch.set_num_threads(threads)
    policy = load_policy(models_directory() / "enduro-expert.safetensors")
    seen = observations(policy, frames)
    example = (torch.from_numpy(seen[0])[None].float(),)
    exported = export_policy(policy, example, {}, output_names=("logits", "value"), batched=True)
    weights = WeightsWatch(exported.parameters).snapshot()
    policies = {"module": policy, "replica": Replica(exported.graph, exported.constants, weights)}
    rows = []
    for name, way in (("module", "auto"), ("replica", "auto"), ("module", "dense")):
        for _ in range(2):  # the export, plans, and what is kept for them
            explain(policies[name], seen[0], evaluation=way, target=None)
            list(refine(policies[name], seen[0], evaluation=way, target=None))
        rows += _rows(policies[name], seen, f"{name}, {way}", rounds, way)
    return rows


def observations(policy: torch.nn.Module, count: int) -> list[np.ndarray[Any, Any]]:
    """Let the policy play; return the observation of every ``APART``-th step."""
    env = make_enduro()
    generator = torch.Generator().manual_seed(0)
    observation, _ = env.reset(seed=0)
    found = []
    for step in range(count * APART):
        with torch.no_grad():
            logits, _ = policy(torch.from_numpy(np.asarray(observation))[None])
        action = torch.multinomial(logits.softmax(-1), 1, generator=generator).item()
        observation, _, terminated, truncated, _ = env.step(action)
        if step % APART == APART - 1:
            found.append(np.array(observation))
        if terminated or truncated:
            observation, _ = env.reset()
    env.close()
    return found


def _rows(policy: Any, seen: list[np.ndarray[Any, Any]], title: str, rounds: int, way: str) -> list[Row]:
    first_ms: list[float] = []
    full_ms: list[float] = []
    shares: list[float] = []
    alike: dict[str, list[float]] = {"actor": [], "critic": []}
    for _ in range(rounds):
        for observation in seen:
            start = time.perf_counter()
            first = next(refine(policy, observation, budget_ms=0, evaluation=way, target=None))
            middle = time.perf_counter()
            full = explain(policy, observation, evaluation=way, target=None)
            end = time.perf_counter()
            first_ms.append(1000 * (middle - start))
            full_ms.append(1000 * (end - middle))
            shares.append(first_ms[-1] / full_ms[-1])
            for one, other in zip(first, full, strict=True):
                alike[str(one.target)].append(float(spearmanr(one.heatmap, other.heatmap, axis=None).statistic))
    return [
        {
            "benchmark": f"refine: Enduro, perturbation, 289 masks, {title}",
            "target": target,
            "rank_correlation": round(statistics.median(found), 3),
            "least": round(min(found), 3),
            "first_ms": round(statistics.median(first_ms), 2),
            "full_ms": round(statistics.median(full_ms), 2),
            "least_first_ms": round(min(first_ms), 2),
            "least_full_ms": round(min(full_ms), 2),
            "share": round(statistics.median(shares), 3),
            "evaluation": first[0].evaluation,
        }
        for target, found in alike.items()
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--frames", type=int, default=20, help="observations, 50 steps apart")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is explained")
    parser.add_argument("--threads", type=int, default=2, help="torch's threads")


if __name__ == "__main__":
    run(TITLE, add_arguments, measure)
