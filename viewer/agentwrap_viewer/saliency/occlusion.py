"""Occlusion, Zeiler & Fergus 2014, "Visualizing and Understanding Convolutional Networks", arXiv 1311.2901."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .errors import SaliencyError
from .layout import Layout
from .masks import SeparableMasks, patch_masks
from .method import MaskMethod, option
from .outputs import Outputs, Resolved, departure
from .registry import register


@register
@dataclass(frozen=True, kw_only=True)
class Occlusion(MaskMethod):
    """S = q(I)[a] − q(I′)[a], with a square of pixels set to ``fill``, wherever it fits on a grid.

    Where actions are continuous q is the log-density of actions under the policy that sees everything: of the one that
    it takes, and of the one that it would take (`departure`). A dimension's index asks for the fall of its mean.
    """

    name = "occlusion"
    title = "Occlusion"
    doc = "How much the preferred action's logit or Q-value falls when a square is covered."
    source = "Zeiler & Fergus 2014, arXiv 1311.2901"
    scale = "signed"
    accepts = ("critic", "chosen", "action")
    accepts_continuous = ("actor",)
    fallback = ("actor", "critic")

    patch: int = option(6, doc="side of the square", unit="pixels", minimum=1, maximum=4096)
    patch_stride: int = option(4, doc="distance of its positions", unit="pixels", minimum=1, maximum=64)
    fill: float = option(0.0, doc="what the square is filled with, in the observation's units")

    def make_masks(self, layout: Layout) -> SeparableMasks:
        """Return squares."""
        if self.patch > min(layout.size):
            raise SaliencyError(f"option patch={self.patch}: the square is larger than the picture, {layout.size}")
        return patch_masks(layout.size, self.patch_stride, self.patch)

    def baseline(self, image: torch.Tensor, layout: Layout) -> torch.Tensor:
        """Return ``fill``."""
        return torch.full_like(image, self.fill)

    def score(self, clean: Outputs, perturbed: Outputs, target: Resolved) -> torch.Tensor:
        """Return the fall, (B,); negative where the square lifts the output."""
        if target == "actor":
            return departure(clean, perturbed, target)
        return (clean.columns(target) - perturbed.columns(target)).sum(1)
