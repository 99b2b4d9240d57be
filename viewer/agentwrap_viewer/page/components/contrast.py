"""Two policies on the same step: what each computes and would do."""

from __future__ import annotations

from panel.viewable import Child

from .element import Element


class ContrastElement(Element):
    """Draws both policies' outputs, one above the other for each action, from the section ``contrast``."""

    _module = "contrast"


class AgreementElement(Element):
    """Draws what each would do and how far apart they are, here and on all steps, from the section ``contrast``."""

    _module = "agreement"


class CompareDeckElement(Element):
    """Holds the parts of the page that compares: see ``compare_deck.js``."""

    notices = Child()
    left = Child()
    difference = Child()
    right = Child()
    features_left = Child()
    features_difference = Child()
    features_right = Child()
    contrast = Child()
    agreement = Child()
    transport = Child()

    _module = "compare_deck"
