"""The switch between the agent's view and the map of its inner states."""

from __future__ import annotations

from .element import Element


class ViewsElement(Element):
    """Two buttons in the header. Which view is shown is the browser's business: the address says so."""

    _module = "views"
    _stylesheets = [":host { display: block; flex: none; margin: 0 0 0 16px; }"]
