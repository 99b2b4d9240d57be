"""Grad-CAM, Selvaraju et al. 2017, "Visual Explanations from Deep Networks via Gradient-based Localization"."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .attribution import GradientMethod, Question
from .errors import SaliencyError
from .layers import Activations, layer_names, run_with_activations
from .method import option
from .registry import register


@register
@dataclass(frozen=True, kw_only=True)
class GradCAM(GradientMethod):
    """S = ReLU(Σ_k w_k · A_k): a layer's channels A_k, weighted by the mean gradient w_k of the output.

    Captum's ``LayerGradCam`` with ``relu_attributions``, for modules and graphs alike. The grid is the layer's; the
    heatmap is that grid stretched over the picture, as in the paper.
    """

    name = "grad_cam"
    title = "Grad-CAM"
    doc = "Where the channels of a convolution are active that raise the output."
    source = "Selvaraju et al. 2017, arXiv 1610.02391; Captum"
    observations = ("image",)

    layer: str = option("", doc="name of the layer; empty: the last convolution that the output depends on")

    def attribute(self, question: Question) -> torch.Tensor:
        """Return the map in the layer's resolution, (rows, cols)."""
        names, leaf = self._layers(question), question.leaf()
        outputs, activations = run_with_activations(question.bound, question.entry, leaf, names)
        output = question.column(outputs).sum()
        for activation in reversed(self._pictures(activations).values()):
            if not (output.requires_grad and activation.requires_grad):
                continue
            (gradient,) = torch.autograd.grad(output, activation, retain_graph=True, allow_unused=True)
            (seen,) = torch.autograd.grad(activation.sum(), leaf, retain_graph=True, allow_unused=True)
            if gradient is not None and seen is not None:
                weights = gradient.mean((2, 3), keepdim=True)
                return torch.relu((weights * activation).sum(1))[0]
        raise SaliencyError(
            f"grad_cam: nothing leads from {question.entry or 'the observation'} through {' or '.join(names)} to "
            f"{question.target}: choose another layer or target"
        )

    def _layers(self, question: Question) -> list[str]:
        convolutions, names = layer_names(question.bound)
        known = f"its convolutions are {', '.join(convolutions)}" if convolutions else "it has no convolution"
        if self.layer and self.layer not in names:
            raise SaliencyError(f"grad_cam: the policy has no layer {self.layer!r}; {known}")
        if not (self.layer or convolutions):
            raise SaliencyError("grad_cam: the policy has no convolution; take gradient or integrated_gradients")
        return [self.layer] if self.layer else convolutions

    def _pictures(self, activations: Activations) -> Activations:
        """Those that are pictures: (1, channels, rows, cols)."""
        pictures = {name: tensor for name, tensor in activations.items() if tensor.ndim == 4 and len(tensor) == 1}
        if self.layer in activations and not pictures:
            shape = tuple(activations[self.layer].shape)
            raise SaliencyError(f"grad_cam: layer {self.layer!r} gives {shape}, wanted is (1, channels, rows, cols)")
        return pictures
