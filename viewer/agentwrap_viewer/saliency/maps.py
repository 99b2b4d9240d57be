"""The result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .arrangement import Floats
from .outputs import Target


@dataclass(frozen=True, eq=False)
class SaliencyMap:
    """A saliency map, finished or still being refined.

    Attributes:
        grid: float32 raw scores as computed: (rows, cols) at the grid's centres; (n,) for the n features of a vector.
        heatmap: float32 in the observation's space: (H, W), the grid placed where its centres are and interpolated
            bilinearly, the edges continued by the nearest centre's score; (n,) for a vector.
        method: The method's name.
        target: What is explained: ``actor``, ``critic``, ``chosen`` or an action's index.
        options: The method's options, defaults included.
        seconds: Time spent computing so far, for all maps that share the forwards.
        forwards: Observations evaluated so far, perturbed ones or those that gradients were taken at, for all maps that
            share them.
        refined: Share of the full computation that the map rests on, 0..1; 1 is final. Until then, scores that are not
            computed are interpolated from a coarser grid; at 0 all are predicted from gradients, to first order.
        entry: For a dict observation, the entry explained with the others held; else "".
        evaluation: How observations were evaluated: ``gradient``; for perturbed ones ``incremental`` (only what a mask
            changes was computed), ``incremental, dense from aten.… on`` (there is no rule for that operator), or
            ``dense: …`` (whole batches), with the reason.
        precision: In what was multiplied: ``float32``; ``bf16`` where that was asked for (what masks change, in layers
            that are evaluated incrementally).
    """

    grid: Floats
    heatmap: Floats
    method: str
    target: Target
    options: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    forwards: int = 0
    refined: float = 1.0
    entry: str = ""
    evaluation: str = "dense"
    precision: str = "float32"

    def __repr__(self) -> str:
        of = f" of {self.entry!r}" if self.entry else ""
        shape, share = "×".join(map(str, self.heatmap.shape)), f"{self.refined:.0%}"
        return f"<SaliencyMap {self.method} of {self.target}{of}, {shape}, {share} after {self.forwards} forwards>"
