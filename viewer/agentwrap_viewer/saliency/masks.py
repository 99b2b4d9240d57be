"""Masks: which pixels a perturbation changes, and how much.

A mask is a number in 0..1 for each pixel. Masks are made for a few perturbations at a time, from what depends on
geometry alone, which is computed once and kept.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d

from .arrangement import Arrangement, CentreGrid

Size = tuple[int, int]


class Masks(Protocol):
    """Masks of one geometry."""

    @property
    def arrangement(self) -> Arrangement:
        """How the masks' scores become a map."""

    def make(self, indices: torch.Tensor) -> torch.Tensor:
        """Return the masks numbered ``indices`` as float32 (B, H, W), on the device of ``indices``."""


class SeparableMasks:
    """Masks that are sums of outer products of a column and a row, placed on a grid of centres."""

    def __init__(self, grid: CentreGrid, columns: torch.Tensor, rows: torch.Tensor, *, cut: float = 0.0) -> None:
        """Keep the factors.

        Args:
            grid: The centres.
            columns: float32 (grid rows, H, k).
            rows: float32 (grid columns, k, W).
            cut: What of a mask is smaller than this becomes 0.
        """
        self.arrangement = grid
        self._columns, self._rows, self._cut = columns, rows, cut
        self._scale = torch.ones(grid.count)

    def make(self, indices: torch.Tensor) -> torch.Tensor:
        """Return the masks numbered ``indices`` as float32 (B, H, W)."""
        where = indices.to(self._scale.device)
        row, column = where // len(self._rows), where % len(self._rows)
        scaled = self._columns[row] * self._scale[where][:, None, None]
        masks = torch.bmm(scaled.to(indices.device), self._rows[column].to(indices.device))
        return torch.where(masks < self._cut, 0, masks) if self._cut else masks

    def sums(self, planes: torch.Tensor) -> torch.Tensor:
        """Return the sum of each plane (…, H, W) under each mask, (…, count), as if nothing were cut."""
        columns, rows, scale = (part.to(planes) for part in (self._columns, self._rows, self._scale))
        count, _, terms = columns.shape
        down = columns.transpose(1, 2).reshape(count * terms, -1) @ planes  # einsum would look for a path anew
        under = down.reshape(*planes.shape[:-2], count, -1) @ rows.flatten(1).T
        return under.flatten(-2) * scale

    def normalised(self) -> SeparableMasks:
        """Divide each mask by its maximum; returns itself."""
        for start in range(0, self.arrangement.count, 64):
            chunk = torch.arange(start, min(start + 64, self.arrangement.count))
            row, column = chunk // len(self._rows), chunk % len(self._rows)
            self._scale[chunk] = 1 / torch.bmm(self._columns[row], self._rows[column]).amax((1, 2))
        return self


class DiscMasks:
    """1 where dy² + dx² ≤ radius², else 0, around each centre of a grid."""

    def __init__(self, grid: CentreGrid, radius: float) -> None:
        """Keep the geometry; ``radius`` in pixels."""
        self.arrangement = grid
        height, width = grid.size
        self._dy2 = torch.from_numpy((np.arange(height) - grid.ys[:, None]) ** 2).float()
        self._dx2 = torch.from_numpy((np.arange(width) - grid.xs[:, None]) ** 2).float()
        self._radius2 = radius**2

    def make(self, indices: torch.Tensor) -> torch.Tensor:
        """Return the masks numbered ``indices`` as float32 (B, H, W)."""
        where = indices.to(self._dy2.device)
        row, column = where // len(self._dx2), where % len(self._dx2)
        distance2 = self._dy2[row][:, :, None] + self._dx2[column][:, None, :]
        return (distance2 <= self._radius2).float().to(indices.device)


class KeptMasks:
    """Masks given by what they keep: the mask is 1 − kept."""

    def __init__(self, kept: torch.Tensor, arrangement: Arrangement) -> None:
        """Keep the table: float32 (n, H, W)."""
        self.arrangement = arrangement
        self._kept = kept

    def make(self, indices: torch.Tensor) -> torch.Tensor:
        """Return the masks numbered ``indices`` as float32 (B, H, W)."""
        return (1 - self._kept[indices.to(self._kept.device)]).to(indices.device)


@lru_cache(maxsize=16)
def gaussian_masks(size: Size, stride: int, sigma: float, cut: float = 0.0) -> SeparableMasks:
    """Blurred discs of radius 1 (Greydanus et al. 2018), each divided by its maximum.

    The disc of radius 1 is a cross of five pixels: its two bars less the centre that both have. Blurring is separable,
    so that each mask is exactly three outer products of blurred lines (``scipy.ndimage``: reflecting border, truncated
    at 4 sigma).

    Args:
        size: Height and width.
        stride: Distance between centres, which are 0, stride, 2·stride, … in both directions.
        sigma: Standard deviation of the blur in pixels.
        cut: What of a mask is smaller than this share of its maximum becomes 0.
    """
    grid = CentreGrid.spaced(size, stride)
    (bar_y, dot_y), (bar_x, dot_x) = (_lines(n, at, sigma) for n, at in zip(size, (grid.ys, grid.xs), strict=True))
    columns = np.stack([bar_y, dot_y, -dot_y], axis=2)
    rows = np.stack([dot_x, bar_x, dot_x], axis=1)
    return SeparableMasks(grid, _float(columns), _float(rows), cut=cut).normalised()


@lru_cache(maxsize=16)
def disc_masks(size: Size, stride: int, radius: float) -> DiscMasks:
    """Sharp discs around centres 0, stride, 2·stride, … ."""
    return DiscMasks(CentreGrid.spaced(size, stride), radius)


@lru_cache(maxsize=16)
def patch_masks(size: Size, stride: int, patch: int) -> SeparableMasks:
    """Squares of ``patch`` pixels at every position 0, stride, … at which they fit into the picture."""
    starts = [np.arange(0, n - patch + 1, stride) for n in size]
    grid = CentreGrid(size, *(at + (patch - 1) / 2 for at in starts))
    inside = [
        ((np.arange(n) >= at[:, None]) & (np.arange(n) < at[:, None] + patch)).astype(np.float32)
        for n, at in zip(size, starts, strict=True)
    ]
    return SeparableMasks(grid, _float(inside[0][:, :, None]), _float(inside[1][:, None, :]))


def blur(planes: torch.Tensor, sigma: float) -> torch.Tensor:
    """Blur each plane (…, H, W) on its own, as ``scipy.ndimage.gaussian_filter`` with its defaults does."""
    down, across = (_blur_matrix(n, sigma).to(planes) for n in planes.shape[-2:])
    return down @ (planes.reshape(-1, planes.shape[-1]) @ across.T).view(planes.shape)


@lru_cache(maxsize=16)
def _blur_matrix(n: int, sigma: float) -> torch.Tensor:
    return _float(gaussian_filter1d(np.eye(n), sigma, axis=0))


def _lines(n: int, centres: np.ndarray[Any, Any], sigma: float) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Blurred indicators (centres, n) of the pixels within one of each centre, and of the centre alone."""
    distance = np.abs(np.arange(n) - centres[:, None])
    bar, dot = (gaussian_filter1d((distance <= reach).astype(float), sigma, axis=1) for reach in (1, 0))
    return bar, dot


def _float(array: np.ndarray[Any, Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).float()
