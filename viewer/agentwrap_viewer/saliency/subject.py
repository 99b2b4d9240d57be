"""What one part of an explanation is about."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .layout import Layout
from .policies import BoundPolicy
from .request import Request

#: Numbers in a chunk of perturbed observations. Measured on 84×84×4 and the Nature CNN, one thread: chunks of 24 to 48
#: are within 2 % of each other, 8 takes 20 % longer, and from 96 the activations fall out of the cache (30 %).
#: Contiguous beats channels-last.
CHUNK_NUMBERS = 2**20
CHUNK_BOUNDS = (8, 512)


@dataclass(frozen=True)
class Subject:
    """One entry of the observation and what is asked about it; the other entries and the state are held.

    Attributes:
        bound: The policy and what it is asked about.
        entry: The entry.
        layout: Its layout.
        request: All that was asked.
    """

    bound: BoundPolicy
    entry: str
    layout: Layout
    request: Request

    @property
    def image(self) -> torch.Tensor:
        """The entry, float32, contiguous."""
        return self.bound.entries[self.entry].to(torch.float32).contiguous()

    @property
    def rows(self) -> int:
        """How many observations are evaluated at a time, where nothing else decides that."""
        low, high = CHUNK_BOUNDS
        return self.request.chunk or min(max(CHUNK_NUMBERS // self.bound.entries[self.entry].numel(), low), high)
