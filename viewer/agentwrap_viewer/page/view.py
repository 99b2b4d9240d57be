"""What one tab sees at one moment: the input of every component's ``update``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from agentwrap_protocol.messages import Hello, SaliencyMap, Step

from .cursor import Cursor
from .packet import Packet
from .store import Store


@dataclass(frozen=True)
class View:
    """A moment of one tab.

    Attributes:
        store: Everything received.
        cursor: Where the tab is.
        packet: The message under construction; arrays are added to it.
        step: The step shown, or None.
        saliency_map: The map shown with it, or None.
        fresh: The tab knows nothing yet of this stream, so everything has to be sent.
    """

    store: Store
    cursor: Cursor
    packet: Packet
    step: Step | None
    saliency_map: SaliencyMap | None
    fresh: bool

    @classmethod
    def of(cls, store: Store, cursor: Cursor, packet: Packet, *, fresh: bool) -> View:
        """Look at the store from where the cursor is."""
        step = cursor.step()
        return cls(store, cursor, packet, step, cursor.saliency_map(step) if step is not None else None, fresh)

    @property
    def hello(self) -> Hello | None:
        """Who streams, or None where that is not known yet."""
        return self.store.hello


class News:
    """Tells whether what a part draws is another than when it was last asked."""

    def __init__(self) -> None:
        self._last: tuple[object, ...] | None = None

    def of(self, view: View, *what: object) -> bool:
        """Whether one of ``what`` is another object than last time, or the tab knows nothing yet."""
        last, self._last = self._last, what
        return view.fresh or last is None or any(old is not new for old, new in zip(last, what, strict=True))


class Component(Protocol):
    """One part of the page as one tab needs it.

    ``update`` returns what the part's JavaScript draws, as plain data with arrays as in ``Packet.array``; or None
    where nothing changed since its last call. The JavaScript subscribes to ``name``.
    """

    name: str

    def update(self, view: View) -> dict[str, Any] | None:
        """Return what changed."""
