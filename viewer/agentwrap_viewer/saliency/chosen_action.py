"""The fall of the preferred action's probability under black discs, Huber et al. 2021."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .errors import SaliencyError
from .layout import Layout
from .masks import DiscMasks, disc_masks
from .method import MaskMethod, option
from .outputs import Outputs, Resolved, probability
from .perturbation import stride_option
from .registry import register


@register
@dataclass(frozen=True, kw_only=True)
class ChosenAction(MaskMethod):
    """S = 1 − softmax(outputs of I′)[a], with the pixels of a disc set to 0.

    Of a continuous action, in place of the softmax, the share of its density that is left: see `probability`.
    """

    name = "chosen_action"
    title = "Chosen action, black disc"
    doc = "How little of the preferred action's probability is left when a disc is painted black."
    source = (
        "Huber et al. 2021, Benchmarking Perturbation-based Saliency Maps (the variant that passes the sanity check)"
    )
    scale = "relative"
    accepts_continuous = ("actor",)
    fallback = ("actor",)

    stride: int = stride_option()
    disc_radius: float = option(3.0, doc="radius of a disc; 0 is a single pixel", unit="pixels", minimum=0, maximum=256)

    def make_masks(self, layout: Layout) -> DiscMasks:
        """Return sharp discs."""
        if 2 * self.disc_radius + 1 > min(layout.size):
            raise SaliencyError(
                f"option disc_radius={self.disc_radius:g}: the disc is larger than the picture, {layout.size}"
            )
        return disc_masks(layout.size, self.stride, self.disc_radius)

    def baseline(self, image: torch.Tensor, layout: Layout) -> torch.Tensor:
        """Return black."""
        return torch.zeros_like(image)

    def score(self, clean: Outputs, perturbed: Outputs, target: Resolved) -> torch.Tensor:
        """Return 1 − the action's probability, (B,)."""
        return 1 - probability(clean, perturbed, target)
