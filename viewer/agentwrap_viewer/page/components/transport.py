"""The bar at the bottom: pause, step, speed, live, and where in the ring the view is."""

from __future__ import annotations

from typing import Any

from agentwrap_viewer.page.view import View

from .element import Element


class TransportElement(Element):
    """Draws the bar and listens for the keys: space, arrows, Home, End."""

    _module = "transport"


class Transport:
    """Source of the bar for one tab."""

    name = "transport"

    def update(self, view: View) -> dict[str, Any]:
        """Return mode, step and position, reach of the ring, and the seconds the view is behind the newest step.

        ``kept`` is false where the ring has forgotten the step held, and with it those before it and just after it;
        ``ended`` is true where no newer steps come: then there is nothing to pause, but what is kept can be played.
        """
        cursor, steps = view.cursor, view.store.steps
        newest = view.store.newest
        behind = newest.time - view.step.time if newest is not None and view.step is not None else 0.0
        return {
            "mode": cursor.mode,
            "speed": cursor.speed,
            "speeds": list(cursor.speeds),
            "follow": cursor.follow,
            "step": view.step.step if view.step is not None else None,
            "position": cursor.position,
            "kept": cursor.kept,
            "first": steps.first,
            "last": steps.last,
            "behind": behind,
            "ended": view.store.over,
        }
