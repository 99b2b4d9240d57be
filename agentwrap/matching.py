"""Tells the calls in which a policy acts from those in which it learns, and what it saw from what the env returned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from agentwrap_export.inputs import CallInput

from .arrays import Array, to_array

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


def inputs_to_send(
    inputs: list[CallInput], observation: Mapping[str, Array], *, batched: bool, changed: bool = False
) -> dict[str, Array]:
    """Return what a policy was called with beside the observation as it was: recurrent state, preprocessed input.

    Args:
        inputs: Tensors of the call.
        observation: The environment's observation, by array name.
        batched: Whether the call's observation had a batch axis, which is then left out. State is sent as it is.
        changed: The policy changed its observation in place, so that there is nothing to compare; it is taken for the
            environment's.

    Returns:
        Arrays ``input/<name>``.
    """
    arrays = {}
    for given in inputs:
        tensor = given.tensor.detach()
        if given.role == "observation":
            if changed:
                continue
            tensor = tensor[0] if batched else tensor
            if given.array in observation and _same(tensor, observation[given.array]):
                continue
        array = to_array(tensor)
        if array is not None:
            arrays[f"input/{given.name}"] = array
    return arrays


def _same(tensor: torch.Tensor, seen: Array) -> bool:
    """Whether a tensor holds what was seen, but for its element type; NaN equals NaN."""
    import torch

    if tuple(tensor.shape) != seen.shape:
        return False
    tensor, other = tensor.cpu(), torch.from_numpy(seen).to(tensor.dtype)
    if torch.equal(tensor, other):
        return True
    return tensor.is_floating_point() and bool(((tensor == other) | (tensor.isnan() & other.isnan())).all())
