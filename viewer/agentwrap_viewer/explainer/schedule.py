"""Whose turn it is: what was asked for, then the newest step, each explained coarse to fine."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from .job import Job, Moment

#: Requests to explain a step that may wait, of either kind; the oldest gives way.
REQUESTS = 16

#: Share of the time that what is to be whole has while newer steps want maps.
WHOLE_SHARE = 1 / 3


class _Requests:
    """What was asked for: one job after the other, each to its end."""

    def __init__(self) -> None:
        self.job: Job | None = None
        self.waiting: deque[Moment] = deque(maxlen=REQUESTS)

    def __bool__(self) -> bool:
        return bool(self.waiting) or not _finished(self.job)

    def add(self, moment: Moment) -> None:
        """Line one up; once, however often it is asked for meanwhile."""
        known = [*self.waiting, *([] if self.job is None or self.job.done else [self.job.moment])]
        if not any(_same(other, moment) for other in known):
            self.waiting.append(moment)

    def next(self, begin: Callable[[Moment], Job | None]) -> Job | None:
        """Return the job that is not done, begun if need be; None where there is none."""
        if _finished(self.job):
            self.job = None
            if self.waiting:
                self.job = begin(self.waiting[0])
                self.waiting.popleft()
        return self.job

    def restart(self) -> None:
        """Begin anew with what is under way."""
        if self.job is not None and not self.job.done:
            self.waiting.appendleft(self.job.moment)
        self.job = None


class Schedule:
    """The moments that wait and the jobs that are under way: those of the live step, and those asked for.

    The live step has a job for each version of the policy that it was offered with, of which the one that is least
    refined goes on. Once their coarse maps are published they give way to a newer step when each has had its budget;
    until a newer step comes they go on to the end. What was asked for is explained to the end before them, but what is
    to be ``whole`` beside them: who asks for that is in no hurry.

    Args:
        begin: Makes a job; returns None where that is not possible. What it raises leaves the moment where it was, to
            be begun again.
    """

    def __init__(self, begin: Callable[[Moment], Job | None]) -> None:
        self._begin = begin
        self._newest: list[Moment] = []  # of one step
        self._beginning: list[Moment] = []  # taken from the newest, not begun yet
        self._live: list[Job] = []  # of one step
        self._asked, self._whole = _Requests(), _Requests()
        self._live_ms = self._whole_ms = 0.0  # spent on either since the newest of the second was begun

    @property
    def idle(self) -> bool:
        """Whether no job is under way."""
        return not self.under_way

    @property
    def under_way(self) -> list[Job]:
        """The jobs that are begun and not done."""
        jobs = (*self._live, self._asked.job, self._whole.job)
        return [job for job in jobs if job is not None and not job.done]

    @property
    def busy(self) -> bool:
        """Whether there is something to do."""
        return not self.idle or bool(self._newest or self._beginning or self._asked or self._whole)

    def offer(self, newest: Moment) -> None:
        """A newer step is there; one that waited is forgotten. The same step with another version is explained too."""
        if any(_same(job.moment, newest) and not job.done for job in self._live):
            if not self._newest:
                return  # under way
        self._newest = [
            *(other for other in self._newest if _same_step(other, newest) and not _same(other, newest)),
            newest,
        ]

    def ask(self, moment: Moment) -> None:
        """Explain this before newer steps, or beside them if it is to be whole."""
        (self._whole if moment.whole else self._asked).add(moment)

    def restart(self) -> None:
        """Explain anew what was explained last: settings have changed."""
        self._asked.restart()
        self._whole.restart()
        self.restart_live()

    def restart_live(self) -> None:
        """Explain the live step anew, unless a newer one waits."""
        live, self._live = [job.moment for job in self._live], []
        if not self._newest or (live and _same_step(live[0], self._newest[0])):
            waiting, self._newest = self._newest, []
            for moment in (*live, *waiting):
                self.offer(moment)

    def drop(self, job: Job) -> None:
        """Give a job up."""
        for requests in (self._asked, self._whole):
            if job is requests.job:
                requests.job = None
        self._live = [other for other in self._live if other is not job]

    def gives_way(self, budget_ms: float) -> Job | None:
        """Return a live job if a newer step takes its place now; it is no longer under way then."""
        if not self._live or not self._newest or self._asked:
            return None
        if _same_step(self._live[0].moment, self._newest[0]):
            return None
        if any(not job.done and (not job.coarse_published or job.spent_ms < budget_ms) for job in self._live):
            return None
        return self._live.pop(0)

    def next(self) -> Job | None:
        """Return the job whose turn it is, begun if need be; None where there is none."""
        asked = self._asked.next(self._begin)
        if asked is not None:
            return asked
        if _finished(self._whole.job):
            self._live_ms = self._whole_ms = 0.0
        whole = self._whole.next(self._begin)
        if whole is not None and not self._is_live_owed:
            return whole
        if self._newest and not self._beginning:
            if not self._live or _same_step(self._live[0].moment, self._newest[0]):
                self._beginning, self._newest = self._newest, []
        self._begin_live()
        return min((job for job in self._live if not job.done), key=lambda job: job.explanation.refined, default=None)

    def took(self, job: Job, milliseconds: float) -> None:
        """Note how long a part of a job took."""
        if job is self._whole.job:
            self._whole_ms += milliseconds
        else:
            self._live_ms += milliseconds

    @property
    def _is_live_owed(self) -> bool:
        """Whether what is to be whole has had its share, and newer steps want theirs."""
        wanted = bool(self._newest or self._beginning) or not all(job.done for job in self._live)
        return wanted and self._whole_ms > WHOLE_SHARE * (self._whole_ms + self._live_ms)

    def _begin_live(self) -> None:
        while self._beginning:
            moment = self._beginning[0]
            begun = self._begin(moment)
            kept = [job for job in self._live if not _same(job.moment, moment)]
            self._live = [*kept, *([] if begun is None else [begun])]
            self._beginning = self._beginning[1:]


def _same_step(one: Moment, other: Moment) -> bool:
    return (one.source, one.step) == (other.source, other.step)


def _same(one: Moment, other: Moment) -> bool:
    return _same_step(one, other) and one.policy_version == other.policy_version


def _finished(job: Job | None) -> bool:
    return job is None or job.done
