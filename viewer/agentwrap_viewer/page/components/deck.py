"""Where the page's parts are: columns side by side, or below each other on a narrow screen."""

from __future__ import annotations

from panel.viewable import Child

from .element import Element


class DeckElement(Element):
    """Holds the parts by name. Which are shown follows from what the agent streams: see ``deck.js``."""

    notices = Child()
    stage = Child()
    policy = Child()
    value = Child()
    reward = Child()
    inputs = Child()
    features = Child()
    returns = Child()
    episodes = Child()
    explanation = Child()
    pinned = Child()
    transport = Child()
    states = Child()
    selection = Child()
    alike = Child()

    _module = "deck"
