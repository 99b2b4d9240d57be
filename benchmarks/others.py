"""Occlusion as other libraries compute it, on the same squares: Captum and XAITK-Saliency."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from captum.attr import Occlusion
from torch import nn

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


def xaitk(policy: Policy, image: torch.Tensor, action: int, *, patch: int, stride: int, chunk: int) -> Way | None:
    """Return XAITK-Saliency's sliding window over the image (C, H, W) for one logit; None where it is not installed."""
    try:
        from smqtk_classifier.interfaces.classify_image import ClassifyImage
        from xaitk_saliency.impls.gen_image_classifier_blackbox_sal.slidingwindow import SlidingWindowStack
    except ImportError:
        return None

    class Classifier(ClassifyImage):
        """The policy as that library calls it."""

        def get_labels(self) -> list[int]:
            return [action]

        def classify_images(self, images: Iterable[np.ndarray[Any, Any]]) -> Iterator[dict[int, float]]:
            left = iter(images)
            while some := list(islice(left, chunk)):
                batch = torch.from_numpy(np.stack(some)).permute(0, 3, 1, 2).float()
                yield from ({action: score} for score in policy(batch)[:, action].tolist())

        def get_config(self) -> dict[str, Any]:
            return {}

    stack, classifier = SlidingWindowStack((patch, patch), (stride, stride)), Classifier()
    stack.fill = [0] * image.shape[0]
    pixels = image.permute(1, 2, 0).numpy().astype(np.uint8)
    return lambda: stack(pixels, classifier)


def logits_of(module: nn.Module) -> Policy:
    """Return the module's first result, which is its logits."""

    def policy(batch: torch.Tensor) -> torch.Tensor:
        result = module(batch)
        logits: torch.Tensor = result[0] if isinstance(result, tuple) else result
        return logits

    return policy
