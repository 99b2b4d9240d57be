"""What is marked on a timeline: places worth looking at, by whoever found or set them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

#: Marks of one source at most; of more, as many are kept, evenly spread.
MOST = 1000

#: Characters of a mark's text that are shown.
LONGEST_TEXT = 500


@dataclass(frozen=True, order=True)
class Mark:
    """A place on the timeline.

    Attributes:
        step: Number of the step.
        kind: What is marked: ``bookmark``, ``terminated``, …; ``components/marks.js`` knows how each kind looks, and
            draws those that it does not know as plain dots.
        text: What is to be said of it, a line or two.
    """

    step: int
    kind: str
    text: str = ""


class Marks:
    """Everything that is marked, in the order of steps; each source renews its own marks as a whole.

    Attributes:
        version: Grows with each change.
        problem: Why some are not as the user wants them, or None.
    """

    def __init__(self) -> None:
        self.version = 0
        self.problem: str | None = None
        self._by_source: dict[str, tuple[Mark, ...]] = {}

    def put(self, source: str, marks: Iterable[Mark]) -> None:
        """Replace what a source has marked before. The store's listeners are told by who calls (``store.notify()``)."""
        found = sorted(marks)
        if len(found) > MOST:
            found = [found[index * len(found) // MOST] for index in range(MOST)]
        self._by_source[source] = tuple(found)
        self.version += 1

    def of(self, source: str) -> tuple[Mark, ...]:
        """Return what a source has marked, in the order of steps."""
        return self._by_source.get(source, ())

    @property
    def all(self) -> list[Mark]:
        """All marks, in the order of steps."""
        return sorted(mark for marks in self._by_source.values() for mark in marks)
