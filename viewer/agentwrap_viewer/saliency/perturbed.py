"""The explanation of one entry by perturbing it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from .errors import SaliencyError
from .method import Context, MaskedImages, MaskMethod, PerturbingMethod
from .outputs import Outputs
from .prediction import LEAST, predicted_scores
from .subject import Subject
from .targets import resolve_targets
from .ways import find_way, only_changes

#: Most masks in a block where some may be left out: one that matters is evaluated with all that share its block.
FLAT_BLOCK = 32


class PerturbedPart:
    """The explanation of one entry of the observation by perturbing it, the others held; see ``explanation``.

    Attributes:
        precision: In what changes are multiplied.
        level: Levels that are complete.
        count: Perturbed observations in all.
        skipped: Those of them that were left out, where the map is flat.
    """

    def __init__(self, subject: Subject, method: PerturbingMethod) -> None:
        """Say what is perturbed, and find the way in which that is evaluated."""
        self.entry, self.method, self.precision = subject.entry, method, subject.request.precision
        image, request = subject.image, subject.request
        self._perturbations = method.perturb(Context(image, subject.layout, _history(subject, image)))
        way = find_way(subject.bound, self.entry, subject.layout, self._perturbations, request)
        self.clean, self._bound, self._incremental, self._why_dense = (
            way.clean,
            way.bound,
            way.incremental,
            way.why_dense,
        )
        self.targets, self._resolved = resolve_targets(method, self.clean, request.target)
        self.arrangement = self._perturbations.arrangement
        self.count = self.arrangement.count
        self._asked, self._chunks = request.chunk, subject.chunks(way.bound)
        self._taken: int | None = None  # of a batch that was asked for and is not answered yet
        self._row_shape, self._buffer = subject.layout.shape, image.new_empty(0)
        self._scores = image.new_zeros((len(self.targets), self.count))
        self._known = np.zeros(self.count, bool)
        self.level, self.skipped = 0, 0
        self._flat = method.flat if isinstance(method, MaskMethod) else 0.0
        self._left: list[torch.Tensor] = []
        self._predicted: torch.Tensor | None = None
        self._estimate: torch.Tensor | None = None
        predictable = isinstance(method, MaskMethod) and method.first_order and self._incremental is not None
        self._predicts = request.predict and predictable
        self._begin_level(0)

    @property
    def done(self) -> bool:
        """Whether nothing is left to compute."""
        return not self._left

    @property
    def evaluation(self) -> str:
        """How observations are evaluated, for people; see `SaliencyMap`."""
        if self._incremental is None:
            return f"dense: {self._why_dense}"
        dense = self._incremental.dense
        return f"incremental, dense from {dense[0]} on" if dense else "incremental"

    def merge_levels(self) -> None:
        """Line up everything at once, if that saves work and nothing has been computed yet."""
        if self._incremental is not None and not self._known.any() and not self._flat:
            self._at, self._predicts = len(self.arrangement.levels) - 1, False
            self.level = self._at
            self._left = self._incremental.blocks(torch.arange(self.count), self._asked)

    def predict(self) -> bool:
        """Estimate all scores by gradients, where that helps; returns whether there is something new to look at."""
        if not self._predicts or self._incremental is None:
            return False
        self._predicts = False
        first_order = partial(self._bound.first_order, self._incremental)
        self._predicted = predicted_scores(first_order, self.method, self.clean, self._resolved)
        self._estimate = self._predicted
        return self._predicted is not None

    def advance(self) -> int:
        """Evaluate the next chunk; returns how many perturbed observations that were."""
        indices = self._left[0]
        perturbed = None if self._incremental is None else self._bound.evaluate_masked(self._incremental, indices)
        if perturbed is None:
            self._go_dense()
            indices = self._left[0][: self._size(len(self._left[0]))]
            perturbed = self._evaluate(indices)
        here = indices.to(self._scores.device)
        rest = self._left[0][len(indices) :]  # not before: what is not answered yet is evaluated again
        self._left[:1] = [rest] if len(rest) else []
        scores = [self.method.score(self.clean, perturbed, target) for target in self._resolved]
        self._scores[:, here] = torch.stack(scores)
        self._known[indices.numpy()] = True
        while not self._left and self._at < len(self.arrangement.levels):
            self.level += 1
            self._begin_level(self._at + 1)
        return len(indices)

    def _size(self, left: int) -> int:
        """Return how many of those left to evaluate as a batch; the same until that is answered."""
        if self._taken is None:
            self._taken = min(self._asked or left, left) if self._chunks is None else self._chunks.next(left)
        return self._taken

    def _evaluate(self, indices: torch.Tensor) -> Outputs:
        """Evaluate a batch, and learn from how long it took."""
        measured = self._chunks if self._chunks is not None and self._chunks.measuring else None
        started = time.perf_counter()
        batch = self._batch(len(indices))
        self._perturbations.build(indices.to(self._scores.device), batch)
        perturbed = self._bound.evaluate(self.entry, batch)
        if measured is not None:
            if self._scores.device.type == "cuda":
                torch.cuda.synchronize(self._scores.device)
            measured.took(len(indices), time.perf_counter() - started)
        self._taken = None
        return perturbed

    def _batch(self, rows: int) -> torch.Tensor:
        """Return where perturbed observations are built, which is kept for those to come."""
        if len(self._buffer) < rows:
            self._buffer = self._scores.new_empty((rows, *self._row_shape))
        return self._buffer[:rows]

    def grids(self) -> list[Any]:
        """Return each target's grid as it is now."""
        scores = self._scores.cpu().numpy()
        estimates = [None] * len(scores) if self._estimate is None else self._estimate.cpu().numpy()
        return [
            self.arrangement.grid(row, self._known, estimate) for row, estimate in zip(scores, estimates, strict=True)
        ]

    def _begin_level(self, level: int) -> None:
        """Line up a level's chunks, those first that the levels before let expect to matter."""
        self._at = level
        if level >= len(self.arrangement.levels):
            return
        indices = self.arrangement.levels[level]
        self._estimate = self.arrangement.estimate(self._scores, level, self._sizes() if level else None)
        expected = None if self._estimate is None else _importance(self._estimate)
        if self._incremental is not None:  # plans are kept for sets of masks: the sets stay, their order may change
            self._left = self._incremental.level_blocks(indices, self.count, self._asked or self._flat_block)
            if expected is not None:
                self._left = [block for block in self._left if self._matters(block).any()]
                self._left.sort(key=lambda block: -float(expected[block].mean()))
            self.skipped += len(indices) - sum(map(len, self._left))
            return
        if expected is not None:
            matters = self._matters(indices)
            self.skipped += int((~matters).sum())
            indices = indices[matters]
            indices = indices[torch.argsort(expected[indices], descending=True, stable=True)]
        self._left = [indices] if len(indices) else []

    @property
    def _flat_block(self) -> int | None:
        """Most masks in a block, of which one that matters lets none be left out."""
        return FLAT_BLOCK if self._flat else None

    def _matters(self, indices: torch.Tensor) -> torch.Tensor:
        """Return which masks to evaluate, (len(indices),), bool: of the finest level those not expected to be flat."""
        finest = self._at == len(self.arrangement.levels) - 1
        if not self._flat or self._estimate is None or not finest:
            return torch.ones(len(indices), dtype=torch.bool)
        most = self._scores.abs().amax(1, keepdim=True)
        return (self._estimate[:, indices].abs() >= self._flat * most).any(0).cpu()

    def _sizes(self) -> torch.Tensor | None:
        if self._predicted is not None:
            sizes = self._predicted.abs()
            return sizes + LEAST * sizes.amax(1, keepdim=True)
        return self._perturbations.sizes() if isinstance(self._perturbations, MaskedImages) else None

    def _go_dense(self) -> None:
        """Line up what is left as one, to be cut into batches, if it is not yet."""
        if self._incremental is not None:
            self._incremental, self._why_dense = None, "none of the policy's operators has a rule for masked images"
            if self.precision == "bf16":
                raise only_changes(self._why_dense)
            self._left = [torch.cat(self._left)]


def _importance(estimate: torch.Tensor) -> torch.Tensor:
    """Return how much each perturbation is expected to matter, (count,), all targets together."""
    size = estimate.abs()
    return (size / size.amax(1, keepdim=True).clamp(min=torch.finfo(size.dtype).tiny)).sum(0).cpu()


def _history(subject: Subject, image: torch.Tensor) -> torch.Tensor:
    given = subject.request.history
    history = given.get(subject.entry) if isinstance(given, Mapping) else given
    if history is None:
        return image.new_empty((0, *image.shape))
    past = torch.as_tensor(np.asarray(history) if not isinstance(history, torch.Tensor) else history)
    past = past.to(image.device, torch.float32)
    if past.ndim == image.numel() == 1:  # of a single number
        past = past[:, None]
    if past.shape[1:] != image.shape:
        raise SaliencyError(f"history has shape {tuple(past.shape)}; wanted is (k, {', '.join(map(str, image.shape))})")
    return past
