"""The record button's source: what is being recorded, or was last."""

from __future__ import annotations

from typing import Any

from agentwrap_viewer.page.receiver import Receiver
from agentwrap_viewer.page.view import View


class Recorder:
    """Source of the record button for one tab; the transport bar draws it.

    Args:
        receiver: Has the keeper that records.
    """

    name = "recorder"

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._last: dict[str, Any] | None = None

    def update(self, view: View) -> dict[str, Any] | None:
        """Return whether there is something to record, and of the recording path, seconds, bytes, how it ended."""
        keeper, store = self._receiver.keeper, view.store
        kept = keeper.kept if keeper is not None else None
        now: dict[str, Any] = {
            "possible": keeper is not None and store.connection == "connected",
            "running": kept is not None and kept.running,
            "path": kept.path if kept is not None else None,
            "seconds": int(kept.seconds) if kept is not None else 0,
            "bytes": kept.bytes if kept is not None else 0,
            "failed": kept is not None and kept.failed,
            "outcome": kept.outcome if kept is not None else "",
        }
        if now == self._last and not view.fresh:
            return None
        self._last = now
        return now
