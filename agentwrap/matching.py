"""Tells the calls in which a policy acts from those in which it learns, and what it saw from what the env returned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from agentwrap_export.inputs import CallInput

from .arrays import Array, view

if TYPE_CHECKING:
    import torch

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


def single_observation(given: Shapes, expected: Shapes) -> bool | None:
    """Say whether a call was made with a single observation.

    A single observation is one that has as many elements as the environment's, or a batch axis of length 1.
    Minibatches in training have neither.

    Args:
        given: Shapes of the call's observation by array name: ``observation`` or ``observation/<key>``.
        expected: Shapes of the environment's newest observation, named likewise.

    Returns:
        True with a batch axis, False without, None where the call was not made with a single observation.
    """
    answers = {_single(shape, expected.get(name)) for name, shape in given.items()}
    return answers.pop() if len(answers) == 1 else None


def _single(given: Shape, expected: Shape | None) -> bool | None:
    has_one_row = given[:1] == (1,)
    if expected is not None and np.prod(given) == np.prod(expected):
        # the same axes, perhaps in another order: (84, 84, 1) given as (1, 84, 84) has no batch axis
        return has_one_row and sorted(given) != sorted(expected)
    return True if has_one_row and len(given) > 1 else None


def unlike(inputs: Sequence[CallInput], observation: Mapping[str, Array], *, batched: bool) -> list[CallInput]:
    """Return what a policy was called with in the place of the observation, but for what is the observation as it was.

    Args:
        inputs: Tensors of the call.
        observation: The environment's observation, by array name.
        batched: Whether the call's observation had a batch axis.
    """
    return [given for given in inputs if given.role == "observation" and not _was_seen(given, observation, batched)]


def is_as_seen(tensor: torch.Tensor, seen: Array, *, batched: bool) -> bool:
    """Whether a tensor holds what was seen, but for its element type and perhaps a batch axis; NaN equals NaN."""
    array = view(tensor)
    if batched:
        array = array[0]
    if array.shape != seen.shape:
        return False
    if array.dtype == seen.dtype and array.tobytes() == seen.tobytes():  # a sixth of the time of array_equal
        return True
    return _equal_as(tensor.dtype, array, seen)


def same_observation(one: Sequence[CallInput], other: Sequence[CallInput]) -> bool:
    """Whether two calls of a policy were made with equal tensors."""
    import torch

    return len(one) == len(other) and all(
        a.name == b.name and a.tensor.shape == b.tensor.shape and torch.equal(a.tensor, b.tensor)
        for a, b in zip(one, other, strict=True)
    )


def _was_seen(given: CallInput, observation: Mapping[str, Array], batched: bool) -> bool:
    seen = observation.get(given.array)
    return seen is not None and is_as_seen(given.tensor, seen, batched=batched)


def _equal_as(dtype: torch.dtype, array: Array, seen: Array) -> bool:
    """Whether two arrays are equal as tensors of an element type, which NumPy may lack."""
    import torch

    tensor, other = (torch.from_numpy(np.ascontiguousarray(each)).to(dtype) for each in (array, seen))
    return bool(((tensor == other) | (tensor.isnan() & other.isnan())).all())
