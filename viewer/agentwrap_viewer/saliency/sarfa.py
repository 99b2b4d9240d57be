"""SARFA, Puri et al. 2020, "Explain Your Move", arXiv 1912.12191."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .method import flat_option, option
from .outputs import Outputs, Resolved
from .perturbation import BlurMethod, cut_option, stride_option
from .registry import register


@register
@dataclass(frozen=True, kw_only=True)
class Sarfa(BlurMethod):
    """Harmonic mean of how specific and how relevant a change is: 2·K·Δp / (K + Δp) where Δp > 0, else 0.

    Δp is the fall of the action's probability; K = 1 / (1 + KL(P ‖ P′)), with P and P′ the probabilities of the other
    actions before and after, each scaled to a sum of 1. Of several choices at once: the mean over them. It is
    defined by what becomes of the other actions, so there is none of a continuous one.
    """

    name = "sarfa"
    title = "SARFA"
    doc = "What lowers the preferred action's probability in particular, and leaves the others' alike."
    source = "Puri et al. 2020, arXiv 1912.12191"

    stride: int = stride_option()
    mask_sigma: float = option(5.0, doc="size of a spot: standard deviation", unit="pixels", minimum=0.1, maximum=64)
    blur_sigma: float = option(
        3.0, doc="strength of the blur: standard deviation", unit="pixels", minimum=0.1, maximum=64
    )
    mask_cut: float = cut_option()
    flat: float = flat_option()
    frames: str = option("all", doc="which frames of a stack are blurred", choices=("all", "newest"))

    def score(self, clean: Outputs, perturbed: Outputs, target: Resolved) -> torch.Tensor:
        """Return the harmonic mean, (B,); of several choices the mean of theirs."""
        pairs = zip(clean.options(target), perturbed.options(target), strict=True)
        scores = [_harmonic(before.double(), after.double(), place) for (before, place), (after, _) in pairs]
        return torch.stack(scores).mean(0).float()


def _harmonic(before: torch.Tensor, after: torch.Tensor, action: int) -> torch.Tensor:
    fall = (before.softmax(1)[:, action] - after.softmax(1)[:, action]).clamp(min=0)
    alike = 1 / (1 + _divergence(_without(before, action), _without(after, action)))
    return 2 * alike * fall / (alike + fall)


def _without(logits: torch.Tensor, action: int) -> torch.Tensor:
    """Log-probabilities (B, A − 1) of the other actions."""
    return torch.cat([logits[:, :action], logits[:, action + 1 :]], dim=1).log_softmax(1)


def _divergence(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    return (before.exp() * (before - after)).sum(1).clamp(min=0)
