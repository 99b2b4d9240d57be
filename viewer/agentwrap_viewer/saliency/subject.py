"""What one part of an explanation is about."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .chunks import Chunks, usual_size
from .layout import Layout
from .policies import BoundPolicy
from .request import Request


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
        """The entry, float32, contiguous; one that is a single number as a vector."""
        return self.bound.entries[self.entry].to(torch.float32).reshape(self.layout.shape).contiguous()

    @property
    def rows(self) -> int:
        """How many observations gradients are taken at, at a time."""
        return self.request.chunk or usual_size(self.bound.entries[self.entry].numel())

    def chunks(self, bound: BoundPolicy) -> Chunks | None:
        """How many observations that policy is given at a time, as far as is known; None where the request says it."""
        if self.request.chunk:
            return None
        return Chunks.of(bound.policy, self.bound.entries[self.entry].shape, bound.device)
