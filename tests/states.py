"""Steps with latents that a test knows: four groups, each of which is met again and again."""

from __future__ import annotations

import fakes
import numpy as np

from agentwrap_protocol.messages import Step


def latents(count: int, *, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Latents (count, size) in four groups, and the group of each: the agent is in one for seven steps."""
    random = np.random.default_rng(0)
    centres = 4 * random.normal(size=(4, size))
    group = np.arange(count) // 7 % 4
    noise = random.normal(size=(count, size))
    return (centres[group] + noise).astype(np.float32), group


def states(count: int, *, first: int = 0, size: int = 32) -> list[Step]:
    """Steps like those of ``fakes``, with latents."""
    made = []
    for number, latent in zip(range(first, first + count), latents(first + count, size=size)[0][first:], strict=True):
        step = fakes.step(number)
        step.arrays["output/latent"] = latent
        made.append(step)
    return made
