"""The episodes that ended: the newest ones, and what holds for all that were heard of."""

from __future__ import annotations

#: Episodes kept.
KEPT = 1000


class EpisodeLog:
    """Returns and lengths of the newest episodes, by number, oldest first; and figures that outlast them.

    Attributes:
        results: Number to (return, length) of the newest 1,000.
        heard: Episodes heard of, kept or not. An agent tells late joiners of its newest 1,000 only.
        best: The largest return heard of, or None.
        version: Grows with every episode.
    """

    def __init__(self) -> None:
        self.results: dict[int, tuple[float, int]] = {}
        self.heard = 0
        self.best: float | None = None
        self.version = 0
        self._forgotten = -1  # the newest episode that is kept no more

    @property
    def ended(self) -> int:
        """How many have ended, heard of or not: they are numbered from 0."""
        return next(reversed(self.results), -1) + 1

    def add(self, number: int, episode_return: float, length: int) -> None:
        """Take in an episode. Told again, as agents do when they introduce themselves again, it counts once."""
        if number in self.results or number <= self._forgotten:
            return
        late = number < self.ended
        self.results[number] = (episode_return, length)
        if late:
            self.results = dict(sorted(self.results.items()))
        self.heard += 1
        self.best = episode_return if self.best is None else max(self.best, episode_return)
        self.version += 1
        while len(self.results) > KEPT:
            self._forgotten = next(iter(self.results))
            del self.results[self._forgotten]
