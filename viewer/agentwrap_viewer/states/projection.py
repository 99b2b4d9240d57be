"""Principal components of a sample of latents, and the alignment of one layout with another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Projection:
    """An affine map to fewer dimensions.

    Attributes:
        mean: float32 (d,).
        axes: float32 (d, k), orthonormal columns, those that explain most first.
        explained: Share of the sample's variance that they explain, 0…1.
    """

    mean: Floats
    axes: Floats
    explained: float

    @classmethod
    def of(cls, sample: Floats, components: int, *, seed: int = 0) -> Projection:
        """Find the principal components of a sample, float32 (n, d): at most ``components``, fewer of a small one.

        Needs scikit-learn. The algorithm is that of Halko et al. 2011 where the sample is large.
        """
        from sklearn.decomposition import PCA

        found = PCA(min(components, *sample.shape), random_state=seed)
        with np.errstate(invalid="ignore", divide="ignore"):  # latents that never change explain nothing
            found.fit(sample)
        explained = float(np.nan_to_num(found.explained_variance_ratio_).sum())
        return cls(found.mean_.astype(np.float32), found.components_.T.astype(np.float32), explained)

    def apply(self, latents: Floats) -> Floats:
        """Return (n, k) of (n, d)."""
        return np.asarray((latents - self.mean) @ self.axes)


@dataclass(frozen=True)
class Similarity:
    """A rotation or reflection with a scale and a shift of the plane: ``xy @ turn + shift``.

    Attributes:
        turn: float64 (2, 2).
        shift: float64 (2,).
    """

    turn: NDArray[np.float64]
    shift: NDArray[np.float64]

    @classmethod
    def between(cls, xy: NDArray[Any], onto: NDArray[Any]) -> Similarity:
        """Return the one that lays points (n, 2) onto others: the turn of least squares (Schönemann 1966).

        It gives them the others' spread. The scale of least squares would be smaller wherever the two differ, and a map
        that is aligned again and again would shrink.
        """
        middle, target = xy.mean(0, dtype=np.float64), onto.mean(0, dtype=np.float64)
        centred = xy - middle
        left, _, right = np.linalg.svd(centred.T @ (onto - target))
        spread, wanted = float((centred**2).sum()), float(((onto - target) ** 2).sum())
        turn = left @ right * (np.sqrt(wanted / spread) if spread > 0 and wanted > 0 else 1.0)
        return cls(turn, target - middle @ turn)

    def apply(self, xy: NDArray[Any]) -> Floats:
        """Return the points moved, float32 (n, 2)."""
        return np.asarray(xy @ self.turn + self.shift, np.float32)
