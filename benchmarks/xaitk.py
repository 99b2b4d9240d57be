"""XAITK-Saliency's maps, in the environment that it is installed in: one for each line that is written to this process.

.venv-xaitk/bin/python -m benchmarks.xaitk CASE CHUNK THREADS
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from smqtk_classifier.interfaces.classify_image import ClassifyImage
from xaitk_saliency.impls.gen_image_classifier_blackbox_sal.slidingwindow import SlidingWindowStack

from .others import Policy, logits_of
from .saliency import CASES, Case


class Classifier(ClassifyImage):
    """A policy's logit of one action, as that library asks for it, so many images at a time."""

    def __init__(self, policy: Policy, action: int, chunk: int) -> None:
        self._policy, self._action, self._chunk = policy, action, chunk

    def get_labels(self) -> list[int]:
        """Return the action."""
        return [self._action]

    def classify_images(self, images: Iterable[np.ndarray[Any, Any]]) -> Iterator[dict[int, float]]:
        """Yield each image's logit."""
        left = iter(images)
        while some := list(islice(left, self._chunk)):
            batch = torch.from_numpy(np.stack(some)).permute(0, 3, 1, 2).float()
            yield from ({self._action: score} for score in self._policy(batch)[:, self._action].tolist())

    def get_config(self) -> dict[str, Any]:
        """Return nothing: it is not saved."""
        return {}


def way(case: Case, chunk: int) -> Callable[[], Any]:
    """Return the sliding window over a case's picture."""
    patch, stride = case.options["patch"], case.options["patch_stride"]
    stack = SlidingWindowStack((patch, patch), (stride, stride))
    stack.fill = [0] * case.image.shape[0]
    pixels = case.image.permute(1, 2, 0).numpy().astype(np.uint8)
    classifier = Classifier(logits_of(case.module), case.chosen, chunk)
    return lambda: stack(pixels, classifier)


def main() -> None:
    """Compute a map for each line."""
    name, chunk, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    with torch.no_grad():
        compute = way(CASES[name](name), int(chunk))
        for _ in sys.stdin:
            compute()
            print("done", flush=True)


if __name__ == "__main__":
    main()
