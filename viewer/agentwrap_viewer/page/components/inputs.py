"""What the network sees: the pictures that the observation is a stack of."""

from __future__ import annotations

from typing import Any

from agentwrap_protocol.messages import Step
from agentwrap_viewer.page.pictures import network_input, observation_of
from agentwrap_viewer.page.view import View

from .element import Element


class InputsElement(Element):
    """Draws the observation's newest pictures in a row, oldest first."""

    _module = "inputs"


class Inputs:
    """Source of the network's input for one tab."""

    name = "inputs"

    def __init__(self) -> None:
        self._shown: Step | None = None

    def update(self, view: View) -> dict[str, Any] | None:
        """Return ``planes``, uint8 (k, H, W[, 3]), and the observation's ``shape``; planes of None for a vector."""
        if view.step is self._shown and not view.fresh:
            return None
        self._shown = view.step
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
