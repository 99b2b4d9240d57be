"""Latents of many steps within bounds: the newest, and a fair sample of all before them."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]

#: Points and bytes that are kept at most. Of 512 numbers each, 100,000 points are 98 MiB.
MAX_POINTS, MAX_BYTES = 100_000, 128 * 2**20

#: Latents are scaled so that the largest number of the first ones becomes this: float16 reaches to 65,504.
UNIT = 64.0


class StateMemory:
    """Points by slot. Where all slots are in use a new point takes that of an older one.

    The newer half are the newest points; the other half are a uniform sample of all points before those (algorithm R,
    Vitter 1985), so that a long run is seen from its beginning.

    Args:
        size: Numbers of each latent.
        columns: Scalars kept with each point.
        max_points: Points to keep.
        max_bytes: Bytes of latents to keep.
        seed: Of the sample.

    Attributes:
        capacity: Points that can be kept.
        count: Slots in use: 0 to count - 1.
        step: int64 (capacity,): the steps' numbers.
        rows: float32 (capacity, columns): scalars; NaN where unknown.
    """

    def __init__(
        self,
        size: int,
        columns: int,
        *,
        max_points: int = MAX_POINTS,
        max_bytes: int = MAX_BYTES,
        seed: int = 0,
    ) -> None:
        self.size = size
        self.capacity = max(2, min(max_points, max_bytes // (2 * max(size, 1))))
        self.count = 0
        self.step = np.full(self.capacity, -1, np.int64)
        self.rows = np.full((self.capacity, columns), np.nan, np.float32)
        self._latents = np.empty((self.capacity, size), np.float16)
        self._scale: float | None = None
        self._slots: dict[int, int] = {}
        self._newest: deque[int] = deque()
        self._older: list[int] = []
        self._offered = 0  # points that were offered to the sample of older ones
        self._random = np.random.default_rng(seed)

    def __len__(self) -> int:
        return self.count

    def slot_of(self, step: int) -> int | None:
        """Return the slot of a step by its number, or None where it is not (or no longer) kept."""
        return self._slots.get(step)

    def add(self, step: int, latent: NDArray[np.float32]) -> int:
        """Keep a point; return its slot. Its scalars are to be set in ``rows``."""
        if self._scale is None:
            largest = float(np.abs(latent).max(initial=0.0))
            self._scale = UNIT / largest if largest > 0 else 1.0
        slot = self._free_slot()
        self._slots.pop(int(self.step[slot]), None)
        self._slots[step] = slot
        self.step[slot], self.rows[slot] = step, np.nan
        self._latents[slot] = np.clip(latent * self._scale, -6e4, 6e4)
        self._newest.append(slot)
        return slot

    def latents(self, slots: Indices) -> NDArray[np.float32]:
        """Return latents, float32 (n, size), all scaled by one factor."""
        return self._latents[slots].astype(np.float32)

    def in_order(self) -> Indices:
        """Return the slots in use, by the numbers of their steps."""
        return np.argsort(self.step[: self.count], kind="stable")

    def _free_slot(self) -> int:
        if len(self._newest) >= self.capacity // 2:
            freed = self._retire(self._newest.popleft())
            if freed is not None:
                return freed
        self.count += 1
        return self.count - 1

    def _retire(self, slot: int) -> int | None:
        """Offer a point that is no longer among the newest to the sample; return the slot that this frees."""
        self._offered += 1
        room = self.capacity - self.capacity // 2
        if len(self._older) < room:
            self._older.append(slot)
            return None
        place = int(self._random.integers(self._offered))
        if place >= room:
            return slot
        freed, self._older[place] = self._older[place], slot
        return freed
