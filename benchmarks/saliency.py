"""How fast saliency maps are computed: the ways there are, on the same masks, in one run.

The published loop blurs the frame and runs the policy once for each mask, once for the actor and once for the critic.
The dense batch builds the perturbed images and runs the policy on them, in the best size of chunk and the best layout.
The dense floor runs it on images that are already there: what no way of batching whole images can beat. Captum and
XAITK-Saliency compute occlusion with the best of some sizes of batch. Ours computes what a mask changes. All maps are
compared in the run; ours in bfloat16 too, where the processor has it. Printed are medians of interleaved rounds::

    python -m benchmarks.saliency --rounds 9 --threads 2

Of the networks for pictures of 224×224 one turn of a dense way would take minutes: those ways are measured on some
masks, evenly spaced over the picture, and ``ms`` is what all would take; ``masks`` says how many were measured. The
first turn there has no plans yet. Peak memory is that of a process that does nothing else, beyond what it held before::

    python -m benchmarks.saliency --only VGG
    python -m benchmarks.saliency --memory
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from agentwrap_export.export import export_policy
from agentwrap_viewer.replica import Replica
from agentwrap_viewer.saliency import explain
from agentwrap_viewer.saliency.incremental import refusal
from agentwrap_viewer.saliency.masks import blur, gaussian_masks, patch_masks
from agentwrap_viewer.saliency.request import Precision

from .networks import VGG16, Impala, Nature, ResNet18
from .others import CHUNKS as CHUNKS_OF_OTHERS
from .others import captum, logits_of, xaitk
from .report import Row, run

TITLE = "Saliency maps of one observation"


@dataclass
class Case:
    """A network, an observation and a method.

    Attributes:
        sample: How many masks the dense ways are measured on; all where None.
        chunks: Sizes of a dense batch that are tried.
    """

    name: str
    network: Callable[[], nn.Module]
    shape: tuple[int, ...]
    method: str
    options: dict[str, Any] = field(default_factory=dict)
    sample: int | None = None
    chunks: tuple[int, ...] = (16, 32, 48, 96, 289)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.module = self.network().eval()
        # a smooth picture: noise would drown what blurring it does
        noise = np.random.default_rng(0).normal(size=self.shape)
        smooth = gaussian_filter(noise, (0, 4, 4))
        self.observation = np.uint8(255 * (smooth - smooth.min()) / np.ptp(smooth))
        example = torch.from_numpy(self.observation)[None]
        outputs = self.outputs(example)
        names = ("logits", "value")[: len(outputs)]
        policy = export_policy(self.module, (example,), {}, output_names=names, batched=True)
        weights = {name: tensor.detach().numpy() for name, tensor in policy.parameters.items()}
        self.replica = Replica(policy.graph, policy.constants, weights)
        self.image = example[0].float()
        if self.method == "perturbation":
            masks = gaussian_masks(self.shape[1:], self.options["stride"], 5.0)
            self.change = blur(self.image, 3.0) - self.image
        else:
            masks = patch_masks(self.shape[1:], self.options["patch_stride"], self.options["patch"])
            self.change = -self.image
        self.count = masks.arrangement.count
        self.measured = np.linspace(0, self.count - 1, self.sample or self.count).round().astype(int)
        self.masks = masks.make(torch.from_numpy(self.measured))[:, None]
        self.chosen = int(outputs[0].argmax())

    def outputs(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return logits, and value where there is one."""
        result = self.module(images)
        return result if isinstance(result, tuple) else (result,)

    def score(self, clean: Any, perturbed: Any) -> torch.Tensor:
        """Turn outputs into scores, (targets, B)."""
        if self.method == "perturbation":
            return torch.stack([0.5 * (q - q2).square().sum(1) for q, q2 in zip(clean, perturbed, strict=True)])
        return torch.stack([clean[0][0, self.chosen] - perturbed[0][:, self.chosen]])

    def ours(self, chunk: int | None = None, precision: Precision = "float32") -> np.ndarray[Any, Any]:
        """Compute the maps with the library."""
        options = {**self.options, "precision": precision}
        maps = explain(self.replica, self.observation, method=self.method, chunk=chunk, **options, target=None)
        return np.stack([item.grid.ravel() for item in maps])

    def dense(self, chunk: int, layout: torch.memory_format) -> np.ndarray[Any, Any]:
        """Compute the maps from batches of whole images."""
        clean, scores = self.outputs(self.image[None]), []
        for masks in torch.split(self.masks, chunk):
            images = torch.addcmul(self.image, masks, self.change).contiguous(memory_format=layout)
            scores.append(self.score(clean, self.outputs(images)))
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
            clean, scores = self.outputs(self.image[None]), []
            for mask in self.masks:
                frame = self.image.numpy()
                blurred = gaussian_filter(frame, (0, 3, 3)) if self.method == "perturbation" else np.zeros_like(frame)
                perturbed = frame * (1 - mask.numpy()) + blurred * mask.numpy()
                scores.append(self.score(clean, self.outputs(torch.from_numpy(perturbed)[None]))[target])
            rows.append(torch.cat(scores).numpy())
        return np.stack(rows)

    def others(self) -> dict[str, Callable[[], Any]]:
        """Return other libraries' ways, each with its best size of batch; none for masks that they do not have."""
        if self.method != "occlusion" or self.sample is not None:
            return {}
        ways: dict[str, Callable[[], Any]] = {}
        squares = {"patch": self.options["patch"], "stride": self.options["patch_stride"]}
        makers: dict[str, Callable[..., Callable[[], Any] | None]] = {
            "Captum": partial(captum, logits_of(self.module), self.image, self.chosen, **squares),
            "XAITK-Saliency": partial(xaitk, self.name),
        }
        for name, make in makers.items():
            made: list[Callable[[], Any] | None] = [make(chunk=chunk) for chunk in CHUNKS_OF_OTHERS]
            found: list[Callable[[], Any]] = [way for way in made if way is not None]
            if found:
                ways[name] = min(found, key=lambda way: _seconds(way, 1))
        return ways


_BIG: dict[str, Any] = {"shape": (3, 224, 224), "method": "occlusion", "options": {"patch": 16, "patch_stride": 4}}
CASES: dict[str, Callable[[str], Case]] = {
    "Nature, 289 soft masks": partial(
        Case, network=Nature, shape=(4, 84, 84), method="perturbation", options={"stride": 5}
    ),
    "Nature, patch 5 stride 2": partial(
        Case, network=Nature, shape=(4, 84, 84), method="occlusion", options={"patch": 5, "patch_stride": 2}
    ),
    "IMPALA, patch 6 stride 4": partial(
        Case, network=Impala, shape=(3, 64, 64), method="occlusion", options={"patch": 6, "patch_stride": 4}
    ),
    "VGG-16, patch 16 stride 4": partial(Case, network=VGG16, sample=24, chunks=(4, 8, 24), **_BIG),
    "ResNet-18, patch 16 stride 4": partial(Case, network=ResNet18, sample=48, chunks=(8, 16, 48), **_BIG),
}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


def measure(*, rounds: int = 9, threads: int = 2, only: str = "", memory: bool = False) -> list[Row]:
    """Compare the ways on each case."""
    torch.set_num_threads(threads)
    rows: list[Row] = []
    for name, make in CASES.items():
        if only.lower() in name.lower():
            with torch.no_grad():
                rows += memory_rows(name, threads) if memory else _compare(make(name), rounds)
    return rows


def _compare(case: Case, rounds: int) -> list[Row]:
    ways = {
        f"dense batch {chunk} {name}": partial(case.dense, chunk, layout)
        for chunk in case.chunks
        for name, layout in LAYOUTS.items()
    }
    rounds, tries = (rounds, 3) if case.sample is None else (2, 1)
    best = min(ways, key=lambda name: _seconds(ways[name], tries))
    built = [case.built(layout) for layout in LAYOUTS.values()]
    chunks = case.chunks if case.sample is None else case.chunks[-1:]
    floors = [partial(case.forwards, images, chunk) for images in built for chunk in chunks]
    floor = min(floors, key=lambda way: _seconds(way, tries))
    start = time.perf_counter()
    maps = {"ours": case.ours()[:, case.measured]}
    first = time.perf_counter() - start
    named: dict[str, Callable[[], Any]] = {
        "ours": case.ours,
        f"best {best}": ways[best],
        "dense floor": floor,
        **case.others(),
    }
    reference = ways[best]()
    if case.sample is None:
        maps["published loop"] = case.published()
        if not refusal(case.image.device):
            named["ours, bf16"] = partial(case.ours, precision="bf16")
            maps["ours, bf16"] = named["ours, bf16"]()
    worst = {
        name: float((np.abs(rows - reference).max(1) / np.abs(reference).max(1)).max()) for name, rows in maps.items()
    }
    times: dict[str, list[float]] = {name: [] for name in (*named, *maps)}
    for turn in range(rounds):
        for name, way in named.items():
            if not (turn and name == "ours" and case.sample):  # half a minute and more: once
                times[name].append(_seconds(way, 1))
        if turn < 3 and case.sample is None:
            times["published loop"].append(_seconds(case.published, 1))
    return _rows(case, times, worst, first)


def _rows(case: Case, times: dict[str, list[float]], worst: dict[str, float], first: float) -> list[Row]:
    whole = case.count / len(case.measured)
    seconds = {name: statistics.median(some) * (1 if name == "ours" else whole) for name, some in times.items()}
    seconds["ours, first turn"] = first
    return [
        {
            "benchmark": f"saliency: {case.name}",
            "way": name,
            "ms": round(1000 * taken, 2),
            "times_ours": round(taken / seconds["ours"], 2),
            "masks": case.count if name.startswith("ours") else len(case.measured),
            "difference": worst.get(name),
        }
        for name, taken in seconds.items()
    ]


def memory_rows(name: str, threads: int) -> list[Row]:
    """Measure peak memory of ours and of the dense batch, in chunks of one size, each in a process of its own."""
    peaks = {}
    for way in ("ours", "dense"):
        command = [sys.executable, "-m", __spec__.name if __spec__ else __name__, "--threads", str(threads)]
        command += ["--peak", way, "--only", name]
        peaks[way] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return [
        {
            "benchmark": f"saliency: memory, {name}",
            "way": way,
            "peak_MB": round(peak / 2**20, 1),
            "times_dense": round(peak / peaks["dense"], 2),
        }
        for way, peak in peaks.items()
    ]


def peak(case: Case, way: str) -> int:
    """Return how many bytes more than before a way has held at one moment. Linux alone tells."""
    chunk = case.chunks[-1] if case.sample else 48
    case.outputs(case.image[None])
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): the peak starts again from what is held now
    before = _status("VmRSS")
    if way == "ours":
        case.ours(chunk)
    else:
        case.dense(chunk, torch.channels_last)
    return _status("VmHWM") - before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


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
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--memory", action="store_true", help="measure peak memory instead of time (Linux)")


def main() -> None:
    """Measure; as a process of its own, tell one way's peak memory."""
    if "--peak" not in sys.argv:
        run(TITLE, add_arguments, measure)
        return
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    parser.add_argument("--peak", choices=("ours", "dense"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with torch.no_grad():
        print(peak(CASES[arguments.only](arguments.only), arguments.peak))


if __name__ == "__main__":
    main()
