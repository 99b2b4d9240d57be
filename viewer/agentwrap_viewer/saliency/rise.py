"""RISE, Petsiuk et al. 2018, "Randomized Input Sampling for Explanation of Black-box Models", arXiv 1806.07421."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from .arrangement import Floats, Mixture
from .errors import SaliencyError
from .layout import Layout
from .masks import KeptMasks
from .method import MaskMethod, option
from .outputs import Outputs, Resolved, probability
from .registry import register


@register
@dataclass(frozen=True, kw_only=True)
class Rise(MaskMethod):
    """S = 1/(N·p) · Σ softmax(outputs of I⊙Mᵢ)[a] · Mᵢ, over random soft masks that keep a share p of the picture.

    Of a continuous action, in place of the softmax, the share of its density that is left: see `probability`.
    """

    name = "rise"
    title = "RISE"
    doc = "Which pixels tend to be visible when the preferred action is probable, over random masks."
    source = "Petsiuk et al. 2018, arXiv 1806.07421"
    scale = "relative"
    accepts_continuous = ("actor",)
    fallback = ("actor",)

    n: int = option(512, doc="number of random masks", minimum=1, maximum=16_384)
    s: int = option(8, doc="cells of a mask's coarse grid in each direction", minimum=1, maximum=64)
    p: float = option(0.5, doc="probability that a cell is kept", minimum=0.01, maximum=1)
    seed: int = option(0, doc="seed of the masks", minimum=0, maximum=2**31 - 1)
    masks: Any = option(None, doc="float32 (N, H, W) masks to use in place of random ones", live=False)

    def make_masks(self, layout: Layout) -> KeptMasks:
        """Return the complements of what is kept: what is *not* kept shows the baseline."""
        if self.masks is None:
            kept = random_masks(layout.size, self.n, self.s, self.p, self.seed)
        else:
            kept = np.asarray(self.masks, np.float32)
        if kept.ndim != 3 or kept.shape[1:] != layout.size:
            raise SaliencyError(f"option masks: shape {kept.shape}, but the picture is {layout.size}")
        return KeptMasks(torch.from_numpy(kept), Mixture(kept, self.p))

    def baseline(self, image: torch.Tensor, layout: Layout) -> torch.Tensor:
        """Return black."""
        return torch.zeros_like(image)

    def score(self, clean: Outputs, perturbed: Outputs, target: Resolved) -> torch.Tensor:
        """Return the action's probability, (B,)."""
        return probability(clean, perturbed, target)


@lru_cache(maxsize=2)
def random_masks(size: tuple[int, int], n: int, s: int, p: float, seed: int) -> Floats:
    """Return float32 (n, H, W): grids of s×s cells kept with probability p, enlarged bilinearly, cropped at random.

    Raises:
        SaliencyError: The masks would take more than 256 MiB.
    """
    if n * size[0] * size[1] * 4 > 2**28:
        raise SaliencyError(f"option n={n}: masks of {size} pixels would take more than 256 MiB")
    random = np.random.default_rng(seed)
    cells = torch.from_numpy((random.random((n, 1, s, s)) < p).astype(np.float32))
    cell = [-(-length // s) for length in size]
    large = torch.nn.functional.interpolate(cells, [(s + 1) * side for side in cell], mode="bilinear")[:, 0].numpy()
    kept = np.empty((n, *size), np.float32)
    for mask, source in zip(kept, large, strict=True):
        y, x = (random.integers(0, side) for side in cell)
        mask[...] = source[y : y + size[0], x : x + size[1]]
    return kept
