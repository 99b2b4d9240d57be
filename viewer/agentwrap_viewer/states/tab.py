"""What one tab has been sent of the map, and what it is to be sent next."""

from __future__ import annotations

from typing import Any

import numpy as np

from agentwrap_viewer.page.packet import EncodedCache, Packet

from .atlas import Atlas
from .errors import StatesError
from .wire import Like, Select, spread

#: Points in one message at most, and messages sent and not yet taken in.
POINTS, IN_FLIGHT = 8192, 2

#: Steps of a selection whose frames make the mean frame, at most.
SAMPLE = 64


class StateTab:
    """One tab's state.

    Attributes:
        in_flight: Messages with points that it was sent and has not taken in.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self._generation = -1
        self._state: dict[str, Any] | None = None
        self._placed = self._changed = np.empty(0, np.int64)

    def news(self, atlas: Atlas | None, state: dict[str, Any]) -> bytes | None:
        """Return the message that brings the tab further up to date, or None where it is."""
        sections: dict[str, Any] = {}
        packet = _packet()
        if state != self._state:
            self._state = sections["map"] = state
        if atlas is not None and self.in_flight < IN_FLIGHT and (points := self._points(atlas, packet)) is not None:
            sections["points"] = points
            self.in_flight += 1
        return packet.finish({"sections": sections}) if sections else None

    def _points(self, atlas: Atlas, packet: Packet) -> dict[str, Any] | None:
        fresh = self._generation != atlas.generation
        if fresh:
            self._generation = atlas.generation
            self._placed, self._changed = np.zeros_like(atlas.placed), np.zeros_like(atlas.changed)
        count = len(atlas) if atlas.layout is not None else 0
        changed = np.flatnonzero(self._changed[:count] != atlas.changed[:count])[:POINTS]
        placed = np.flatnonzero(self._placed[:count] != atlas.placed[:count])
        placed = np.union1d(placed[:POINTS], changed)  # a point is never known without its place
        if not len(placed) and not fresh:
            return None
        self._changed[changed], self._placed[placed] = atlas.changed[changed], atlas.placed[placed]
        return {
            "generation": atlas.generation,
            "capacity": atlas.memory.capacity,
            "slots": packet.array(placed.astype(np.uint32)),
            "xy": packet.array(atlas.xy[placed]),
            "changed": packet.array(changed.astype(np.uint32)),
            "step": packet.array(atlas.memory.step[changed].astype(np.float64)),
            "rows": packet.array(atlas.memory.rows[changed]),
        }


def selection(atlas: Atlas, request: Select) -> bytes:
    """Return what is known of the steps within a polygon: how many, which, and their numbers in short."""
    slots, packet = atlas.inside(np.array(request.polygon, np.float64)), _packet()
    rows = atlas.memory.rows[slots]
    categories, numbers = {}, {}
    for index, column in enumerate(atlas.columns):
        known = rows[:, index][np.isfinite(rows[:, index])]
        if column.kind == "category":
            inside = known[(known >= 0) & (known < len(column.labels))].astype(np.int64)
            categories[column.name] = np.bincount(inside, minlength=len(column.labels)).tolist()
        elif len(known):
            numbers[column.name] = [float(value) for value in np.percentile(known, (10, 50, 90))]
    steps = atlas.memory.step[slots].tolist()
    section = {
        "count": len(slots),
        "slots": packet.array(slots.astype(np.uint32)),
        "episodes": len(np.unique(atlas.episode[slots])),
        "sample": spread(steps, SAMPLE),
        "categories": categories,
        "numbers": numbers,
    }
    return packet.finish({"sections": {"selection": section}})


def alike(atlas: Atlas, request: Like) -> bytes:
    """Return the steps whose latents are nearest to a step's, or why there are none."""
    try:
        found, problem = atlas.neighbours(request.step), None
    except StatesError as error:
        found, problem = [], str(error)
    section = {"step": request.step, "found": [list(each) for each in found], "problem": problem}
    return _packet().finish({"sections": {"like": section}})


def _packet() -> Packet:
    return Packet(EncodedCache(0), deflate=False)  # mostly it stays on this machine
