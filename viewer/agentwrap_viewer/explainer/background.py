"""The vector observations before a recorded step, which methods draw other values of features from."""

from __future__ import annotations

from collections.abc import Iterator

from agentwrap_viewer.recording import Recording

from .catalogue import kind_of
from .probed import Arrays
from .tracking import HISTORY, Policy


class Background:
    """Keeps a policy's memory at what was seen up to a step of a recording.

    Args:
        recording: Where the steps are.
        policy: Whose memory it is; it has its graph, and keeps it.
    """

    def __init__(self, recording: Recording, policy: Policy) -> None:
        self._recording, self._policy = recording, policy
        self._end = 0  # behind the last step remembered
        graph = policy.graph
        inputs = [item for item in graph.inputs if item.role == "observation"] if graph is not None else []
        self._vectors = [item for item in inputs if kind_of(item) == "vector"]
        policy.forget()

    def remember(self, index: int) -> None:
        """Remember the last observations up to the step at an index, and no others.

        Raises:
            RecordingError: Steps cannot be read.
        """
        if not self._vectors:
            return
        begin = max(index + 1 - HISTORY, 0)
        if not begin <= self._end <= index + 1:
            self._policy.forget()
            self._end = begin
        for arrays in self._between(self._end, index + 1):
            self._policy.remember(arrays)
        self._end = index + 1

    def _between(self, begin: int, end: int) -> Iterator[Arrays]:
        """The observations alone, where the recording's index has them: whole steps hold frames, which take long."""
        known = set(self._recording.columns)
        names = [next((n for n in (f"input/{v.name}", v.array) if n in known), None) for v in self._vectors]
        if None in names:
            yield from (step.arrays for step in self._recording.steps[begin:end])
            return
        columns = {name: self._recording.array(name, begin, end) for name in names if name is not None}
        for row in range(end - begin):
            yield {name: values[row] for name, values in columns.items()}
