"""The vectors of an observation: each feature's value, and how much actor and critic depend on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import param
from numpy.typing import NDArray

from agentwrap_protocol.messages import Hello, SaliencyMap, Step
from agentwrap_protocol.spaces import Box
from agentwrap_viewer.page.pictures import is_vector, leaves_of
from agentwrap_viewer.page.view import News, View

from .element import Element

#: Rows drawn at most.
ROWS = 64


class FeaturesElement(Element):
    """Draws a row for each feature, with a bar for each target.

    Attributes:
        source: Section of the message to the tab that is drawn.
        heading: The card's title.
    """

    source = param.String(default="features")
    heading = param.String(default="Observation")

    _module = "features"


class Features:
    """Source of the features' bars for one tab."""

    name = "features"

    def __init__(self) -> None:
        self._news = News()

    def update(self, view: View) -> dict[str, Any] | None:
        """Return ``rows`` with ``name``, ``value`` and ``scores`` by target, -1…1; no rows where all are pictures.

        ``layers`` has the targets with their titles, ``methods`` what computed the scores.
        """
        if not self._news.of(view, view.step, view.saliency_map):
            return None
        vectors = {} if view.step is None else vectors_of(view.step)
        if not vectors:
            return {"rows": [], "layers": [], "methods": []}
        values = np.concatenate(list(vectors.values()))
        sizes = {name.partition("/")[2]: vector.size for name, vector in vectors.items()}
        scores, signed = scores_of(view.saliency_map, sizes)
        names = feature_names(view.hello, vectors)
        rows = [
            {
                "name": names[index],
                "value": float(values[index]),
                "scores": {target: float(score[index]) for target, score in scores.items()},
            }
            for index in range(min(values.size, ROWS))
        ]
        found, methods = view.saliency_map, _methods(view)
        layers = [{"target": target, "title": found.title_of(target)} for target in scores] if found else []
        return {
            "rows": rows,
            "layers": layers,
            "methods": methods if layers else [],
            "signed": signed,
            "hidden": max(0, values.size - ROWS),
        }


def _methods(view: View) -> list[str]:
    """Return the titles of the methods that the scores of vectors were computed by."""
    message, explainer = view.saliency_map, view.store.explainer
    names = (
        dict.fromkeys(message.method_of(name) for name in message.arrays if name[:9] == "features/") if message else {}
    )
    titles = {method.name: method.title for method in (explainer.methods if explainer else ())}
    return [titles.get(name, name) for name in names]


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

    Args:
        message: The map.
        sizes: Length of each vector, by its key in the observation.
    """
    scores: dict[str, NDArray[np.float64]] = {}
    signed = False
    for target in message.targets if message else ():
        assert message is not None
        found = {key: _features(message, target, key, size) for key, size in sizes.items()}
        if any(name is not None for name in found.values()):
            parts = [np.zeros(sizes[key]) if name is None else message.arrays[name] for key, name in found.items()]
            values = np.concatenate([np.asarray(part, np.float64).reshape(-1) for part in parts])
            values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
            scores[target] = values / max(float(np.abs(values).max(initial=0.0)), 1e-300)
            signed = signed or any(name is not None and message.scale_of(name) == "signed" for name in found.values())
    return scores, signed


def _features(message: SaliencyMap, target: str, key: str, size: int) -> str | None:
    """Return the name of a vector's scores; where the policy's inputs bear names of its own, of those of its size."""
    own = f"features/{target}/{key}" if key else f"features/{target}"
    if own in message.arrays:
        return own if message.arrays[own].size == size else None
    others = (n for n, array in message.arrays.items() if n.startswith(f"features/{target}/") and array.size == size)
    return None if key else next(others, None)
