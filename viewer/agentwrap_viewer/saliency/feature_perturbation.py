"""Attribution to the features of a vector observation by replacing them one at a time.

Per-feature ablation against a background distribution: Breiman 2001 ("Random Forests", permutation importance), for a
single prediction as in Štrumbelj & Kononenko 2010 ("An Efficient Explanation of Individual Classifications using Game
Theory"), with the squared distance of Greydanus et al. 2018 as the score, so that it is comparable to `perturbation` on
images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .arrangement import FeatureTable
from .method import Context, PerturbingMethod, option
from .outputs import Outputs, Resolved
from .perturbation import squared_distance
from .registry import register


@register
@dataclass(frozen=True, kw_only=True)
class FeaturePerturbation(PerturbingMethod):
    """S_i = mean over background values b of ½·Σ (outputs of x − outputs of x with x_i = b_i)²."""

    name = "feature_perturbation"
    title = "Feature perturbation"
    doc = "How much the raw outputs change when one feature is replaced by values it had at other times."
    source = "Breiman 2001 (permutation importance), for one observation; score of Greydanus et al. 2018"
    observations = ("vector",)
    discrete = True
    accepts = ("actor", "critic", "chosen", "choice", "action")
    targets = ("actor", "critic")

    background: str = option(
        "seen", doc="values seen before (zero until there are any), or zero", choices=("seen", "zero")
    )
    samples: int = option(16, doc="most background values for each feature", minimum=1, maximum=256)

    def perturb(self, context: Context) -> ReplacedFeatures:
        """Say what is perturbed: each feature, by each background sample."""
        history = context.history if self.background == "seen" else context.history[:0]
        if len(history):  # the observation itself says nothing of other times: of a run's first step there is no more
            history = history[(history != context.observation).any(1)]
        if not len(history):
            history = torch.zeros_like(context.observation)[None]
        spread = torch.linspace(0, len(history) - 1, min(self.samples, len(history)), device=history.device)
        return ReplacedFeatures(context.observation, history[spread.round().long()])

    def score(self, clean: Outputs, perturbed: Outputs, target: Resolved) -> torch.Tensor:
        """Return half the squared distance of the outputs, (B,)."""
        return squared_distance(clean, perturbed, target)


class ReplacedFeatures:
    """The observation (n,) with one feature at a time replaced by that of a background sample (k, n)."""

    def __init__(self, observation: torch.Tensor, background: torch.Tensor) -> None:
        """Keep the parts."""
        self._observation, self._background = observation, background
        self.arrangement = FeatureTable(len(observation), len(background))

    def build(self, indices: torch.Tensor, out: torch.Tensor) -> None:
        """Write the perturbed observations numbered ``indices`` into ``out`` (B, n)."""
        sample, feature = indices // len(self._observation), indices % len(self._observation)
        out.copy_(self._observation)
        out[torch.arange(len(indices), device=out.device), feature] = self._background[sample, feature]
