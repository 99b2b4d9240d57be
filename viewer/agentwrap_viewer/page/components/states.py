"""The map of inner states, and what is known of the steps chosen on it; their data come over ``/states``."""

from __future__ import annotations

from .element import Element


class StatesElement(Element):
    """Draws the map: pan, zoom, lasso, colours; see ``page/states.py`` for where its points come from."""

    _module = "states"


class SelectionElement(Element):
    """Draws the mean frame, actions and map of the steps chosen with the lasso."""

    _module = "selection"


class AlikeElement(Element):
    """Draws the frames whose inner states are most like that of the step shown."""

    _module = "alike"
