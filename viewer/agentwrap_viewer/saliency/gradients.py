"""Attribution to pixels and features by gradients, as Captum computes them (Kokhlikyan et al. 2020, arXiv 2009.07896).

Signs are kept: a positive score says that more of it (gradient) or what is there of it (the others) raises the output.
An image's scores are summed over channels and frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .attribution import GradientMethod, Question
from .errors import SaliencyError
from .masks import blur
from .method import option
from .registry import register

#: Standard deviation in pixels of the blurred baseline: that from which insertion starts (Petsiuk et al. 2018).
BASELINE_SIGMA = 5.0


@register
@dataclass(frozen=True, kw_only=True)
class Gradient(GradientMethod):
    """S = ∂output/∂I."""

    name = "gradient"
    title = "Gradient"
    doc = "How steeply the output rises with each pixel or feature; below zero where it falls."
    source = "Simonyan et al. 2014, arXiv 1312.6034 (with its sign); Captum"
    scale = "signed"

    def attribute(self, question: Question) -> torch.Tensor:
        """Return the gradient."""
        return question.reduced(question.captum().Saliency(question.output).attribute(question.leaf(), abs=False))


@register
@dataclass(frozen=True, kw_only=True)
class GradientXInput(GradientMethod):
    """S = I · ∂output/∂I."""

    name = "gradient_x_input"
    title = "Gradient × input"
    doc = "The gradient times what is there: what each pixel or feature adds to the output, were the policy linear."
    source = "Shrikumar et al. 2016, arXiv 1605.01713; Captum"
    scale = "signed"

    def attribute(self, question: Question) -> torch.Tensor:
        """Return the product."""
        return question.reduced(question.captum().InputXGradient(question.output).attribute(question.leaf()))


@register
@dataclass(frozen=True, kw_only=True)
class IntegratedGradients(GradientMethod):
    """S = (I − B) · ∫₀¹ ∂output/∂I at B + α(I − B) dα, by Gauss–Legendre quadrature.

    The scores' sum is the output for I less that for the baseline B.
    """

    name = "integrated_gradients"
    title = "Integrated gradients"
    doc = "What each pixel or feature adds to the output on the way from a baseline to what is there."
    source = "Sundararajan et al. 2017, arXiv 1703.01365; Captum"
    scale = "signed"

    steps: int = option(32, doc="points on the way", minimum=1, maximum=1024)
    baseline: str = option("zero", doc="where the way begins: zero, or the blurred picture", choices=("zero", "blur"))

    @property
    def passes(self) -> int:
        """Points on the way."""
        return self.steps

    def attribute(self, question: Question) -> torch.Tensor:
        """Return the integral."""
        image = question.leaf().detach()
        attribution = question.captum().IntegratedGradients(question.output).attribute(
            image, baselines=self._baseline(image, question), n_steps=self.steps, internal_batch_size=question.rows
        )  # fmt: skip
        return question.reduced(attribution)

    def _baseline(self, image: torch.Tensor, question: Question) -> torch.Tensor:
        if self.baseline == "zero":
            return torch.zeros_like(image)
        if question.layout.axes is None:
            raise SaliencyError("option baseline='blur' is for images; a vector's baseline is 'zero'")
        axes = [axis + 1 for axis in question.layout.axes]
        return blur(image.movedim(axes, (-2, -1)), BASELINE_SIGMA).movedim((-2, -1), axes)


@register
@dataclass(frozen=True, kw_only=True)
class SmoothGrad(GradientMethod):
    """S = mean over n draws of ∂output/∂I at I + noise, normal with standard deviation sigma · (max I − min I)."""

    name = "smoothgrad"
    title = "SmoothGrad"
    doc = "The gradient, averaged over observations with noise added, so that what flickers cancels out."
    source = "Smilkov et al. 2017, arXiv 1706.03825; Captum"
    scale = "signed"

    n: int = option(50, doc="noisy observations", minimum=1, maximum=10_000)
    sigma: float = option(0.15, doc="strength of the noise: share of the observation's range", minimum=0, maximum=10)
    seed: int = option(0, doc="seed of the noise", minimum=0, maximum=2**31 - 1)

    @property
    def passes(self) -> int:
        """Noisy observations."""
        return self.n

    def attribute(self, question: Question) -> torch.Tensor:
        """Return the mean gradient.

        The noise is drawn here and not by Captum's ``NoiseTunnel``, which draws it from torch's global generator.
        """
        image = question.leaf().detach()
        saliency = question.captum().Saliency(question.output)
        generator = torch.Generator().manual_seed(self.seed)  # on the processor: the same noise on every device
        spread = float(self.sigma * (image.max() - image.min()))
        total = torch.zeros_like(image)
        for start in range(0, self.n, question.rows):
            draws = [torch.randn(image.shape, generator=generator) for _ in range(min(question.rows, self.n - start))]
            noisy = image + torch.cat(draws).to(image.device) * spread  # one by one: the same in chunks of any size
            total += saliency.attribute(noisy.requires_grad_(), abs=False).sum(0, keepdim=True)
        return question.reduced(total / self.n)
