"""What the network sees: the pictures that the observation is a stack of."""

from __future__ import annotations

from typing import Any

from agentwrap_viewer.page.pictures import network_input, observation_of
from agentwrap_viewer.page.view import News, View

from .element import Element


class InputsElement(Element):
    """Draws the observation's newest pictures in a row, oldest first."""

    _module = "inputs"


class Inputs:
    """Source of the network's input for one tab."""

    name = "inputs"

    def __init__(self) -> None:
        self._news = News()

    def update(self, view: View) -> dict[str, Any] | None:
        """Return ``planes``, uint8 (k, H, W[, 3]), and the observation's ``shape``; planes of None for a vector."""
        if not self._news.of(view, view.step):
            return None
        step = view.step
        observation = observation_of(step) if step is not None else None
        if step is None or observation is None:
            return {"planes": None, "shape": None}
        planes = network_input(step, view.hello.observation_space if view.hello else None)
        key = (step.stream, step.step, "input")
        return {
            "planes": None if planes is None else view.packet.array(planes, key),
            "shape": list(observation[1].shape),
        }
