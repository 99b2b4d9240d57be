"""Perturbation saliency, Greydanus et al. 2018, "Visualizing and Understanding Atari Agents", arXiv 1711.00138."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .errors import SaliencyError
from .layout import Layout
from .masks import SeparableMasks, blur, gaussian_masks
from .method import MaskMethod, flat_option, option
from .outputs import Outputs, Resolved
from .registry import register


class BlurMethod(MaskMethod):
    """A method that looks at the image through soft round spots of blur."""

    growth = 2.0  # the outputs' squared distance; measured to serve sarfa as well
    first_order = True  # see prediction.py for what was measured

    stride: int
    mask_sigma: float
    blur_sigma: float
    mask_cut: float
    frames: str

    def make_masks(self, layout: Layout) -> SeparableMasks:
        """Return blurred discs of radius 1, of maximum 1."""
        if self.mask_sigma > min(layout.size):
            raise SaliencyError(
                f"option mask_sigma={self.mask_sigma:g}: the spot is larger than the picture, {layout.size}"
            )
        return gaussian_masks(layout.size, self.stride, self.mask_sigma, self.mask_cut)

    def baseline(self, image: torch.Tensor, layout: Layout) -> torch.Tensor:
        """Return the image, blurred in 2-D plane by plane."""
        assert layout.axes is not None  # these methods explain images only
        return blur(image.movedim(layout.axes, (-2, -1)), self.blur_sigma).movedim((-2, -1), layout.axes)

    def difference(self, image: torch.Tensor, layout: Layout) -> torch.Tensor:
        """Return what a mask of ones adds to ``image``: to all frames of the stack, or to the newest."""
        change = super().difference(image, layout)
        return layout.newest_only(change) if self.frames == "newest" else change


def stride_option() -> int:
    """Make the option that says how far apart the spots are."""
    stride: int = option(5, doc="distance of the spots' centres", unit="pixels", minimum=1, maximum=64)
    return stride


def cut_option() -> float:
    """Make the option that cuts off what is left of a spot far from its centre: less to compute, and not exact.

    Of perturbation on Enduro, incrementally, 0.01 takes 0.85 of the time with scores off by 0.7 % of the maximum for
    the actor and 0.5 % for the critic (median over frames; worst 1.6 %); 0.05 takes 0.82, off by 3 and 4 % (worst 9 %).
    """
    doc = "approximate: leave out what of a spot is below this share of its maximum"
    cut: float = option(0.0, doc=doc, minimum=0, maximum=0.5)
    return cut


@register
@dataclass(frozen=True, kw_only=True)
class Perturbation(BlurMethod):
    """S = ½·Σ (outputs of I − outputs of I′)², over the raw logits for the actor, of the value for the critic."""

    name = "perturbation"
    title = "Perturbation"
    doc = "How much the raw outputs change when a spot of the picture is blurred."
    source = "Greydanus et al. 2018, arXiv 1711.00138"
    accepts = ("actor", "critic", "chosen", "choice", "action")
    targets = ("actor", "critic")

    stride: int = stride_option()
    mask_sigma: float = option(5.0, doc="size of a spot: standard deviation", unit="pixels", minimum=0.1, maximum=64)
    blur_sigma: float = option(
        3.0, doc="strength of the blur: standard deviation", unit="pixels", minimum=0.1, maximum=64
    )
    mask_cut: float = cut_option()
    flat: float = flat_option()
    frames: str = option("all", doc="which frames of a stack are blurred", choices=("all", "newest"))

    def score(self, clean: Outputs, perturbed: Outputs, target: Resolved) -> torch.Tensor:
        """Return half the squared distance of the outputs, (B,)."""
        return squared_distance(clean, perturbed, target)


def squared_distance(clean: Outputs, perturbed: Outputs, target: Resolved) -> torch.Tensor:
    """Return ½·Σ (clean − perturbed)² over the target's outputs, (B,)."""
    return 0.5 * (clean.columns(target) - perturbed.columns(target)).square().sum(1)
