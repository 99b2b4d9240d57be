"""The episodes so far: their returns and lengths."""

from __future__ import annotations

from typing import Any

import numpy as np

from agentwrap_viewer.page.view import View

from .element import Element

#: Newest episodes drawn; figures are about all that the store keeps.
DRAWN = 200


class EpisodesElement(Element):
    """Draws a bar for each episode's return, with the last, best and mean."""

    _module = "episodes"


class Episodes:
    """Source of the episodes for one tab."""

    name = "episodes"

    def __init__(self) -> None:
        self._version = -1

    def update(self, view: View) -> dict[str, Any] | None:
        """Return ``bars`` float64 (k, 3) of number, return, length, oldest first, and figures about those kept.

        ``count`` is how many have ended, kept or not: they are numbered from 0.
        """
        if view.store.episodes_version == self._version and not view.fresh:
            return None
        self._version = view.store.episodes_version
        rows = np.array(
            [(number, *result) for number, result in view.store.episodes.items()], dtype=np.float64
        ).reshape(-1, 3)
        source: dict[str, Any] = {
            "bars": view.packet.array(rows[-DRAWN:]),
            "count": int(rows[:, 0].max(initial=-1)) + 1,
        }
        if len(rows):
            returns, lengths = rows[:, 1], rows[:, 2]
            source |= {
                "last": {"return": float(returns[-1]), "length": int(lengths[-1])},
                "best": float(np.max(returns)),
                "mean": float(np.mean(returns[-100:])),
                "mean_length": float(np.mean(lengths[-100:])),
            }
        return source
