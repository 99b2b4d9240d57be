"""The episodes so far: their returns and lengths."""

from __future__ import annotations

from typing import Any

import numpy as np

from agentwrap_viewer.page.view import View

from .element import Element

#: Newest episodes drawn, and those that means are taken of.
DRAWN, MEANT = 200, 100


class EpisodesElement(Element):
    """Draws a bar for each episode's return, with the last, best and mean."""

    _module = "episodes"


class Episodes:
    """Source of the episodes for one tab."""

    name = "episodes"

    def __init__(self) -> None:
        self._version = -1

    def update(self, view: View) -> dict[str, Any] | None:
        """Return ``bars`` float64 (k, 3) of number, return, length, oldest first, and figures.

        ``count`` is how many have ended; ``best`` is that of all ``heard`` of, the means those of the last ``meant``.
        """
        episodes = view.store.episodes
        if episodes.version == self._version and not view.fresh:
            return None
        self._version = episodes.version
        rows = np.array([(number, *result) for number, result in episodes.results.items()], dtype=np.float64).reshape(
            -1, 3
        )
        source: dict[str, Any] = {
            "bars": view.packet.array(rows[-DRAWN:]),
            "count": episodes.ended,
            "heard": episodes.heard,
            "best": episodes.best,
            "meant": min(MEANT, len(rows)),
        }
        if len(rows):
            returns, lengths = rows[:, 1], rows[:, 2]
            source |= {
                "last": {"return": float(returns[-1]), "length": int(lengths[-1])},
                "mean": float(np.mean(returns[-MEANT:])),
                "mean_length": float(np.mean(lengths[-MEANT:])),
            }
        return source
