"""The list of all agents and their environments, opened from the header."""

from __future__ import annotations

from dataclasses import astuple, fields
from typing import Any

from agentwrap_viewer.page.receiver import Receiver
from agentwrap_viewer.page.roster import Row
from agentwrap_viewer.page.view import View

#: Names of the columns, as they are sent.
COLUMNS = tuple(field.name for field in fields(Row))


class Roster:
    """Source of the list for one tab; the header draws it.

    Args:
        receiver: Knows of all agents.

    Attributes:
        is_open: The tab has the list open. Only then is it sent, and only then are agents heard that are not shown.
    """

    name = "roster"

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._last: tuple[Any, ...] | None = None
        self.is_open = False

    def open(self, is_open: bool) -> None:
        """Open the list, or close it."""
        self.is_open = is_open
        (self._receiver.roster.wanted_by.add if is_open else self._receiver.roster.wanted_by.discard)(self)
        self._receiver.look_around()

    def update(self, view: View) -> dict[str, Any] | None:
        """Return what is shown and how that is chosen, and while the list is open all rows as ``COLUMNS`` has them."""
        roster, step, hello = self._receiver.roster, view.store.newest, view.hello
        shown = step.environment if step is not None else 0
        now = (self.is_open, roster.version if self.is_open else 0, self._receiver.endpoint, shown, roster.rule, hello)
        if now == self._last and not view.fresh:
            return None
        self._last = now
        section: dict[str, Any] = {
            "open": self.is_open,
            "rule": roster.rule,
            "endpoint": self._receiver.endpoint,
            "environment": shown,
            "environments": hello.environments if hello is not None else 1,
            "agents": len(self._receiver.streams),
        }
        if self.is_open:
            section |= {"columns": COLUMNS, "rows": [astuple(row) for row in roster.rows()], "count": roster.count}
        return section
