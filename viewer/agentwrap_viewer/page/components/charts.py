"""Value, reward and return over the last steps."""

from __future__ import annotations

from typing import Any

import param

from agentwrap_viewer.page.view import View

from .element import Element


class ChartElement(Element):
    """Draws one scalar over the last steps, up to the step shown.

    Attributes:
        field: Which of the series' fields.
        heading: Title of the chart.
        caption: What it shows, in a few words; for value and reward, which steps is added to it.
        style: ``line``, or ``stems`` for what is zero most of the time.
        window: Steps shown.
    """

    field = param.Selector(default="value", objects=["value", "reward", "return"])
    heading = param.String()
    caption = param.String()
    style = param.Selector(default="line", objects=["line", "stems"])
    window = param.Integer(default=500, bounds=(10, None))

    _module = "chart"


class Series:
    """Source of all charts of one tab: sends only what came since the last message."""

    name = "series"

    def __init__(self) -> None:
        self._sent = 0

    def update(self, view: View) -> dict[str, Any] | None:
        """Return ``rows`` float64 (k, 5) that belong at position ``start``; ``reset`` where older ones are void."""
        series = view.store.series
        if view.fresh:
            self._sent = 0
        if self._sent == series.count and not view.fresh:
            return None
        start, rows = series.since(self._sent)
        self._sent = series.count
        return {
            "reset": view.fresh,
            "start": start,
            "rows": view.packet.array(rows),
            "fields": list(series.FIELDS),
            "length": series.length,
        }
