"""``explain`` and ``refine``."""

from __future__ import annotations

import numbers
import time
from collections.abc import Iterator, Sequence
from typing import Any, overload

from .errors import SaliencyError
from .explanation import Explanation
from .maps import SaliencyMap
from .outputs import FIRST, Target
from .policies import Observation
from .request import Request


@overload
def explain(policy: Any, observation: Any, *, target: Target = FIRST, **request: Any) -> SaliencyMap: ...


@overload
def explain(
    policy: Any, observation: Any, *, target: Sequence[Target] | None, **request: Any
) -> tuple[SaliencyMap, ...]: ...


def explain(
    policy: Any, observation: Observation, *, target: Target | Sequence[Target] | None = FIRST, **request: Any
) -> SaliencyMap | tuple[SaliencyMap, ...]:
    """Compute saliency maps of one observation.

    The observation and the policy are not changed. A module in training mode is evaluated in evaluation mode, through a
    copy that shares its weights. Perturbed observations are float32 batches in the observation's own layout and units.

    Args:
        policy: A ``torch.nn.Module`` or another callable, batch → logits, (logits, value), a dict of outputs named
            ``logits``, ``q_values``, ``mean``, ``value``, or a ``Categorical``, ``Bernoulli`` or ``Normal`` in the
            place of logits; or a graph policy such as the viewer's ``Replica``.
        observation: One observation, without batch axis: a vector (n,), an image (H, W), (C, H, W) or (H, W, C), a
            stack of images along the first axis, or a dict of such (each is then explained with the others held).
        target: What is explained: ``actor``, ``critic``, ``chosen``, an action's index, or several of them. By default
            the first of the method's own that the policy has, ``actor`` or, of methods about the action taken,
            ``chosen``; None for all of them.
        request: ``method``, ``state`` and all else that `Request` has as attributes; other names are options of the
            method.

    Returns:
        A map; or a tuple of maps where several targets or all were asked for or the observation is a dict: for each
        entry in turn, one for each target.

    Raises:
        SaliencyError: What is asked for is not there, or the policy or the observation is not usable. The text says
            why.

    Example:
        >>> import torch
        >>> policy = lambda batch: batch[:, :1, 2, 3]  # looks at one pixel
        >>> saliency = explain(policy, torch.eye(8)[None], stride=1, mask_sigma=0.5)
        >>> [int(i) for i in divmod(saliency.grid.argmax(), 8)]
        [2, 3]
    """
    explanation = Explanation(policy, observation, Request.of({"target": target, **request}))
    explanation.complete()
    maps = explanation.maps()
    return maps[0] if explanation.single else maps


def refine(
    policy: Any,
    observation: Observation,
    *,
    budget_ms: float = 16.0,
    target: Target | Sequence[Target] | None = FIRST,
    **request: Any,
) -> Iterator[Any]:
    """Compute saliency maps coarse to fine, and finer first where it matters.

    Args:
        policy: As in ``explain``.
        observation: One observation.
        budget_ms: Yield at least this often, in milliseconds, as far as chunks allow.
        target: As in ``explain``.
        request: As in ``explain``.

    Yields:
        What ``explain`` returns, after each level and each ``budget_ms``; the last equals what ``explain`` returns. For
        `perturbation` and `sarfa` of a policy that is evaluated incrementally the first map (``refined`` 0) is what
        gradients predict to first order; its rank correlation with the last is 0.97 (see ``docs/performance.md``).

    Raises:
        SaliencyError: As in ``explain``; or ``budget_ms`` is negative or no number.
    """
    if not (isinstance(budget_ms, numbers.Real) and budget_ms >= 0):
        raise SaliencyError(f"budget_ms={budget_ms!r}: accepted is a number of milliseconds from 0")
    explanation = Explanation(policy, observation, Request.of({"target": target, **request}))
    while not explanation.done:
        level, until = explanation.level, time.perf_counter() + budget_ms / 1000
        explanation.advance()  # at least a chunk, however small the budget
        predicted = explanation.forwards == 0
        while not (predicted or explanation.done) and explanation.level == level and time.perf_counter() < until:
            explanation.advance()
        maps = explanation.maps()
        yield maps[0] if explanation.single else maps
