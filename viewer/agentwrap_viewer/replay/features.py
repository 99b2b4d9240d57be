"""The vectors of a part of a recording for the page that plays it: each feature's value, and its scores as bars.

Scores are shares of the largest of their map, in eight bits: a bar of a hundred pixels is drawn as it was.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentwrap_protocol.messages import Hello, SaliencyMap, Step
from agentwrap_viewer.page.components.features import ROWS
from agentwrap_viewer.page.vectors import Vectors, described
from agentwrap_viewer.recording import Recording, RecordingError

#: Stands for a score that there is not.
NONE = -128


def features_of(steps: Sequence[Step], hello: Hello | None, maps: Recording | None) -> dict[str, Any] | None:
    """Return what the page draws of these steps' vectors; None where there are none.

    Args:
        steps: The steps.
        hello: What is known of the environment.
        maps: Maps of them, or None; steps without one have values alone.

    Returns:
        ``names`` of the first ``ROWS`` values, how many more are ``hidden``, ``values`` for each step. Where there are
        scores: ``layers``, ``signed``, ``method``, for each step its place among the scores or None (``places``), and
        ``data``: int8 (maps, layers, rows), 127 for a map's largest and ``NONE`` where an entry has no score, deflated.

    Raises:
        RecordingError: The maps differ in their targets, methods or scale.
    """
    explained = {} if maps is None else maps.explained
    found = [_map_of(step, maps, explained) for step in steps]
    vectors = [described(step, hello, message) for step, message in zip(steps, found, strict=True)]
    first = next((each for each in vectors if each is not None), None)
    if first is None:
        return None
    alike = [each if each is not None and each.names == first.names else None for each in vectors]
    made: dict[str, Any] = {
        "names": first.names[:ROWS],
        "hidden": max(0, len(first.names) - ROWS),
        "values": [None if each is None else [_rounded(value) for value in each.values[:ROWS]] for each in alike],
    }
    if (place := next((k for k, each in enumerate(alike) if each is not None and each.scores), None)) is None:
        return made
    assert maps is not None and (pattern := alike[place]) is not None and (message := found[place]) is not None
    places, scores = _packed(steps, alike, pattern, maps)
    return made | {
        "layers": [{"target": target, "title": title} for target, title in pattern.titles.items()],
        "signed": pattern.signed,
        "method": " and ".join(with_options(message, method) for method in pattern.methods),
        "places": places,
        "data": base64.b64encode(zlib.compress(scores.tobytes(), 9)).decode(),
    }


def _map_of(step: Step, maps: Recording | None, explained: dict[int, int]) -> SaliencyMap | None:
    return None if maps is None or step.step not in explained else maps.saliency_map(explained[step.step])


def _packed(
    steps: Sequence[Step], vectors: Sequence[Vectors | None], pattern: Vectors, maps: Recording
) -> tuple[list[int | None], NDArray[np.int8]]:
    """Each step's place among the scores, and these, int8 (maps, targets, rows)."""
    places: list[int | None] = []
    packed: list[NDArray[np.int8]] = []
    for step, each in zip(steps, vectors, strict=True):
        if each is None or not each.scores:
            places.append(None)
            continue
        if (each.titles.keys(), each.signed, each.methods) != (pattern.titles.keys(), pattern.signed, pattern.methods):
            raise RecordingError(f"{maps.path}: the map of step {step.step} is of another kind than those before")
        places.append(len(packed))
        scores = np.stack([score[:ROWS] for score in each.scores.values()])
        packed.append(np.where(np.isnan(scores), NONE, np.rint(127 * np.nan_to_num(scores))).astype(np.int8))
    return places, np.stack(packed)


def with_options(message: SaliencyMap, method: str) -> str:
    """Return a method of a map and, where it is the one that was chosen, its options."""
    options = message.options if method == message.method else {}
    return ", ".join([method, *(f"{option} {value}" for option, value in options.items())])


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
