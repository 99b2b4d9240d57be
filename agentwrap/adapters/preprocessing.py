"""What libraries do with observations before a policy gets them, as modules: it is exported with the policy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from agentwrap.arrays import Array


class ChannelsFirst(nn.Module):
    """Pictures (B, H, W, C) → (B, C, H, W)."""

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Return the picture with its channels in front."""
        return observation.permute(0, 3, 1, 2)


class Normalization(nn.Module):
    """Running normalisation: ``clip((observation - mean) / std)``, (B, …) → (B, …) float32.

    Args:
        shape: Of one observation.
        clip: Greatest absolute value that comes out.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, shape: tuple[int, ...], *, clip: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("std", torch.ones(shape))
        self._clip = float(clip)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Return normalised observations."""
        return ((observation.float() - self.mean) / self.std).clamp(-self._clip, self._clip)

    def update(self, mean: Array, std: Array) -> None:
        """Take over statistics, if they are others: a buffer that is written counts as changed."""
        for buffer, array in ((self.mean, mean), (self.std, std)):
            given = torch.as_tensor(np.asarray(array, np.float32), device=buffer.device)
            if not torch.equal(buffer, given):
                buffer.copy_(given)


class OneVector(nn.Module):
    """Entries of an observation, one after another: arrays flattened, numbers of a choice as one-hot vectors.

    Args:
        choices: By key how many a number is one of, or None for an array; the only key ``""`` for an observation that
            is no dict. Their order is that of the vector.
    """

    numbers: torch.Tensor

    def __init__(self, choices: Mapping[str, int | None]) -> None:
        super().__init__()
        self._choices = dict(choices)
        self.register_buffer("numbers", torch.arange(max((count or 0 for count in choices.values()), default=0)))

    def forward(self, observation: torch.Tensor | dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the vector (B, n), float32."""
        entries = observation if isinstance(observation, dict) else {"": observation}
        return torch.cat([self._part(entries[key], count) for key, count in self._choices.items()], dim=1)

    def _part(self, entry: torch.Tensor, count: int | None) -> torch.Tensor:
        if count is None:
            return entry.float().flatten(1)
        return (entry.reshape(-1, 1) == self.numbers[:count]).float()


class PerKey(nn.Module):
    """Does to each entry of a dict observation what is to be done to it, if anything.

    Args:
        modules: By key.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self._keys = tuple(modules)  # not a ModuleDict, for keys may hold dots
        self.entries = nn.ModuleList(modules.values())

    def forward(self, observation: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the entries, prepared."""
        prepared = {key: module(observation[key]) for key, module in zip(self._keys, self.entries, strict=True)}
        return {**observation, **prepared}
