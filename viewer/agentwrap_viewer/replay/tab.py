"""One tab over a recording."""

from __future__ import annotations

from typing import Any

from agentwrap_viewer.page.components import all_components
from agentwrap_viewer.page.components.timeline import Marked, Playback, Timeline
from agentwrap_viewer.page.frames import Bookmark, Command, ExplainWith, Jump, Repeat, Resume, Tab
from agentwrap_viewer.page.packet import EncodedCache
from agentwrap_viewer.page.receiver import Receiver
from agentwrap_viewer.page.ring import Series
from agentwrap_viewer.page.view import Component, View

from .columns import series
from .cursor import ReplayCursor
from .store import RecordedStore

#: Steps whose scalars a tab has at a time: three such parts, the step shown in the middle one.
PART = 2048


class RecordedSeries:
    """Source of all charts of one tab: the scalars around the step shown."""

    name = "series"

    def __init__(self, store: RecordedStore) -> None:
        self._store = store
        self._sent: tuple[int, int] | None = None

    def update(self, view: View) -> dict[str, Any] | None:
        """Return ``rows`` float64 (k, 5) that belong at position ``start``, and make all others void."""
        part = view.cursor.position // PART
        begin, end = max(part - 1, 0) * PART, min((part + 2) * PART, len(self._store.steps))
        if self._sent == (begin, end) and not view.fresh:
            return None
        self._sent = begin, end
        return {
            "reset": True,
            "start": begin,
            "rows": view.packet.array(series(self._store.recording, begin, end)),
            "fields": list(Series.FIELDS),
            "length": 3 * PART,
        }


class ReplayTab(Tab):
    """One tab's state: its own place in the recording, and what it has been sent.

    Args:
        receiver: Its store is a recording; asked for maps of the steps shown.
        cache: Encoded arrays, shared by all tabs.
    """

    patience = 0.0

    def __init__(self, receiver: Receiver, cache: EncodedCache) -> None:
        store = receiver.store
        assert isinstance(store, RecordedStore)
        self._recorded, self._place = store, ReplayCursor(store)
        super().__init__(receiver, cache, cursor=self._place, components=self._parts())

    def _parts(self) -> list[Component]:
        own: list[Component] = [
            RecordedSeries(self._recorded),
            Playback(lambda: self._recorded.columns, self._recorded.stream),
            Timeline(lambda: self._recorded.columns),
            Marked(self._recorded.marks, lambda step: self._recorded.columns.position_of(step)),
        ]
        replaced = {part.name for part in own}
        return [part for part in all_components() if part.name not in replaced] + own

    def wants_map(self, view: View) -> bool:
        """Whether the step shown has no complete map of the method chosen, be it paused or playing."""
        if view.step is None or self._recorded.without_maps is not None:
            return False
        known = self._recorded.map_of(view.step.step, self._place.version)
        return known is None or known.refined < 1

    def ask(self, view: View) -> None:
        """Ask for a map of the step shown, by the version of the policy that was chosen."""
        if view.step is not None and self.wants_map(view):
            self._receiver.explain(view.step, version=self._place.version)

    def obey(self, command: Command) -> None:
        """Do what the tab asks for.

        Raises:
            ValueError: It cannot be done; the text says why.
        """
        columns = self._recorded.columns
        match command:
            case Jump(step=int(step)):
                self._place.go(columns.position_of(step))
            case Jump(episode=int(episode)):
                self._place.go(columns.start_of(episode))
            case Repeat(first=int(first), last=int(last)):
                self._place.repeat(first, last)
            case Repeat():
                self._place.repeat_not()
            case Resume(stream=stream):
                if stream != self._recorded.stream:
                    raise ValueError(f"the place was in another recording, {stream}")
                self._resume(command)
            case ExplainWith(version):
                self._place.choose_version(version)
            case Bookmark(step=step, note=str(note)):
                self._recorded.marks.bookmark(step, note)
                self._recorded.notify()
            case Bookmark(step=step):
                self._recorded.marks.remove_bookmark(step)
                self._recorded.notify()
            case _:
                super().obey(command)

    def _resume(self, place: Resume) -> None:
        """Take a place in this recording; what of it there cannot be is left as it is at the beginning."""
        self._place.go(self._recorded.columns.position_of(place.step))
        if place.loop is not None:
            self._place.repeat(*place.loop)
        self._place.set_speed(place.speed)
        if place.playing:
            self._place.play()
