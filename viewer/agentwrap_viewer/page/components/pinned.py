"""The pinned step: a small map by each version of the policy, in a row."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import numpy as np

from agentwrap_protocol.messages import SaliencyMap, Step
from agentwrap_viewer.page.pin import Pin
from agentwrap_viewer.page.store import Store, value_of
from agentwrap_viewer.page.vectors import feature_names, methods_of, score_or_none, scores_of, vectors_of
from agentwrap_viewer.page.view import View

from .element import Element
from .policy import describe
from .stage import frame_of, heat_of

#: Actions, and features of a vector, that are described for each version.
MOST = 18


class PinnedElement(Element):
    """Draws the row, and one of its maps large where somebody chooses it."""

    _module = "pinned"


class Pinned:
    """Source of the pinned step's maps for one tab; a map is sent once, and again where it has changed."""

    name = "pinned"

    def __init__(self) -> None:
        self._pin: Pin | None = None
        self._changes = -1
        self._sent: dict[int, SaliencyMap] = {}
        self._told: dict[str, Any] | None = None

    def update(self, view: View) -> dict[str, Any] | None:
        """Return what is new: ``pin``, its ``frame``, ``versions`` oldest first, and ``map/<version>`` of each.

        ``pin`` is None where none is pinned; ``possible`` says whether one can be.
        """
        pin, source = view.store.pin, dict[str, Any]()
        if view.fresh or pin is not self._pin:
            source |= {f"map/{version}": None for version in self._sent}
            source |= {"versions": [], "frame": self._frame(view, pin)}
            self._pin, self._changes, self._sent = pin, -1, {}
        told = {"possible": _possible(view.store), "pin": None if pin is None else _about(pin, view.store)}
        if view.fresh or told != self._told:
            self._told = told
            source |= told
        if pin is not None and pin.changes != self._changes:
            self._changes = pin.changes
            source |= self._news(view, pin)
        return source or None

    def _frame(self, view: View, pin: Pin | None) -> dict[str, Any] | None:
        return None if pin is None else frame_of(dataclasses.replace(view, step=pin.step))

    def _news(self, view: View, pin: Pin) -> dict[str, Any]:
        maps = pin.maps
        source: dict[str, Any] = {f"map/{version}": None for version in self._sent if version not in maps}
        source["versions"] = list(maps)
        for version, message in maps.items():
            if self._sent.get(version) is not message:
                source[f"map/{version}"] = _entry(view, pin.step, message)
        self._sent = maps
        return source


def _possible(store: Store) -> bool:
    return store.explainer_alive is not None and store.without_maps is None


def _about(pin: Pin, store: Store) -> dict[str, Any]:
    probed = store.hello is not None and store.hello.policy.probe is not None
    newest = store.newest
    return {
        "step": pin.step.step,
        "episode": pin.step.episode,
        "version": pin.step.policy_version,
        "recorded": store.connection == "recorded",
        "awaited": len(pin.versions or ()),
        "probed": probed,
        "now": int(newest.time) if newest is not None and store.connection != "recorded" else None,
    }


def _entry(view: View, step: Step, message: SaliencyMap) -> dict[str, Any]:
    """Describe a map, and what its version of the policy computes for the step."""
    outputs = {name: array for name, array in message.arrays.items() if name.startswith("output/")}
    arrays = {name: array for name, array in step.arrays.items() if not name.startswith("output/")}
    acting = msgspec.structs.replace(step, arrays={**arrays, **outputs})
    described = describe(acting, view.hello) if view.hello is not None else {"kind": "none", "rows": []}
    value = value_of(acting) if "output/value" in outputs else float("nan")
    heat = heat_of(dataclasses.replace(view, step=step, saliency_map=message))
    drawn = [heat[0]["method"]] if heat else methods_of(message)  # of several entries one is drawn, by its own method
    return {
        "version": message.policy_version,
        "name": view.store.name_of_version(message.policy_version),
        "began": view.store.version_began(message.policy_version),
        "refined": message.refined,
        "method": " and ".join(drawn) or message.method,
        "heat": heat,
        **_features(view, step, message),
        "kind": described["kind"],
        "rows": described["rows"][:MOST],
        "best": _best(described),
        "value": value if np.isfinite(value) else None,
    }


def _features(view: View, step: Step, message: SaliencyMap) -> dict[str, Any]:
    """Return ``features``: name and scores by target, -1…1, of a vector's elements; of several vectors of all of them.

    ``layers`` has the targets with their titles, ``signed`` says whether the scores have signs.
    """
    vectors = vectors_of(step)
    scores, signed = scores_of(message, {name.partition("/")[2]: vector.size for name, vector in vectors.items()})
    names = feature_names(view.hello, vectors) if scores else []
    features = [
        {"name": name, "scores": {target: score_or_none(score[index]) for target, score in scores.items()}}
        for index, name in enumerate(names[:MOST])
    ]
    layers = [{"target": target, "title": message.title_of(target)} for target in scores]
    return {"features": features, "layers": layers, "signed": signed}


def _best(described: dict[str, Any]) -> dict[str, Any] | None:
    """Return the row of the action that the version prefers; None where it is not one choice among several."""
    rows = [row for row in described["rows"] if row.get("value") is not None and np.isfinite(row["value"])]
    if described["kind"] not in ("probabilities", "q_values") or any("group" in row or "switch" in row for row in rows):
        return None
    return max(rows, key=lambda row: float(row["value"]), default=None)
