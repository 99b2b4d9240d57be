"""Explains the steps of a recording as they are asked for, each with the weights that the request names."""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from agentwrap_protocol import GraphError
from agentwrap_protocol.messages import Configure, Evaluate, Explain, Message, Outputs, SaliencyMap, Step
from agentwrap_viewer.recording import Recording, RecordingError
from agentwrap_viewer.recording.policies import listed
from agentwrap_viewer.saliency import SaliencyError

from .background import Background
from .engine import Engine
from .job import Job, Moment
from .past import FRAMES, is_recurrent
from .settings import Settings
from .tracking import Policy

log = logging.getLogger(__name__)

#: Policies that are kept ready, each with a replica of its own; more only where jobs compute with all of them.
POLICIES = 6

#: Steps whose outputs are computed at a time, and requests for such that may wait; the oldest give way.
BATCH, EVALUATIONS = 16, 8

#: Seconds after which outputs get a turn while there are maps to compute.
EVALUATE_EVERY = 0.25


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
        self._policies: OrderedDict[int, tuple[Policy, int]] = OrderedDict()  # with the number of its graph
        self._evaluations: deque[tuple[tuple[int, ...], deque[int]]] = deque(maxlen=EVALUATIONS)
        self._evaluated: deque[Outputs] = deque()
        self._evaluated_at = -float("inf")
        self._numbers: NDArray[np.int64] | None = None
        hello = recording.hello
        if hello is None or not recording.versions:
            raise SaliencyError(f"{recording.path} holds no policy")
        self._session.receive(msgspec.structs.replace(hello, control=None))  # who streamed then is not to be asked now
        self._take_any_version()

    def receive(self, message: Message) -> None:
        """Ignore what comes from elsewhere."""

    def advance(self) -> None:
        """Take in what was written to the recording since; nothing becomes old, a recording is never silent."""
        self._look_again()

    def _look_again(self) -> None:
        if not self._recording.complete and self._recording.refresh():
            self._numbers = None

    def configure(self, request: Configure, *, anew: bool = False) -> None:
        """Change settings; the step that was asked for last is explained anew with them.

        Raises:
            SaliencyError: One of them is not possible, as is following another agent; none is changed.
        """
        if anew:
            raise SaliencyError("this explainer explains a recording, it cannot follow an agent")
        super().configure(request)

    def explain(self, request: Explain) -> None:
        """Explain a step; the one asked for before it gets no more than its budget, unless that was to be ``whole``.

        Raises:
            SaliencyError: It is of another stream than the one that was recorded.
        """
        if request.source != self._session.stream:
            raise SaliencyError(f"step {request.step} is of stream {request.source}, which is not in this recording")
        if request.policy_version not in self._recording.versions:
            self._look_again()
        (self._schedule.ask if request.whole else self._schedule.offer)(Moment.of_request(request))

    def _begin(self, moment: Moment) -> Job | None:
        try:
            self._take_version(moment.policy_version)
            self._remember_before(moment)
        except (RecordingError, SaliencyError, GraphError) as error:
            self._fail(SaliencyError(str(error)), moment)
            return None
        return super()._begin(moment)

    def evaluate(self, request: Evaluate) -> None:
        """Compute the outputs of steps, while there is no map to compute.

        Raises:
            SaliencyError: They are of another stream, or a version was not recorded.
        """
        if request.source != self._session.stream:
            raise SaliencyError(f"the steps are of stream {request.source}, which is not in this recording")
        known = self._recording.versions
        for version in request.policy_versions:
            if version not in known:
                raise SaliencyError(f"there is no version {version} of the policy; there is {listed(known)}")
        wanted = request.arrays.get("step", np.empty(0, np.int64)).reshape(-1).tolist()
        if wanted and max(wanted) > self._step_numbers.max(initial=-1):
            self._look_again()
        self._evaluations.append((request.policy_versions, deque(wanted)))

    @property
    def busy(self) -> bool:
        """Whether there is something to compute."""
        return bool(super().busy or self._evaluations or self._evaluated)

    def work(self) -> SaliencyMap | Outputs | None:
        """Compute for a few milliseconds; return what there is to publish.

        Outputs are computed between maps; while maps keep coming, now and then.
        """
        if self._evaluated:
            return self._evaluated.popleft()
        waited = self._clock() - self._evaluated_at
        if self._evaluations and (not super().busy or waited > EVALUATE_EVERY):
            self._evaluate()
            self._evaluated_at = self._clock()
            return None
        return super().work()

    def _evaluate(self) -> None:
        versions, numbers = self._evaluations[0]
        batch = [numbers.popleft() for _ in range(min(BATCH, len(numbers)))]
        if not numbers:
            self._evaluations.popleft()
        steps = [step for number in batch if (step := self._step(number)) is not None]
        shown = self._policy
        for version in versions if steps else ():
            try:
                self._take_version(version)
                outputs = self._policy.outputs_of_steps([step.arrays for step in steps])
            except (RecordingError, SaliencyError, GraphError) as error:
                log.warning("steps cannot be evaluated with version %d: %s", version, error)
                continue
            self._evaluated.append(self._outputs(version, steps, outputs))
        self._policy = shown

    def _outputs(self, version: int, steps: list[Step], outputs: dict[str, NDArray[Any]]) -> Outputs:
        arrays = {f"output/{name}": array for name, array in outputs.items()}
        arrays["step"] = np.array([step.step for step in steps], np.int64)
        return Outputs(stream=self._stream, source=self._session.stream or "", policy_version=version, arrays=arrays)

    def _step(self, number: int) -> Step | None:
        """Read a step by its number; None where it was not recorded, or is damaged."""
        index = int(np.searchsorted(self._step_numbers, number))
        if index >= len(self._step_numbers) or self._step_numbers[index] != number:
            return None
        try:
            return self._recording.steps[index]
        except RecordingError:
            return None

    @property
    def _step_numbers(self) -> NDArray[np.int64]:
        if self._numbers is None:
            self._numbers = self._recording.array("step")
        return self._numbers

    @property
    def essence(self) -> object:
        """As an engine's, but for the version of the policy, which each map says: it changes from one to the next."""
        return self._state(), self._session.stream, self._policy.graph is None, self.settings

    def _take_version(self, version: int) -> None:
        """Turn to the policy of a version, which is made unless it is one of the last that were asked for.

        Of those the one that was not asked for longest is given other weights, but for those that a job under way
        computes with.

        Raises:
            RecordingError: The recording does not have it.
            SaliencyError: It cannot be run.
        """
        if version in self._policies:
            self._policies.move_to_end(version)
            self._policy = self._policies[version][0]
            return
        graph, weights = self._recording.graph(version), self._recording.weights(version)
        policy, of = Policy(self._device), -1
        idle = self._idle_policy() if len(self._policies) >= POLICIES else None
        if idle is not None:
            policy, of = self._policies.pop(idle)
        if graph.seq != of:
            policy.take_graph(graph)
        policy.take_weights(weights)
        policy.settle()
        if policy.version != version:
            raise SaliencyError(policy.problem or f"version {version} of the policy cannot be run")
        self._policies[version] = policy, graph.seq
        self._policy = policy

    def _take_any_version(self) -> None:
        """Turn to the first version that can be run. Where none can, the explainer says why."""
        problem: str | None = None
        for version in self._recording.versions:
            try:
                return self._take_version(version)
            except (RecordingError, SaliencyError, GraphError) as error:
                problem = problem or str(error)
        self._policy.problem = problem

    def _idle_policy(self) -> int | None:
        """Return the version of a policy that nothing is computed with now, of several the one not used longest."""
        used = [job.policy for job in self._schedule.under_way]
        return next((version for version, (policy, _) in self._policies.items() if policy not in used), None)

    def _steps_before(self, moment: Moment) -> list[Moment]:
        if not is_recurrent(self._policy.graph):
            return []
        end = int(np.searchsorted(self._step_numbers, moment.step))
        return [Moment.of_step(step) for step in self._recording.steps[max(end - FRAMES, 0) : end]][::-1]

    def _remember_before(self, moment: Moment) -> None:
        """Remember the observations before a step, where a method may draw a vector's values from them."""
        index = int(np.searchsorted(self._step_numbers, moment.step, side="right")) - 1
        Background(self._recording, self._policy).remember(index)
