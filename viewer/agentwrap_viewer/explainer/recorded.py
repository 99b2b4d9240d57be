"""Explains the steps of a recording as they are asked for, each with the weights that it was made with."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from agentwrap_protocol import GraphError
from agentwrap_protocol.messages import Configure, Explain, Message
from agentwrap_viewer.recording import Recording, RecordingError
from agentwrap_viewer.saliency import SaliencyError

from .catalogue import kind_of
from .engine import Engine
from .job import Job, Moment
from .settings import Settings
from .tracking import HISTORY


class RecordedEngine(Engine):
    """An engine whose policy comes from a recording, and whose newest step is the one last asked for.

    Args:
        recording: Holds the steps that will be asked for; stays open.
        stream: The explainer's own identity.
        clock: Returns seconds, only going forward.
        device: Where to compute.
        settings: How to begin.

    Raises:
        SaliencyError: The recording holds no policy.
    """

    def __init__(
        self,
        recording: Recording,
        stream: str,
        clock: Callable[[], float],
        *,
        device: str = "cpu",
        settings: Settings | None = None,
    ) -> None:
        super().__init__(stream, clock, device=device, settings=settings)
        self._recording = recording
        self._graph_seq: int | None = None
        self._numbers: NDArray[np.int64] | None = None
        hello = recording.hello
        if hello is None or not recording.versions:
            raise SaliencyError(f"{recording.path} holds no policy")
        self._session.receive(msgspec.structs.replace(hello, control=None))  # who streamed then is not to be asked now
        self._take_version(recording.versions[0])

    def receive(self, message: Message) -> None:
        """Ignore what comes from elsewhere."""

    def advance(self) -> None:
        """Nothing becomes old: a recording is never silent."""

    def configure(self, request: Configure, *, anew: bool = False) -> None:
        """Change settings; the step that was asked for last is explained anew with them.

        Raises:
            SaliencyError: One of them is not possible, as is following another agent; none is changed.
        """
        if anew:
            raise SaliencyError("this explainer explains a recording, it cannot follow an agent")
        super().configure(request)

    def explain(self, request: Explain) -> None:
        """Explain a step; the one asked for before it gets no more than its budget.

        Raises:
            SaliencyError: It is of another stream than the one that was recorded.
        """
        if request.source != self._session.stream:
            raise SaliencyError(f"step {request.step} is of stream {request.source}, which is not in this recording")
        self._schedule.offer(Moment.of_request(request))

    def _begin(self, moment: Moment) -> Job | None:
        try:
            self._take_version(moment.policy_version)
            self._remember_before(moment)
        except (RecordingError, SaliencyError, GraphError) as error:
            self._fail(SaliencyError(str(error)), moment)
            return None
        return super()._begin(moment)

    def _take_version(self, version: int) -> None:
        """Bring the replica to a version; only between jobs, which compute with it.

        Raises:
            RecordingError: The recording does not have it.
            SaliencyError: It cannot be run.
        """
        if version == self._policy.version:
            return
        graph = self._recording.graph(version)
        if graph.seq != self._graph_seq:
            self._policy.take_graph(graph)
            self._graph_seq = graph.seq
        self._policy.take_weights(self._recording.weights(version))
        self._policy.settle()
        if self._policy.version != version:
            raise SaliencyError(self._policy.problem or f"version {version} of the policy cannot be run")

    def _remember_before(self, moment: Moment) -> None:
        """Remember the observations before a step, where a method may draw a vector's values from them."""
        graph = self._policy.graph
        if graph is None or all(item.role != "observation" or kind_of(item) != "vector" for item in graph.inputs):
            return
        if self._numbers is None:
            self._numbers = self._recording.array("step")
        end = int(np.searchsorted(self._numbers, moment.step, side="right"))
        self._policy.forget()
        for step in self._recording.steps[max(end - HISTORY, 0) : end]:
            self._policy.remember(step.arrays)
