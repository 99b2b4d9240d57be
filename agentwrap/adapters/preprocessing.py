"""What libraries do with observations before a policy gets them, as modules: it is exported with the policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
        clip: Greatest absolute value that comes out; None for any.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, shape: tuple[int, ...], *, clip: float | None) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("std", torch.ones(shape))
        self._clip = None if clip is None else float(clip)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Return normalised observations."""
        normalised = (observation.float() - self.mean) / self.std
        return normalised if self._clip is None else normalised.clamp(-self._clip, self._clip)

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


class FrameStack(nn.Module):
    """Joins earlier frames with the newest, oldest first: (B, …) and (B, …) → (B, …).

    Args:
        dim: Axis along which frames are joined, counted from the end.
        size: Length of one frame along it.
        frames: How many are joined.
        name: What the earlier ones are called as state.
    """

    def __init__(self, *, dim: int, size: int, frames: int, name: str = "frames") -> None:
        super().__init__()
        self.name, self.dim, self.kept = name, dim, size * (frames - 1)

    def forward(self, observation: torch.Tensor, earlier: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the stack, float32, and what is kept of it for the next act."""
        stack = torch.cat([earlier, observation.float()], self.dim)
        return stack, self.earlier(stack, newest=True)

    def earlier(self, stack: torch.Tensor, *, newest: bool = False) -> torch.Tensor:
        """Return all frames of a stack but the newest, or but the oldest with ``newest``."""
        return stack.narrow(self.dim, stack.shape[self.dim] - self.kept if newest else 0, self.kept)

    def shape_of(self, frame: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of what is kept in an act for one environment, given that of a frame without batch axis."""
        shape = [1, *frame]
        shape[self.dim] = self.kept
        return tuple(shape)


class Chain(nn.Module):
    """Does one thing after the other to an observation, frame stacks among them.

    Args:
        steps: What is done.
    """

    def __init__(self, steps: Sequence[nn.Module]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def forward(
        self, observation: torch.Tensor, kept: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the observation, prepared, and the frames to keep for the next act."""
        leaving = {}
        for step in self.steps:
            if isinstance(step, FrameStack):
                observation, leaving[step.name] = step(observation, kept[step.name])
            else:
                observation = step(observation)
        return observation, leaving


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
