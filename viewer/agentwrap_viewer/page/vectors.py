"""Vectors in observations: what each value is called, and how much of the policy depends on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentwrap_protocol.messages import Hello, SaliencyMap, Step
from agentwrap_protocol.spaces import Box

from .pictures import is_vector, leaves_of


@dataclass(frozen=True)
class Vectors:
    """All vectors of one observation, one after the other, and a map's scores of them.

    Attributes:
        names: Of each value.
        values: float64 (n,).
        scores: Of each target, float64 (n,), as shares of its largest magnitude: -1…1; NaN where none were computed.
        titles: Of the targets, for people.
        signed: Whether the scores' signs count.
        methods: Names of the methods by which they were computed, with nothing twice.
    """

    names: list[str]
    values: NDArray[np.float64]
    scores: dict[str, NDArray[np.float64]]
    titles: dict[str, str]
    signed: bool
    methods: tuple[str, ...]


def described(step: Step, hello: Hello | None, message: SaliencyMap | None) -> Vectors | None:
    """Return the vectors of a step's observation with the scores of its map; None where all of it are pictures."""
    vectors = vectors_of(step)
    if not vectors:
        return None
    sizes = {name.partition("/")[2]: vector.size for name, vector in vectors.items()}
    scores, signed = scores_of(message, sizes)
    return Vectors(
        names=feature_names(hello, vectors),
        values=np.concatenate([np.asarray(vector, np.float64) for vector in vectors.values()]),
        scores=scores,
        titles={target: message.title_of(target) for target in scores} if message else {},
        signed=signed,
        methods=methods_of(message) if message and scores else (),
    )


def methods_of(message: SaliencyMap) -> tuple[str, ...]:
    """Return the names of the methods that a map's scores of vectors were computed by."""
    return tuple(dict.fromkeys(message.method_of(name) for name in message.arrays if name.startswith("features/")))


def vectors_of(step: Step) -> dict[str, NDArray[Any]]:
    """Return by name the observation, or its entries, that are vectors or single numbers, flattened."""
    return {
        name: array.reshape(-1)
        for name, array in step.arrays.items()
        if (name == "observation" or name.startswith("observation/")) and is_vector(array)
    }


def feature_names(hello: Hello | None, vectors: Mapping[str, NDArray[Any]]) -> list[str]:
    """Return a name for each element of the vectors: the env's, else that of the entry and a number."""
    given = (hello.feature_names if hello else None) or ()
    known = {"observation": given} if "observation" in vectors else _names_of_entries(hello, given)
    return [
        known[name][index] if len(known.get(name, ())) == vector.size else _number(name, index, vector.size)
        for name, vector in vectors.items()
        for index in range(vector.size)
    ]


def _names_of_entries(hello: Hello | None, names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Share the env's names out among the entries that they are for (SPEC, ``hello``)."""
    found = {}
    for entry, space in leaves_of(hello.observation_space if hello else None):
        if isinstance(space, Box) and len(space.shape) == 1:
            found[entry], names = names[: space.shape[0]], names[space.shape[0] :]
    return found


def _number(name: str, index: int, size: int) -> str:
    entry = name.partition("/")[2]
    if not entry:
        return f"x{index}"
    return entry if size == 1 else f"{entry} {index}"


def scores_of(message: SaliencyMap | None, sizes: Mapping[str, int]) -> tuple[dict[str, NDArray[np.float64]], bool]:
    """Return each target's scores as shares of its largest magnitude, -1…1, for all vectors, and whether signs count.

    NaN stands where a vector has none: 0 would say that the policy does not depend on it.

    Args:
        message: The map.
        sizes: Length of each vector, by its key in the observation.
    """
    scores: dict[str, NDArray[np.float64]] = {}
    signed = False
    for target in message.targets if message else ():
        assert message is not None
        found = {key: _features(message, target, key, size) for key, size in sizes.items()}
        if any(found.values()):
            values = np.concatenate([_joined(message, names, sizes[key]) for key, names in found.items()])
            scores[target] = values / max(float(np.nanmax(np.abs(values), initial=0.0)), 1e-300)
            signed = signed or any(message.scale_of(name) == "signed" for names in found.values() for name in names)
    return scores, signed


def _joined(message: SaliencyMap, names: tuple[str, ...], size: int) -> NDArray[np.float64]:
    """Return a vector's scores, of several arrays one after the other; NaN where there are none."""
    return np.concatenate([_finite(message.arrays[name]) for name in names]) if names else np.full(size, np.nan)


def _finite(scores: NDArray[Any]) -> NDArray[np.float64]:
    return np.nan_to_num(np.asarray(scores, np.float64).reshape(-1), posinf=0.0, neginf=0.0)


def score_or_none(score: float) -> float | None:
    """Return a score as the page's parts take it: None, which draws no bar, where there is none."""
    return None if np.isnan(score) else float(score)


def _features(message: SaliencyMap, target: str, key: str, size: int) -> tuple[str, ...]:
    """Return the names of a vector's scores: several where each number is an input of its own; none if it has none.

    Where the policy's inputs bear names of their own, those of the vector's size are taken.
    """
    start, sizes = f"features/{target}", {name: array.size for name, array in message.arrays.items()}
    own = f"{start}/{key}" if key else start
    if own in sizes or key:
        return (own,) if sizes.get(own) == size else ()
    numbers = tuple(f"{start}/{index}" for index in range(size))
    if all(sizes.get(name) == 1 for name in numbers):
        return numbers
    return next(((name,) for name in sizes if name.startswith(f"{start}/") and sizes[name] == size), ())
