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


#: Steps whose scalars a tab has while it follows the agent, and in each of the three parts it has of what is older.
NEWEST, PART = 18_000, 2048


class Series:
    """Source of all charts of one tab: what came since the last message, or the scalars around an older step shown."""

    name = "series"

    def __init__(self) -> None:
        self._sent = 0
        self._part: int | None = None  # of the older ones, which the tab has instead of the newest

    def update(self, view: View) -> dict[str, Any] | None:
        """Return ``rows`` float64 (k, 5) that belong at position ``start``; ``reset`` where all others are void."""
        position, count = view.cursor.position, view.store.series.count
        if 0 <= position < count - NEWEST:
            return self._older(view, position // PART)
        reset = view.fresh or self._part is not None
        if reset:
            self._sent, self._part = max(0, count - NEWEST), None
        elif self._sent == count:
            return None
        begin, self._sent = self._sent, count
        return self._section(view, begin, count, reset=reset, length=NEWEST)

    def _older(self, view: View, part: int) -> dict[str, Any] | None:
        if part == self._part and not view.fresh:
            return None
        self._part = part
        return self._section(view, max(part - 1, 0) * PART, (part + 2) * PART, reset=True, length=3 * PART)

    def _section(self, view: View, begin: int, end: int, *, reset: bool, length: int) -> dict[str, Any]:
        series = view.store.series
        start, rows = series.between(begin, end)
        return {
            "reset": reset,
            "start": start,
            "rows": view.packet.array(rows),
            "fields": list(series.FIELDS),
            "length": length,
        }
