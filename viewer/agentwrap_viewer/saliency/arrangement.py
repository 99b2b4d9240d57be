"""How scores of single perturbations become a map: in which order they are computed, and where they belong."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch

Floats = np.ndarray[Any, np.dtype[np.float32]]


class Arrangement(Protocol):
    """What every arrangement of perturbations answers. Scores are float32 (targets, count)."""

    @property
    def count(self) -> int:
        """Number of perturbations."""

    @property
    def levels(self) -> tuple[torch.Tensor, ...]:
        """Indices of the perturbations, coarse to fine; together every index once."""

    def estimate(self, scores: torch.Tensor, level: int, sizes: torch.Tensor | None = None) -> torch.Tensor | None:
        """Guess all scores (targets, count) from those of the levels below ``level``; None where there is no way to.

        ``sizes`` (count,), or (targets, count), are what scores can be expected to be proportional to, as far as known.
        """

    def grid(self, scores: Floats, known: np.ndarray[Any, Any], estimate: Floats | None) -> Floats:
        """Turn one target's scores (count,) into its grid; ``known`` (count,) says which are computed."""

    def heatmap(self, grid: Floats) -> Floats:
        """Place a grid in the observation's space."""


class CentreGrid:
    """Perturbations around centres on a grid.

    Levels are every fourth centre in each direction, every second, and all; the last row and column belong to the
    coarsest, so that nothing has to be guessed from one side.

    Attributes:
        size: Height and width of the picture.
        ys: The centres' rows, ascending.
        xs: The centres' columns, ascending.
    """

    STEPS = (4, 2, 1)

    def __init__(self, size: tuple[int, int], ys: np.ndarray[Any, Any], xs: np.ndarray[Any, Any]) -> None:
        """Keep the centres."""
        self.size, self.ys, self.xs = size, ys, xs

    @classmethod
    def spaced(cls, size: tuple[int, int], stride: int) -> CentreGrid:
        """Centres at 0, stride, 2·stride, … in both directions."""
        return cls(size, *(np.arange(0, n, stride) for n in size))

    @property
    def count(self) -> int:
        """Number of centres."""
        return len(self.ys) * len(self.xs)

    @property
    def levels(self) -> tuple[torch.Tensor, ...]:
        """Indices of the centres (row-major), coarse to fine."""
        return tuple(indices for _, indices in self._stepped)

    @cached_property
    def _stepped(self) -> list[tuple[int, torch.Tensor]]:
        """Each level that adds centres: its step and the centres that are new with it."""
        seen = np.zeros((len(self.ys), len(self.xs)), bool)
        levels = []
        for step in self.STEPS:
            new = np.zeros_like(seen)
            new[np.ix_(_every(len(self.ys), step), _every(len(self.xs), step))] = True
            levels.append((step, torch.from_numpy(np.flatnonzero(new & ~seen))))
            seen |= new
        return [(step, indices) for step, indices in levels if len(indices)]

    def estimate(self, scores: torch.Tensor, level: int, sizes: torch.Tensor | None = None) -> torch.Tensor | None:
        """Interpolate all scores (targets, count) from the grid of the level before; None for the first level.

        Where sizes are known, what is interpolated are fourth roots, since such scores span orders of magnitude; and
        the result is corrected by how far the sizes' own root is from what interpolating it gives. Measured on Enduro
        with 25 of 289 masks: rank correlation with all scores 0.96 and 0.92 (actor, critic), bilinear 0.84 and 0.81.
        """
        if level == 0:
            return None
        if sizes is None:
            return self._interpolated(scores, level)
        root, expected = scores.abs().pow(0.25) * scores.sign(), sizes.to(scores).pow(0.25)
        between = self._interpolated(expected, level).clamp(min=torch.finfo(scores.dtype).tiny)
        guess = self._interpolated(root, level) * (expected / between)
        return guess.pow(4) * guess.sign()

    def _interpolated(self, values: torch.Tensor, level: int) -> torch.Tensor:
        down, across = self._interpolation[level - 1]
        table = values.reshape(-1, len(self.ys), len(self.xs))
        return (down.to(values) @ table @ across.to(values).T).reshape(values.shape)

    def grid(self, scores: Floats, known: np.ndarray[Any, Any], estimate: Floats | None) -> Floats:
        """Return float32 (rows, cols): the scores known, and the estimate (or zero) for the others."""
        rest = np.zeros_like(scores) if estimate is None else estimate
        return np.where(known, scores, rest).reshape(len(self.ys), len(self.xs))

    def heatmap(self, grid: Floats) -> Floats:
        """Return float32 (H, W): bilinear between the centres, the nearest centre's beyond them."""
        down, across = self._placement
        placed: Floats = (down @ grid @ across.T).astype(np.float32)
        return placed

    @cached_property
    def _placement(self) -> list[Floats]:
        """Matrices that interpolate from the centres to the pixels, down and across."""
        return [_linear(np.arange(n), at) for n, at in zip(self.size, (self.ys, self.xs), strict=True)]

    @cached_property
    def _interpolation(self) -> list[list[torch.Tensor]]:
        """For each level, matrices that interpolate from its centres to all, down and across."""
        return [[_from_every(at, step) for at in (self.ys, self.xs)] for step, _ in self._stepped]


class Mixture:
    """Perturbations over the whole picture; the map is the mean of the masks kept, weighted by their scores (RISE)."""

    def __init__(self, kept: Floats, share: float) -> None:
        """Keep the masks.

        Args:
            kept: float32 (n, H, W): how much of each pixel each perturbation keeps.
            share: The expected share of a pixel that is kept.
        """
        self._kept, self._share = kept, share
        self.count = len(kept)
        bounds = sorted({-(-self.count // 16), -(-self.count // 4), self.count})
        self.levels = tuple(torch.arange(start, stop) for start, stop in zip([0, *bounds[:-1]], bounds, strict=True))

    def estimate(self, scores: torch.Tensor, level: int, sizes: torch.Tensor | None = None) -> torch.Tensor | None:
        """Return None: a mask's score says nothing of another's."""
        return None

    def grid(self, scores: Floats, known: np.ndarray[Any, Any], estimate: Floats | None) -> Floats:
        """Return float32 (H, W)."""
        number = max(1, int(known.sum()))
        weights = np.where(known, scores, 0) / np.float32(number * self._share)
        mixed: Floats = np.tensordot(weights.astype(np.float32), self._kept, axes=1)
        return mixed

    def heatmap(self, grid: Floats) -> Floats:
        """Return the grid: it is in the observation's space."""
        return grid


class FeatureTable:
    """Perturbations of single features, several samples for each; a feature's score is its samples' mean.

    Few are one level: a batch of vectors takes as long as the first sample of each would alone.
    """

    FEW = 512

    def __init__(self, features: int, samples: int) -> None:
        """Keep the sizes. Perturbation ``sample * features + feature`` changes ``feature``."""
        self.features, self.samples = features, samples
        self.count = features * samples
        first, rest = torch.arange(features), torch.arange(features, self.count)
        few = samples == 1 or self.count <= self.FEW
        self.levels: tuple[torch.Tensor, ...] = (torch.arange(self.count),) if few else (first, rest)

    def estimate(self, scores: torch.Tensor, level: int, sizes: torch.Tensor | None = None) -> torch.Tensor | None:
        """Return None: every feature is scored by the first sample already."""
        return None

    def grid(self, scores: Floats, known: np.ndarray[Any, Any], estimate: Floats | None) -> Floats:
        """Return float32 (features,)."""
        number = known.reshape(self.samples, self.features).sum(axis=0)
        total = np.where(known, scores, 0).reshape(self.samples, self.features).sum(axis=0)
        mean: Floats = (total / np.maximum(number, 1)).astype(np.float32)
        return mean

    def heatmap(self, grid: Floats) -> Floats:
        """Return the grid: it is in the observation's space."""
        return grid


def _every(n: int, step: int) -> np.ndarray[Any, Any]:
    return np.unique(np.append(np.arange(0, n, step), n - 1))


def _linear(points: np.ndarray[Any, Any], centres: np.ndarray[Any, Any]) -> Floats:
    """Matrix (points, centres) of linear interpolation, constant beyond the outer centres."""
    return np.stack([np.interp(points, centres, unit) for unit in np.eye(len(centres))], axis=1).astype(np.float32)


def _from_every(centres: np.ndarray[Any, Any], step: int) -> torch.Tensor:
    kept = _every(len(centres), step)
    matrix = np.zeros((len(centres), len(centres)), np.float32)
    matrix[:, kept] = _linear(centres, centres[kept])
    return torch.from_numpy(matrix)
