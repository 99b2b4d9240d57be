"""Messages in, maps out: follows an agent's stream and explains its steps.

An engine owns no socket, thread or clock. Whoever has them hands it messages and lets it ``work`` a few milliseconds at
a time.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from agentwrap_protocol import GraphError
from agentwrap_protocol import events as ev
from agentwrap_protocol.messages import (
    Configure,
    Evaluate,
    Explain,
    Hello,
    Message,
    Outputs,
    Probe,
    Reply,
    SaliencyMap,
    Step,
)
from agentwrap_protocol.session import Session
from agentwrap_viewer.saliency import SaliencyError, Unanswered

from . import catalogue
from .job import Job, Moment
from .past import Past, is_recurrent
from .schedule import Schedule
from .settings import Settings
from .targets import Aim
from .tracking import Policy

log = logging.getLogger(__name__)

#: What the explainer needs of an agent's stream; the introduction last (SPEC section 7).
KINDS = ("step", "weights", "policy_graph", "heartbeat", "bye", "hello")

#: Seconds over which the rate of maps is taken.
RATE_SECONDS = 3.0

#: A problem is told with at most this many characters.
PROBLEM_LENGTH = 2000

State = Literal["waiting", "pending", "ready", "unable"]


class Engine:
    """Follows one agent at a time.

    Args:
        stream: The explainer's own identity.
        clock: Returns seconds, only going forward.
        device: Where to compute.
        settings: How to begin.

    Attributes:
        settings: What it was told.
        resend: Kinds of message that are missing and should be asked for; cleared by who asks.
        foreign: What the agent's side speaks where it is another version of the protocol, or None.
    """

    def __init__(
        self, stream: str, clock: Callable[[], float], *, device: str = "cpu", settings: Settings | None = None
    ) -> None:
        self.settings = settings or Settings()
        self.resend: set[str] = set()
        self._stream, self._clock, self._device = stream, clock, device
        self._published: deque[float] = deque(maxlen=1024)
        self._aimed: tuple[tuple[object, ...], Aim] = (None, None, None), Aim()  # for which policy, agent and settings
        self.follow_anew()

    def follow_anew(self) -> None:
        """Forget the agent: another endpoint will be followed."""
        self._session = Session(KINDS)
        self.foreign: str | None = None
        self._forget_policy()

    def _forget_policy(self) -> None:
        self._policy = Policy(self._device)
        self._schedule, self._past = Schedule(self._begin), Past()
        self._missed = 0
        self._failure: str | None = None
        self._failed_at = 0
        self.resend.clear()

    # ── messages ──

    @property
    def hello(self) -> Hello | None:
        """What the agent said about itself."""
        introduction = self._session.introduction
        return introduction if isinstance(introduction, Hello) else None

    def receive(self, message: Message) -> None:
        """Take a message of the agent."""
        self.foreign = None
        for event in self._session.receive(message):
            self._handle(event)

    def advance(self) -> None:
        """Let time pass; about once a second."""
        for event in self._session.advance(self._clock()):
            self._handle(event)

    def _handle(self, event: ev.Event) -> None:
        match event:
            case ev.StreamStarted(Hello() as hello) | ev.StreamReplaced(Hello() as hello):
                self._forget_policy()
                self._policy.take_probe(hello.policy.probe)
            case ev.StreamUpdated(hello):
                if self._policy.take_probe(hello.policy.probe):
                    self._schedule, self._failure = Schedule(self._begin), None
            case ev.GraphReceived(graph):
                self._policy.take_graph(graph)
                self._schedule, self._failure = Schedule(self._begin), None
            case ev.WeightsReceived(weights):
                self._policy.take_weights(weights)
            case ev.MessageReceived(Step() as step):
                self._policy.take_version(step.policy_version)
                self._policy.remember(step.arrays)
                moment = Moment.of_step(step)
                if is_recurrent(self._policy.graph):
                    self._past.remember(moment)
                self._schedule.offer(moment)
            case ev.Gap(_, missing):
                self._missed += missing
            case ev.GraphMissing():
                self.resend.add("policy_graph")
            case ev.WeightsMissing():
                self.resend.add("weights")
        if self._schedule.idle:
            self._policy.settle()

    def configure(self, request: Configure, *, anew: bool = False) -> None:
        """Change settings; what is being explained is explained anew with them.

        Args:
            request: What to change; ``source`` is the caller's affair.
            anew: Another agent will be followed, whose policy is not known yet.

        Raises:
            SaliencyError: One of them is not possible; none is changed.
        """
        before = self.settings
        self.settings = before.changed(
            None if anew else self._policy.graph,
            None if anew else self.hello,
            method=request.method,
            options=request.options,
            target=request.target,
            budget_ms=request.budget_ms,
        )
        if replace(before, budget_ms=self.settings.budget_ms) != self.settings:
            self._failure = None
            self._schedule.restart()

    def explain(self, request: Explain) -> None:
        """Explain a step before newer ones.

        Raises:
            SaliencyError: It is of another stream than the one that is followed.
        """
        if request.source != self._session.stream:
            raise SaliencyError(f"step {request.step} is of stream {request.source}, which is not followed")
        self._schedule.ask(Moment.of_request(request))

    def evaluate(self, request: Evaluate) -> None:
        """Refuse: an agent's steps are not kept.

        Raises:
            SaliencyError: Always.
        """
        raise SaliencyError("outputs of past steps can be had of a recording, not of a running agent")

    # ── asking the agent ──

    def question(self) -> Probe | None:
        """Return what to ask the agent about its policy now, None where there is nothing; then call ``asked``."""
        probed, stream = self._policy.probed, self._session.stream
        arrays = probed.question(self._clock()) if probed is not None else None
        return (
            None if arrays is None or stream is None else Probe(stream=self._stream, source=stream, arrays=dict(arrays))
        )

    def asked(self, request: int) -> None:
        """The question has become the request of this number."""
        if self._policy.probed is not None:
            self._policy.probed.asked(request)

    def answered(self, reply: Reply) -> None:
        """Take the agent's answer."""
        if self._policy.probed is not None:
            self._policy.probed.take(reply)

    # ── work ──

    @property
    def busy(self) -> bool:
        """Whether there is something to compute."""
        return self._policy.replica is not None and not self._policy.waiting and self._schedule.busy

    def work(self) -> SaliencyMap | Outputs | None:
        """Compute for a few milliseconds; return a map where there is one to publish."""
        if self._policy.replica is None or self._policy.waiting:
            return None
        replaced = self._schedule.gives_way(self.settings.budget_ms)
        try:
            job = replaced or self._schedule.next()
        except Unanswered:
            return None
        if job is None:
            return None
        try:
            if replaced is not None:
                return self._publish(job) if job.unpublished else None
            before = job.spent_ms
            job.advance()
            self._schedule.took(job, job.spent_ms - before)
            return self._publish(job) if job.due else None
        except Unanswered:
            return None
        except Exception as error:
            self._schedule.drop(job)
            self._fail(error, job.moment)
            return None

    def _publish(self, job: Job) -> SaliencyMap:
        if not job.coarse_published:
            self._published.append(self._clock())
        self._failure = None
        return job.message(self._stream)

    def _begin(self, moment: Moment) -> Job | None:
        if self._policy.settle():
            self._schedule.restart_live()  # half a map with the old weights is of no use
        if self._policy.replica is None:
            return None
        try:
            method = self.settings.named(self._policy.graph)
            options = catalogue.plain_options(self.settings.in_use(self._policy.graph))
            return Job(moment, self._policy, method, options, aim=self._aim(), before=self._steps_before(moment))
        except Unanswered:
            raise
        except Exception as error:
            self._fail(error, moment)
            return None

    def _aim(self) -> Aim:
        """Return what of the policy is explained."""
        graph, hello = self._policy.graph, self.hello
        if graph is None or hello is None:
            return Aim()
        known = graph, hello, self.settings
        if any(one is not other for one, other in zip(known, self._aimed[0], strict=True)):
            self._aimed = known, self.settings.aim(graph, hello)
        return self._aimed[1]

    def _steps_before(self, moment: Moment) -> list[Moment]:
        """Return known steps before one, the newest first, as far as the policy's state is carried through them."""
        return self._past.before(moment)

    def _fail(self, error: Exception, moment: Moment) -> None:
        """Note why a step could not be explained; the next one is tried all the same."""
        expected = isinstance(error, SaliencyError | GraphError)
        text = str(error) if expected else f"{type(error).__name__}: {error}"
        if text != self._failure:
            self._failure, self._failed_at = text, moment.step
            log.warning("step %d cannot be explained: %s", moment.step, text, exc_info=None if expected else error)

    # ── state ──

    @property
    def essence(self) -> object:
        """What is told at once when it changes; compared, nothing else."""
        return self._state(), self._session.stream, self._policy.version, self._policy.graph is None, self.settings

    def status(self) -> dict[str, Any]:
        """Return the fields of an ``explainer`` message."""
        state, problem = self._state()
        graph = self._policy.graph
        method, aim = self.settings.in_use(graph), self._aim()
        return {
            "state": state,
            "problem": problem if problem is None else problem[:PROBLEM_LENGTH],
            "source": self._session.stream,
            "policy_version": self._policy.version,
            "device": self._device,
            "methods": tuple(catalogue.describe(each) for each in catalogue.suitable(graph).values()),
            "method": method.name,
            "options": catalogue.plain_options(method),
            "target": aim.name,
            "targets": aim.targets.offered(method),
            "budget_ms": self.settings.budget_ms,
            "maps_per_second": self._maps_per_second(),
            "missed": self._missed,
        }

    def _state(self) -> tuple[State, str | None]:
        hello = self.hello
        if self.foreign is not None:
            return "unable", self.foreign
        if hello is None or self._session.state == "ended":
            return "waiting", None
        if self._session.state == "silent":
            return "waiting", f"nothing is heard of {hello.name}"
        if hello.policy.graph == "failed" and self._policy.probed is None:
            return "unable", hello.policy.problem or "the policy cannot be exported"
        if self._policy.problem is not None:
            return "unable", self._policy.problem
        if self._policy.replica is None:
            return "pending", None
        if self._failure is not None:
            return "unable", f"at step {self._failed_at}: {self._failure}"
        return "ready", self._aim().problem

    def _maps_per_second(self) -> float:
        since = self._clock() - RATE_SECONDS
        return sum(time > since for time in self._published) / RATE_SECONDS
