"""How perturbed observations are evaluated: only what a mask changes where that goes, else in whole batches."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import NotIncremental, SaliencyError
from .incremental import Incremental, refusal
from .layout import Layout
from .method import MaskedImages, Perturbations
from .outputs import Outputs
from .policies import BoundPolicy
from .request import Request


@dataclass(frozen=True)
class Way:
    """A way of evaluating perturbed observations.

    Attributes:
        bound: The policy that is evaluated: the one given, or a replica of it.
        clean: Its outputs for the observation itself.
        incremental: What evaluates masks, or None where batches are evaluated.
        why_dense: Why they are; else empty.
    """

    bound: BoundPolicy
    clean: Outputs
    incremental: Incremental | None = None
    why_dense: str = ""


def find_way(bound: BoundPolicy, entry: str, layout: Layout, perturbations: Perturbations, request: Request) -> Way:
    """Find the way for one entry of the observation.

    Raises:
        SaliencyError: The policy refuses the observation, or what it returns is not usable; or changes cannot be
            multiplied in the precision that was asked for.
    """
    low = request.precision == "bf16"
    if low and refusal(bound.device):
        raise SaliencyError(f"precision='bf16': {refusal(bound.device)}; float32 goes everywhere")
    clean = None if bound.graph_policy is not None else bound.clean(entry)
    try:
        if request.evaluation == "dense":
            raise NotIncremental("as asked")
        if not isinstance(perturbations, MaskedImages):
            raise NotIncremental("only masked images are evaluated otherwise")
        found, incremental, same = bound.incremental(entry, layout, perturbations, clean, low=low)
        return Way(found, same, incremental)
    except NotIncremental as problem:
        if low:
            raise only_changes(str(problem)) from None
        return Way(bound, bound.clean(entry) if clean is None else clean, None, str(problem))


def only_changes(why: str) -> SaliencyError:
    """Return the error for a precision in which only what masks change can be multiplied; ``why`` it is not alone."""
    return SaliencyError(f"precision='bf16' multiplies what masks change, but here whole batches are evaluated: {why}")
