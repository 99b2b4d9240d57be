"""Whose turn it is: what was asked for, then the newest step, each explained coarse to fine."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from .job import Job, Moment

#: Requests to explain a step that may wait; the oldest gives way.
REQUESTS = 16


class Schedule:
    """The moments that wait and the jobs that are under way, at most one of each sort.

    A live job whose coarse map is published gives way to a newer step once it has had its budget; until a newer step
    comes it goes on to the end. What was asked for is explained to the end before the live job goes on.

    Args:
        begin: Makes a job; returns None where that is not possible.
    """

    def __init__(self, begin: Callable[[Moment], Job | None]) -> None:
        self._begin = begin
        self._newest: Moment | None = None
        self._waiting: deque[Moment] = deque(maxlen=REQUESTS)
        self._live: Job | None = None
        self._asked: Job | None = None

    @property
    def idle(self) -> bool:
        """Whether no job is under way."""
        return _finished(self._live) and _finished(self._asked)

    @property
    def busy(self) -> bool:
        """Whether there is something to do."""
        return not self.idle or self._newest is not None or bool(self._waiting)

    def offer(self, newest: Moment) -> None:
        """A newer step is there; one that waited is forgotten."""
        self._newest = newest

    def withdraw(self) -> None:
        """The stream has ended: its newest step need not be explained any more."""
        self._newest = None

    def ask(self, moment: Moment) -> None:
        """Explain this before newer steps; once, however often it is asked for meanwhile."""
        known = [*self._waiting, *([] if self._asked is None or self._asked.done else [self._asked.moment])]
        if all(other.step != moment.step for other in known):
            self._waiting.append(moment)

    def restart(self) -> None:
        """Explain anew what was explained last: settings have changed."""
        if self._asked is not None and not self._asked.done:
            self._waiting.appendleft(self._asked.moment)
        self._asked = None
        self.restart_live()

    def restart_live(self) -> None:
        """Explain the live step anew, unless a newer one waits."""
        if self._live is not None and self._newest is None:
            self._newest = self._live.moment
        self._live = None

    def drop(self, job: Job) -> None:
        """Give a job up."""
        if job is self._asked:
            self._asked = None
        if job is self._live:
            self._live = None

    def gives_way(self, budget_ms: float) -> Job | None:
        """Return the live job if a newer step takes its place now; it is no longer under way then."""
        job = self._live
        if job is None or self._newest is None or not _finished(self._asked) or self._waiting:
            return None
        if not job.done and (not job.coarse_published or job.spent_ms < budget_ms):
            return None
        self._live = None
        return job

    def next(self) -> Job | None:
        """Return the job whose turn it is, begun if need be; None where there is none."""
        if _finished(self._asked):
            self._asked = self._begin(self._waiting.popleft()) if self._waiting else None
        if self._asked is not None:
            return self._asked
        if self._live is None and self._newest is not None:
            moment, self._newest = self._newest, None
            self._live = self._begin(moment)
        return None if _finished(self._live) else self._live


def _finished(job: Job | None) -> bool:
    return job is None or job.done
