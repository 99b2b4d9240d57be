"""A vector observation: each feature's value, and how much actor and critic depend on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import param
from numpy.typing import NDArray

from agentwrap_protocol.messages import Hello, SaliencyMap, Step
from agentwrap_viewer.page.pictures import observation_of
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
        """Return ``rows`` with ``name``, ``value`` and ``scores`` by target, -1…1; no rows for a picture."""
        if not self._news.of(view, view.step, view.saliency_map):
            return None
        values = None if view.step is None else vector_of(view.step)
        if values is None:
            return {"rows": [], "targets": []}
        scores = _scores(view.saliency_map, values.size)
        names = feature_names(view.hello, values.size)
        rows = [
            {
                "name": names[index],
                "value": float(values[index]),
                "scores": {target: float(score[index]) for target, score in scores.items()},
            }
            for index in range(min(values.size, ROWS))
        ]
        signed = view.saliency_map is not None and view.saliency_map.scale == "signed"
        return {"rows": rows, "targets": list(scores), "signed": signed, "hidden": max(0, values.size - ROWS)}


def vector_of(step: Step) -> NDArray[Any] | None:
    """Return the observation where it is a vector (or a single number), else None."""
    observation = observation_of(step)
    if observation is None or observation[1].ndim > 1 or observation[1].dtype.kind not in "uifb":
        return None
    return observation[1].reshape(-1)


def feature_names(hello: Hello | None, count: int) -> list[str]:
    """Return the features' names, ``x0`` and so on where the env has none."""
    known = (hello.feature_names if hello else None) or ()
    return [known[index] if index < len(known) else f"x{index}" for index in range(count)]


def _scores(message: SaliencyMap | None, count: int) -> dict[str, NDArray[np.float64]]:
    """Return each target's scores as shares of its largest magnitude, -1…1."""
    scores = {}
    for target in message.targets if message else ():
        assert message is not None
        array = next((a for n, a in message.arrays.items() if _is_score(n, target) and a.size == count), None)
        if array is not None:
            values = np.nan_to_num(np.asarray(array, dtype=np.float64).reshape(-1), posinf=0.0, neginf=0.0)
            scores[target] = values / max(float(np.abs(values).max(initial=0.0)), 1e-300)
    return scores


def _is_score(name: str, target: str) -> bool:
    return name == f"features/{target}" or name.startswith(f"features/{target}/")
