"""What the network sees: the pictures that the observation is a stack of, or the frames that a policy remembers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentwrap_protocol.messages import SaliencyMap
from agentwrap_viewer.page.pictures import Picture, network_input, observation_of, picture_of
from agentwrap_viewer.page.view import News, View

from .element import Element

#: Pixels of the larger side of a remembered frame at most, for there are several.
SIDE = 96

#: Targets whose scores are drawn.
TARGETS = ("actor", "critic")


class InputsElement(Element):
    """Draws the observation's newest pictures in a row, oldest first, and how much each matters where that is known."""

    _module = "inputs"


class Inputs:
    """Source of the network's input for one tab."""

    name = "inputs"

    def __init__(self) -> None:
        self._news = News()

    def update(self, view: View) -> dict[str, Any] | None:
        """Return ``planes``, uint8 (k, H, W) or (k, H, W, 3), the observation's ``shape``, and the ``past``.

        ``planes`` is None for a vector. ``past`` has ``kind``, ``weights`` by target as shares of the largest, -1 for
        frames without, and ``problem``; it is None where no map says anything of that.
        """
        if not self._news.of(view, view.step, view.saliency_map):
            return None
        step, found = view.step, view.saliency_map
        observation = observation_of(step) if step is not None else None
        if step is None or observation is None:
            return {"planes": None, "shape": None, "past": None}
        shape = list(observation[1].shape)
        if found is not None and found.past == "steps":
            frames = _frames(view, found)
            planes = None if frames is None else view.packet.array(frames, (found.source, found.step, "past"))
            return {"planes": planes, "shape": shape, "past": _past(found)}
        stack = network_input(step, view.hello.observation_space if view.hello else None)
        planes = None if stack is None else view.packet.array(stack, (step.stream, step.step, "input"))
        past = None if found is None or stack is None or found.step != step.step else _past(found, len(stack))
        return {"planes": planes, "shape": shape, "past": past}


def _past(message: SaliencyMap, count: int | None = None) -> dict[str, Any] | None:
    """Return what a map says of the frames before, or of the newest ``count``."""
    if message.past is None:
        return None
    weights = {}
    for target in TARGETS:
        scores = message.arrays.get(f"past/{target}")
        if scores is not None and scores.ndim == 1 and scores.size:
            known = np.nan_to_num(np.asarray(scores, np.float64), posinf=0.0, neginf=0.0).clip(min=0)
            shares = known / max(float(known.max()), 1e-300)
            weights[target] = shares[-count if count else 0 :].tolist()
    return {"kind": message.past, "weights": weights, "problem": message.past_problem}


def _frames(view: View, message: SaliencyMap) -> NDArray[np.uint8] | None:
    """Return small pictures of the steps that a map looks back on, oldest first; None where there are none."""
    count = max((array.size for name, array in message.arrays.items() if name.startswith("past/")), default=1)
    space = view.hello.observation_space if view.hello else None
    pictures: list[Picture] = []
    for number in range(message.step - count + 1, message.step + 1):
        position = view.store.steps.position_of(number)
        step = None if position is None else view.store.steps.at(position)
        picture = None if step is None else picture_of(step, space)
        if picture is None and not pictures:
            return None
        small = _small(picture) if picture is not None else np.zeros_like(pictures[-1])
        pictures.append(small if not pictures or small.shape == pictures[0].shape else np.zeros_like(pictures[0]))
    return np.stack(pictures)


def _small(picture: Picture) -> Picture:
    stride = -(-max(picture.shape[:2]) // SIDE)
    return picture[::stride, ::stride]
