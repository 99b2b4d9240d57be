"""The header: connection, and the figures of the step shown."""

from __future__ import annotations

from typing import Any

from agentwrap_viewer.page.store import value_of
from agentwrap_viewer.page.view import View

from .awaited import WORDS, awaited, gives_value
from .element import Element


class StatusElement(Element):
    """Draws the connection's state, the stream's name and the headline figures."""

    _module = "status"
    _stylesheets = [":host { display: block; flex: 1; min-width: 0; margin: 0; }"]


class Status:
    """Source of the header for one tab."""

    name = "status"

    def update(self, view: View) -> dict[str, Any]:
        """Return the connection's state and the figures; those of a step are None while there is none.

        ``awaited`` is what stands between the agent and its first map (see ``awaited.py``), ``awaiting`` that in words.
        """
        store, step = view.store, view.step
        heartbeat, stage = store.heartbeat, awaited(store)
        return {
            "connection": store.connection,
            "silent": round(store.silent_for, 1),
            "stream": store.title,
            "environment": step.environment if step else 0,
            "environments": store.hello.environments if store.hello else 1,
            "env": store.hello.env_id if store.hello else None,
            "rate": heartbeat.steps_per_second if heartbeat and store.connection == "connected" else None,
            "dropped": store.dropped,
            "awaited": stage,
            "awaiting": WORDS[stage] if stage else "",
            "gives_value": gives_value(store),
            "step": step.step if step else None,
            "time": step.time if step else None,
            "episode": step.episode if step else None,
            "return": step.episode_return if step else None,
            "value": value_of(step) if step else None,
        }
