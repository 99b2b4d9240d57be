"""The vectors of an observation: each feature's value, and how much actor and critic depend on it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import param

from agentwrap_viewer.page.vectors import described, score_or_none
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

        A score is None where the map has none of this entry.

        ``layers`` has the targets with their titles, ``methods`` what computed the scores.
        """
        if not self._news.of(view, view.step, view.saliency_map):
            return None
        found = None if view.step is None else described(view.step, view.hello, view.saliency_map)
        if found is None:
            return {"rows": [], "layers": [], "methods": []}
        rows = [
            {
                "name": found.names[index],
                "value": float(found.values[index]),
                "scores": {target: score_or_none(score[index]) for target, score in found.scores.items()},
            }
            for index in range(min(found.values.size, ROWS))
        ]
        return {
            "rows": rows,
            "layers": [{"target": target, "title": title} for target, title in found.titles.items()],
            "methods": _titles(view, found.methods),
            "signed": found.signed,
            "hidden": max(0, found.values.size - ROWS),
        }


def _titles(view: View, names: Iterable[str]) -> list[str]:
    explainer = view.store.explainer
    titles = {method.name: method.title for method in (explainer.methods if explainer else ())}
    return [titles.get(name, name) for name in names]
