"""Layouts: latents → places in the plane. One is made of a sample, and then places whatever comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from .errors import StatesError
from .projection import Floats, Projection, Similarity

Method = Literal["tsne", "pca"]

#: Fewer points make no map.
LEAST = 10

#: Fewer points are laid out by their principal components: neighbourhoods of so few say little.
LEAST_TSNE = 60

#: Dimensions that t-SNE starts from (van der Maaten & Hinton 2008, section 4.2: 30; openTSNE's documents: 50).
COMPONENTS = 50

#: Neighbours whose median is the place of a new point. As trustworthy as more of them were, in runs of Enduro.
NEIGHBOURS = 10

#: Points placed at a time: bounds the table of distances.
PART = 1024

#: Standard deviation of a layout's wider axis: all are scaled to this.
SPREAD = 10.0

#: Iterations of a first fit, with exaggerated attraction and then without, and of one that goes on from another layout.
EXAGGERATED, PLAIN, AGAIN = 250, 500, 250


class Layout(Protocol):
    """Places latents in the plane."""

    @property
    def method(self) -> Method:
        """How it was made."""

    def place(self, latents: Floats) -> Floats:
        """Return places, float32 (n, 2), of latents, float32 (n, d)."""


@dataclass(frozen=True)
class PrincipalLayout:
    """The two principal components."""

    projection: Projection
    similarity: Similarity
    method: Method = "pca"

    @classmethod
    def of(cls, sample: Floats, *, before: Floats | None = None) -> PrincipalLayout:
        """Find them in a sample, (n, d).

        Args:
            sample: Latents.
            before: Where these are now, (n, 2): the layout is turned so that they move as little as possible.

        Raises:
            StatesError: The sample is too small.
        """
        check_size(len(sample))
        projection = Projection.of(sample, 2)
        xy = _two(projection.apply(sample))
        return cls(projection, Similarity.between(xy, before) if before is not None else _normal(xy))

    def place(self, latents: Floats) -> Floats:
        """Return places, float32 (n, 2)."""
        return self.similarity.apply(_two(self.projection.apply(latents)))


@dataclass(frozen=True)
class NeighbourLayout:
    """A t-SNE of a sample. What comes later is placed at the median of its nearest neighbours in the sample.

    Attributes:
        projection: To the dimensions in which neighbours are sought.
        landmarks: float32 (n, k): the sample, projected.
        xy: float32 (n, 2): its places.
    """

    projection: Projection
    landmarks: Floats
    xy: Floats
    method: Method = "tsne"

    @classmethod
    def of(
        cls,
        sample: Floats,
        *,
        before: Floats | None = None,
        again: bool = False,
        perplexity: float = 30.0,
        seed: int = 0,
        on_progress: Callable[[float], bool] | None = None,
    ) -> NeighbourLayout | None:
        """Compute a t-SNE (van der Maaten & Hinton 2008) of a sample with openTSNE (Poličar et al. 2024).

        Args:
            sample: Latents, float32 (n, d).
            before: Where these are now, (n, 2): it starts from there, and is turned so that they move little.
            again: ``before`` is a t-SNE of most of them: goes on from it instead of beginning anew.
            perplexity: About how many neighbours each has; less for a small sample.
            seed: Of what is random in it.
            on_progress: Told the share computed, now and then; where it returns True the computation ends.

        Returns:
            The layout, or None where ``on_progress`` ended it.

        Raises:
            StatesError: The sample is too small, or openTSNE is missing.
        """
        check_size(len(sample))
        projection = Projection.of(sample, COMPONENTS, seed=seed)
        landmarks = projection.apply(sample)
        start = _two(landmarks) if before is None else before
        xy = _tsne(landmarks, start, again=again, perplexity=perplexity, seed=seed, on_progress=on_progress)
        if xy is None:
            return None
        similarity = Similarity.between(xy, before) if before is not None else _normal(xy)
        return cls(projection, landmarks, similarity.apply(xy))

    def place(self, latents: Floats) -> Floats:
        """Return places, float32 (n, 2): medians of those of the nearest landmarks."""
        found = np.empty((len(latents), 2), np.float32)
        squares = (self.landmarks**2).sum(1)
        count = min(NEIGHBOURS, len(self.landmarks))
        for begin in range(0, len(latents), PART):
            part = self.projection.apply(latents[begin : begin + PART])
            distances = squares - 2 * part @ self.landmarks.T  # but for what is the same for all landmarks
            nearest = np.argpartition(distances, count - 1, axis=1)[:, :count]
            found[begin : begin + PART] = np.median(self.xy[nearest], axis=1)
        return found


def check_size(count: int) -> None:
    """Check that there are points enough for a map.

    Raises:
        StatesError: There are not; says how many are missing.
    """
    if count < LEAST:
        raise StatesError(f"a map needs at least {LEAST} steps with latents; {LEAST - count} more are missing")


def _tsne(
    landmarks: Floats,
    start: Floats,
    *,
    again: bool,
    perplexity: float,
    seed: int,
    on_progress: Callable[[float], bool] | None,
) -> Floats | None:
    try:
        from openTSNE import TSNEEmbedding
        from openTSNE.affinity import PerplexityBasedNN
    except ImportError:
        raise StatesError('t-SNE needs openTSNE: pip install "agentwrap-rl[viewer]"') from None
    affinities = PerplexityBasedNN(
        landmarks, perplexity=min(perplexity, (len(landmarks) - 1) / 3), n_jobs=1, random_state=seed
    )
    # noise: points that begin at the same place would never part
    noise = np.random.default_rng(seed).normal(size=start.shape)
    scale = max(float(start.std(0).max()), 1e-12)
    begin = start / scale + 1e-3 * noise
    phases = [(AGAIN, 1.0)] if again else [(EXAGGERATED, 12.0), (PLAIN, 1.0)]
    # the size at which a t-SNE of so many points settles, about: from there, nothing has to be blown up first
    begin *= np.sqrt(len(start)) / 2 if again else 1e-4
    embedding = TSNEEmbedding(begin, affinities, n_jobs=1, random_state=seed)
    done, whole, each = 0, sum(count for count, _ in phases), 25
    for count, exaggeration in phases:
        for _ in range(0, count, each):
            if on_progress is not None and on_progress(done / whole):
                return None
            momentum = 0.5 if exaggeration > 1 else 0.8
            embedding = embedding.optimize(each, exaggeration=exaggeration, momentum=momentum)
            done += each
    return np.asarray(embedding, np.float32)


def _two(reduced: Floats) -> Floats:
    """Return the first two columns; zeros where the latents have but one number."""
    return np.ascontiguousarray(np.pad(reduced[:, :2], ((0, 0), (0, max(0, 2 - reduced.shape[1])))))


def _normal(xy: Floats) -> Similarity:
    """Return what centres a layout and gives it the spread that all have."""
    spread = float(xy.std(0).max())
    turn = np.eye(2) * (SPREAD / spread if spread > 0 else 1.0)
    return Similarity(turn, -xy.mean(0, dtype=np.float64) @ turn)
