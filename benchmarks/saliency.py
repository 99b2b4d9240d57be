"""How fast saliency maps are computed: the ways there are, on the same masks, in one run.

The published loop blurs the frame and runs the policy once for each mask, once for the actor and once for the critic.
The dense batch builds the perturbed images and runs the policy on them, in the best size of chunk and the best layout.
The dense floor runs it on images that are already there: what no way of batching whole images can beat. Ours computes
what a mask changes. All maps are compared in the run. Printed are medians of interleaved rounds::

    python -m benchmarks.saliency --rounds 9 --threads 2
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from agentwrap_export.export import export_policy
from agentwrap_viewer.replica import Replica
from agentwrap_viewer.saliency import explain
from agentwrap_viewer.saliency.masks import blur, gaussian_masks, patch_masks

from .networks import Impala, Nature
from .report import Row, run

TITLE = "Saliency maps of one observation"


@dataclass
class Case:
    """A network, an observation and a method."""

    name: str
    network: Callable[[], nn.Module]
    shape: tuple[int, ...]
    method: str
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.module = self.network().eval()
        # a smooth picture: noise would drown what blurring it does
        noise = np.random.default_rng(0).normal(size=self.shape)
        smooth = gaussian_filter(noise, (0, 4, 4))
        self.observation = np.uint8(255 * (smooth - smooth.min()) / np.ptp(smooth))
        example = torch.from_numpy(self.observation)[None]
        policy = export_policy(self.module, (example,), {}, output_names=("logits", "value"), batched=True)
        weights = {name: tensor.detach().numpy() for name, tensor in policy.parameters.items()}
        self.replica = Replica(policy.graph, policy.constants, weights)
        self.image = example[0].float()
        if self.method == "perturbation":
            masks = gaussian_masks(self.shape[1:], self.options["stride"], 5.0)
            self.change = blur(self.image, 3.0) - self.image
        else:
            masks = patch_masks(self.shape[1:], self.options["patch_stride"], self.options["patch"])
            self.change = -self.image
        self.masks = masks.make(torch.arange(masks.arrangement.count))[:, None]

    def score(self, clean: Any, perturbed: Any) -> torch.Tensor:
        """Turn outputs into scores, (targets, B)."""
        (q, v), (q2, v2) = clean, perturbed
        if self.method == "perturbation":
            return torch.stack([0.5 * (q - q2).square().sum(1), 0.5 * (v - v2).square().sum(1)])
        chosen = int(q[0].argmax())
        return torch.stack([q[0, chosen] - q2[:, chosen]])

    def ours(self) -> np.ndarray[Any, Any]:
        """Compute the maps with the library."""
        maps = explain(self.replica, self.observation, method=self.method, **self.options)
        return np.stack([item.grid.ravel() for item in maps])

    def dense(self, chunk: int, layout: torch.memory_format) -> np.ndarray[Any, Any]:
        """Compute the maps from batches of whole images."""
        clean, scores = self.module(self.image[None]), []
        for masks in torch.split(self.masks, chunk):
            images = torch.addcmul(self.image, masks, self.change).contiguous(memory_format=layout)
            scores.append(self.score(clean, self.module(images)))
        return torch.cat(scores, 1).numpy()

    def built(self, layout: torch.memory_format) -> torch.Tensor:
        """Return all perturbed images."""
        return torch.addcmul(self.image, self.masks, self.change).contiguous(memory_format=layout)

    def forwards(self, images: torch.Tensor, chunk: int) -> None:
        """Run the policy on images that are there."""
        for part in torch.split(images, chunk):
            self.module(part)

    def published(self) -> np.ndarray[Any, Any]:
        """Compute the maps mask by mask, the actor's and then the critic's."""
        rows = []
        for target in range(2 if self.method == "perturbation" else 1):
            clean, scores = self.module(self.image[None]), []
            for mask in self.masks:
                frame = self.image.numpy()
                blurred = gaussian_filter(frame, (0, 3, 3)) if self.method == "perturbation" else np.zeros_like(frame)
                perturbed = frame * (1 - mask.numpy()) + blurred * mask.numpy()
                scores.append(self.score(clean, self.module(torch.from_numpy(perturbed)[None]))[target])
            rows.append(torch.cat(scores).numpy())
        return np.stack(rows)


CASES = (
    partial(Case, "Nature, 289 soft masks", Nature, (4, 84, 84), "perturbation", {"stride": 5}),
    partial(Case, "Nature, patch 5 stride 2", Nature, (4, 84, 84), "occlusion", {"patch": 5, "patch_stride": 2}),
    partial(Case, "IMPALA, patch 6 stride 4", Impala, (3, 64, 64), "occlusion", {"patch": 6, "patch_stride": 4}),
)
CHUNKS = (16, 32, 48, 96, 289)
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


def measure(*, rounds: int = 9, threads: int = 2) -> list[Row]:
    """Compare the ways on each case."""
    torch.set_num_threads(threads)
    with torch.no_grad():
        return [row for case in CASES for row in _compare(case(), rounds)]


def _compare(case: Case, rounds: int) -> list[Row]:
    ways = {
        f"dense batch {chunk} {name}": partial(case.dense, chunk, layout)
        for chunk in CHUNKS
        for name, layout in LAYOUTS.items()
    }
    best = min(ways, key=lambda name: _seconds(ways[name], 3))
    built = [case.built(layout) for layout in LAYOUTS.values()]
    floors = [partial(case.forwards, images, chunk) for images in built for chunk in CHUNKS]
    floor = min(floors, key=lambda way: _seconds(way, 3))
    named: dict[str, Callable[[], Any]] = {"ours": case.ours, f"best {best}": ways[best], "dense floor": floor}
    reference = ways[best]()
    maps = {"ours": case.ours(), "published loop": case.published()}
    worst = {
        name: float((np.abs(rows - reference).max(1) / np.abs(reference).max(1)).max()) for name, rows in maps.items()
    }
    times: dict[str, list[float]] = {name: [] for name in (*named, "published loop")}
    for turn in range(rounds):
        for name, way in named.items():
            times[name].append(_seconds(way, 1))
        if turn < 3:
            times["published loop"].append(_seconds(case.published, 1))
    ours = statistics.median(times["ours"])
    return [
        {
            "benchmark": f"saliency: {case.name}",
            "way": name,
            "ms": round(1000 * statistics.median(seconds), 2),
            "times_ours": round(statistics.median(seconds) / ours, 2),
            "difference": worst.get(name),
        }
        for name, seconds in times.items()
    ]


def _seconds(way: Callable[[], Any], repeat: int) -> float:
    """Return the least time of some calls."""
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        way()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--rounds", type=int, default=9, help="rounds in which all ways take their turn")
    parser.add_argument("--threads", type=int, default=2, help="torch's threads")


if __name__ == "__main__":
    run(TITLE, add_arguments, measure)
