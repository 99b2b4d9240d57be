"""Calls a policy for others: for the page its outputs at a step, for an explainer what it makes of other observations.

Everything happens in the agent's own thread, within ``step`` and ``reset``: a policy that is not made for several
threads is never called by two, nor between two statements of the user's. A budget says how much of the time may be
spent; an agent that makes no steps is left alone. Requests come from the publisher's thread, which only lines them up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from agentwrap_protocol.graph import Input
from agentwrap_protocol.messages import MAX_PROBE_ROWS, Probe, ProbeInfo

from .arrays import Array
from .black_box import BlackBox
from .budget import PIECE, Budget, Pace

#: Requests that may wait, one of each requester.
MOST_REQUESTS = 4

#: Most rows in a piece for a policy that takes one observation at a time.
ROWS_ALONE = 64

#: Share of the budget that the outputs of steps may take; the rest is for requests.
OWN_SHARE = 0.5

#: Takes the answer to a request: the outputs, or why there are none.
Answer = Callable[[Mapping[str, Array], str | None], None]


@dataclass
class _Request:
    arrays: Mapping[str, Array]
    rows: int
    answer: Answer
    done: int = 0
    found: list[dict[str, Array]] = field(default_factory=list)


class Probing:
    """Lines up requests and works on them within a budget.

    Attributes:
        waiting: Whether there is something to work on. A plain attribute: all that a step costs meanwhile.
        problem: Why the policy is not called any more, or None.

    Args:
        ms_per_s: Milliseconds of each second that may be spent; 0 for none.
        clock: Returns seconds, only going forward.
    """

    def __init__(self, ms_per_s: float, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.waiting = False
        self.problem = None if ms_per_s else "the policy is not called for others: probe_ms_per_s is 0"
        self._ms_per_s, self._clock = ms_per_s, clock
        self._budget, self._own = Budget(ms_per_s, clock), Budget(OWN_SHARE * ms_per_s, clock)
        self._box: BlackBox | None = None
        self._pace = Pace(1)
        self._requests: dict[str, _Request] = {}  # by requester
        self._lock = threading.Lock()

    @property
    def info(self) -> ProbeInfo | None:
        """How requests are to be made, None as long as none are answered."""
        if self._box is None or self.problem is not None:
            return None
        return ProbeInfo(
            inputs=self._box.inputs, outputs=self._box.outputs, rows=MAX_PROBE_ROWS, ms_per_s=self._ms_per_s
        )

    def open(self, box: BlackBox) -> None:
        """Begin to answer requests by calling this."""
        # one that takes a row at a time is given several all the same: keeping random states costs more than a row
        self._box, self._pace = box, Pace(box.most_rows if box.most_rows > 1 else ROWS_ALONE)

    # What the publisher's thread calls.

    def ask(self, request: Probe, answer: Answer) -> None:
        """Line a request up; ``answer`` is called once, from either thread."""
        problem, rows = self._refusal(request), 0
        if problem is None:
            rows = len(next(iter(request.arrays.values())))
            with self._lock:
                replaced = self._requests.pop(request.stream, None)
                if len(self._requests) < MOST_REQUESTS:
                    self._requests[request.stream] = _Request(request.arrays, rows, answer)
                    self.waiting = True
                else:
                    problem = f"{MOST_REQUESTS} requests wait already"
            if replaced is not None:
                replaced.answer({}, "a newer request has taken the place of this one")
        if problem is not None:
            answer({}, problem)

    def _refusal(self, request: Probe) -> str | None:
        info, arrays = self.info, request.arrays
        if info is None:
            return self.problem or "this policy is not probed"
        wanted = {given.name: given for given in info.inputs}
        if arrays.keys() != wanted.keys():
            return f"the arrays are {_listed(arrays)}; wanted are {_listed(wanted)}"
        for name, array in arrays.items():
            if (problem := _misfit(array, wanted[name])) is not None:
                return f"array {name!r:.80} {problem}"
        if len({len(array) for array in arrays.values()}) > 1:
            return "the arrays have different numbers of rows"
        return None

    # What the agent's thread calls.

    def outputs(self, arrays: Mapping[str, Array]) -> dict[str, Array] | None:
        """Return the policy's outputs for one observation, by input name and without batch axis; None where the budget
        does not allow it now.

        Raises:
            Exception: Whatever the policy raises.
        """  # noqa: D205
        expected = self._pace.single or 0.0
        if self._box is None or self.problem is not None or min(self._own.left, self._budget.left) < expected:
            return None
        found, seconds = self._timed({name: array[None] for name, array in arrays.items()})
        self._own.spend(seconds)
        self._note(1, seconds)
        return {name: array[0] for name, array in found.items()}

    def work(self) -> None:
        """Work on what was asked for as long as the budget allows."""
        while self.waiting and self.problem is None and self._budget.left > self._pace.expected:
            with self._lock:
                request = next(iter(self._requests.values()), None)
                self.waiting = request is not None
            if request is None:
                return
            try:
                self._advance(request)
            except Exception as error:
                self.stop(f"the policy raised {type(error).__name__} when it was asked for its outputs: {error}")
                raise
            if request.done == request.rows:
                self._finish(request)

    def stop(self, problem: str) -> None:
        """Call the policy no more, and say so to those who wait."""
        self.problem = problem
        with self._lock:
            requests = list(self._requests.values())
            self._requests.clear()
            self.waiting = False
        for request in requests:
            request.answer({}, problem)

    def forget(self) -> None:
        """Nobody watches any more: what was asked for is dropped."""
        with self._lock:
            self._requests.clear()
            self.waiting = False

    def _advance(self, request: _Request) -> None:
        """Compute the next piece. The last of a batch is filled up, for it to have one of the few sizes there are."""
        assert self._box is not None
        full, left = self._pace.rows, request.rows - request.done
        rows = full if self._box.most_rows > 1 else min(full, left)
        here = slice(request.done, request.done + rows)
        piece = {name: _filled_up(array[here], rows) for name, array in request.arrays.items()}
        found, seconds = self._timed(piece)
        if rows == full:
            self._note(rows, seconds)
        request.found.append({name: array[:left] for name, array in found.items()})
        request.done += min(rows, left)

    def _finish(self, request: _Request) -> None:
        with self._lock:
            waiting = [name for name, each in self._requests.items() if each is request]
            for name in waiting:
                del self._requests[name]
            self.waiting = bool(self._requests)
        if waiting:  # else it was replaced meanwhile, and answered
            names = request.found[0]
            arrays = {f"output/{name}": np.concatenate([found[name] for found in request.found]) for name in names}
            request.answer(arrays, None)

    def _timed(self, arrays: Mapping[str, Array]) -> tuple[dict[str, Array], float]:
        assert self._box is not None
        began = self._clock()
        try:
            found = self._box(arrays)
        finally:
            seconds = self._clock() - began
            self._budget.spend(seconds)
        return found, seconds

    def _note(self, rows: int, seconds: float) -> None:
        self._pace.took(rows, seconds)
        single = self._pace.single
        if single is not None and single > max(self._budget.most, PIECE):
            self.stop(
                f"the policy takes {1000 * single:.0f} ms for one observation, and may take {self._ms_per_s:g} ms of "
                "each second (probe_ms_per_s): it is left alone"
            )


def _misfit(array: Array, given: Input) -> str | None:
    """Why an array does not fill an input, None where it does."""
    if array.dtype not in (np.dtype(np.float32), np.dtype(given.dtype)):
        return f"has elements of {array.dtype}; wanted are float32 or {given.dtype}"
    if array.ndim != len(given.shape) or array.shape[1:] != given.shape[1:]:
        return f"has shape {array.shape}; wanted is (B, {', '.join(map(str, given.shape[1:]))})"
    if not 0 < len(array) <= MAX_PROBE_ROWS:
        return f"has {len(array)} rows; possible are 1 to {MAX_PROBE_ROWS}"
    return None


def _filled_up(array: Array, rows: int) -> Array:
    """Return a copy, for what came can neither be written to nor is aligned; the last row fills what is missing."""
    return np.concatenate([array, np.repeat(array[-1:], rows - len(array), axis=0)])


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(f"{name!r:.80}" for name in list(names)[:8]) or "none"
