"""``explain`` and ``refine``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

from .explanation import Explanation
from .layout import Channels
from .maps import SaliencyMap
from .outputs import Target
from .policies import Observation


@overload
def explain(
    policy: Any,
    observation: Any,
    *,
    method: str | None = None,
    target: Target,
    state: Any = None,
    state_axis: int = 0,
    history: Any = None,
    channels: Channels = "auto",
    chunk: int | None = None,
    **options: Any,
) -> SaliencyMap: ...


@overload
def explain(
    policy: Any,
    observation: Any,
    *,
    method: str | None = None,
    target: Sequence[Target] | None = None,
    state: Any = None,
    state_axis: int = 0,
    history: Any = None,
    channels: Channels = "auto",
    chunk: int | None = None,
    **options: Any,
) -> tuple[SaliencyMap, ...]: ...


def explain(
    policy: Any,
    observation: Observation,
    *,
    method: str | None = None,
    target: Target | Sequence[Target] | None = None,
    state: Any = None,
    state_axis: int = 0,
    history: Mapping[str, Any] | Any = None,
    channels: Channels = "auto",
    chunk: int | None = None,
    **options: Any,
) -> SaliencyMap | tuple[SaliencyMap, ...]:
    """Compute saliency maps of one observation.

    The observation and the policy are not changed. A module in training mode is evaluated in evaluation mode, through a
    copy that shares its weights. Perturbed observations are float32 batches in the observation's own layout and units.

    Args:
        policy: A ``torch.nn.Module`` or another callable, batch → logits, (logits, value) or a dict of outputs named
            ``logits``, ``q_values``, ``mean``, ``value``; or a graph policy such as the viewer's ``Replica``.
        observation: One observation, without batch axis: a vector (n,), an image (H, W), (C, H, W) or (H, W, C), a
            stack of images along the first axis, or a dict of such (each is then explained with the others held).
        method: Name of a method (see ``methods()``); by default ``perturbation`` for images, ``feature_perturbation``
            for vectors.
        target: ``actor``, ``critic``, ``chosen``, or an action's index; several share their forwards. By default the
            method's own, as far as the policy has them.
        state: Recurrent state that enters this step, with a batch axis of one; the policy is then called with
            (observation, state).
        state_axis: Batch axis of the state's tensors.
        history: Earlier observations (k, …), for methods that replace by what was seen before; a dict where the
            observation is one.
        channels: Where the channels of an image are: ``first``, ``last``, ``none``; ``auto`` takes the smaller of the
            first and the last axis, the first where they are equal.
        chunk: Perturbed observations evaluated at a time; by default so many that they stay in the processor's cache.
        options: The method's options.

    Returns:
        A map; or a tuple of maps where several targets or none in particular were asked for or the observation is a
        dict: for each entry in turn, one for each target.

    Raises:
        SaliencyError: What is asked for is not there, or the policy or the observation is not usable. The text says
            why.

    Example:
        >>> import torch
        >>> policy = lambda batch: batch[:, :1, 2, 3]  # looks at one pixel
        >>> saliency = explain(policy, torch.eye(8)[None], target="actor", stride=1, mask_sigma=0.5)
        >>> [int(i) for i in divmod(saliency.grid.argmax(), 8)]
        [2, 3]
    """
    explanation = Explanation(
        policy,
        observation,
        method=method,
        target=target,
        state=state,
        state_axis=state_axis,
        history=history,
        channels=channels,
        chunk=chunk,
        options=options,
    )
    explanation.complete()
    maps = explanation.maps()
    return maps[0] if explanation.single else maps


def refine(
    policy: Any,
    observation: Observation,
    *,
    budget_ms: float = 16.0,
    method: str | None = None,
    target: Target | Sequence[Target] | None = None,
    state: Any = None,
    state_axis: int = 0,
    history: Mapping[str, Any] | Any = None,
    channels: Channels = "auto",
    chunk: int | None = None,
    **options: Any,
) -> Iterator[Any]:
    """Compute saliency maps coarse to fine, and finer first where it matters.

    Args:
        policy: As in ``explain``, like all others that are not described here.
        observation: One observation.
        budget_ms: Yield at least this often, in milliseconds, as far as chunks allow.
        method: Name of a method.
        target: What to explain.
        state: Recurrent state that enters this step.
        state_axis: Batch axis of the state's tensors.
        history: Earlier observations.
        channels: Where the channels of an image are.
        chunk: Perturbed observations evaluated at a time.
        options: The method's options.

    Yields:
        What ``explain`` returns, after each level and each ``budget_ms``; the last equals what ``explain`` returns.

    Raises:
        SaliencyError: As in ``explain``.
    """
    explanation = Explanation(
        policy,
        observation,
        method=method,
        target=target,
        state=state,
        state_axis=state_axis,
        history=history,
        channels=channels,
        chunk=chunk,
        options=options,
    )
    while not explanation.done:
        level, until = explanation.level, time.perf_counter() + budget_ms / 1000
        explanation.advance()  # at least a chunk, however small the budget
        while not explanation.done and explanation.level == level and time.perf_counter() < until:
            explanation.advance()
        maps = explanation.maps()
        yield maps[0] if explanation.single else maps
