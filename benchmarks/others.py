"""Occlusion as other libraries compute it, on the same squares: Captum and XAITK-Saliency."""

from __future__ import annotations

import atexit
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from captum.attr import Occlusion
from torch import nn

#: Where `make bench` installs XAITK-Saliency, whose dependencies want a Pillow that MoviePy refuses.
XAITK_PYTHON = Path(__file__).parents[1] / ".venv-xaitk" / "bin" / "python"

#: Perturbed images that a library is asked to evaluate at a time; it is measured with the best.
CHUNKS = (32, 128)

Policy = Callable[[torch.Tensor], torch.Tensor]
Way = Callable[[], Any]


def captum(policy: Policy, image: torch.Tensor, action: int, *, patch: int, stride: int, chunk: int) -> Way:
    """Return Captum's occlusion of the image (C, H, W) for one logit.

    It lets a last square reach beyond the border where squares do not fit, and means scores pixel by pixel.
    """
    channels, occlusion = image.shape[0], Occlusion(policy)

    def way() -> Any:
        return occlusion.attribute(
            image[None],
            sliding_window_shapes=(channels, patch, patch),
            strides=(channels, stride, stride),
            target=action,
            perturbations_per_eval=chunk,
        )

    return way


def xaitk(case: str, *, chunk: int) -> Way | None:
    """Return XAITK-Saliency's sliding window for a case by name; None where its environment is not there.

    It runs in a process of its own, from which each call waits for one map.
    """
    if not XAITK_PYTHON.exists():
        return None
    command = [str(XAITK_PYTHON), "-m", "benchmarks.xaitk", case, str(chunk), str(torch.get_num_threads())]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(_end, worker)

    def way() -> None:
        assert worker.stdin is not None and worker.stdout is not None
        worker.stdin.write("map\n")
        worker.stdin.flush()
        if worker.stdout.readline() != "done\n":
            raise RuntimeError(f"{' '.join(command)} ended with {worker.wait()}")

    way()  # until it has started
    return way


def _end(worker: subprocess.Popen[str]) -> None:
    for stream in (worker.stdin, worker.stdout):
        assert stream is not None
        stream.close()
    worker.wait()


def logits_of(module: nn.Module) -> Policy:
    """Return the module's first result, which is its logits."""

    def policy(batch: torch.Tensor) -> torch.Tensor:
        result = module(batch)
        logits: torch.Tensor = result[0] if isinstance(result, tuple) else result
        return logits

    return policy
