"""Observations, actions and tensors as arrays that can travel: copies, of an element type the protocol knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from agentwrap_export.arrays import tensor_to_array
from agentwrap_protocol.codec import DTYPES

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, Any]

#: Most arrays that one observation or action may consist of; the rest of it is left out.
MOST_PARTS = 256

_TRAVELLING = frozenset(np.dtype(name) for name in DTYPES)


def parts(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a nested observation or action, named ``name``, ``name/<key>`` or ``name/<index>``."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from parts(f"{name}/{key}", item)
    elif isinstance(value, tuple | list) and not _is_numbers(value):
        for index, item in enumerate(value):
            yield from parts(f"{name}/{index}", item)
    else:
        yield name, value


def copied(name: str, value: Any) -> tuple[dict[str, Array], list[str]]:
    """Copy an observation or action into arrays.

    Args:
        name: ``observation`` or ``action``.
        value: Anything that a Gymnasium space holds: a number, an array, or dicts and tuples of such.

    Returns:
        The arrays by name, and the names of the parts that do not travel (text, objects).
    """
    arrays: dict[str, Array] = {}
    left_out: list[str] = []
    for part, item in parts(name, value):
        array = to_array(item)
        if array is None or len(arrays) == MOST_PARTS:
            left_out.append(part)
        else:
            arrays[part] = array
    return arrays, left_out


def to_array(value: Any) -> Array | None:
    """Copy a number, array or tensor into an array of its own; None where its element type does not travel."""
    array = np.array(view(value) if hasattr(value, "detach") else value)
    return array if array.dtype in _TRAVELLING or travels(array) else None


def travels(array: Array) -> bool:
    """Whether an array is of an element type that the protocol knows, in either byte order."""
    return array.dtype in _TRAVELLING or array.dtype.newbyteorder("<").str in DTYPES


def view(tensor: torch.Tensor) -> Array:
    """Return a tensor as an array, which shares its memory wherever it can."""
    if not tensor.requires_grad:
        try:
            return tensor.numpy()  # nearly always, and each further operation would cost as much again
        except (TypeError, RuntimeError):  # elsewhere than in the CPU's memory, or of a type that NumPy lacks
            pass
    return tensor_to_array(tensor)


def shapes(observation: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of an observation's parts, without copying them; of a tuple of numbers those of each number as well."""
    found = {name: np.shape(value) for name, value in parts("observation", observation)}
    if isinstance(observation, tuple) and "observation" in found:  # which a policy may take as one array or as several
        found.update((f"observation/{index}", ()) for index in range(len(observation)))
    return found


def _is_numbers(value: tuple[Any, ...] | list[Any]) -> bool:
    """True for a plain vector such as ``[0.1, 0.2]``, which is one array and not several."""
    return len(value) > 0 and all(isinstance(item, int | float | np.number) for item in value)
