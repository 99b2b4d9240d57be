"""What a viewer gets to know about the policy: its outputs, its computation as a graph, its weights."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import gymnasium as gym
from msgspec.structs import replace

from agentwrap_export.weights import WeightsWatch
from agentwrap_protocol.messages import DistributionInfo, PolicyGraph, PolicyInfo, Weights

from .arrays import Array
from .batches import BatchCapture
from .calling import Called, CallingCapture
from .calls import Call
from .capture import PolicyCapture
from .distributions import describe, switches_of
from .errors import ExportError, MissingExtraError
from .extras import TORCH
from .guard import Guard
from .outputs import check_spelling
from .policy import CallableView, PolicyView
from .probing import Probing
from .publisher import Publisher

if TYPE_CHECKING:
    from torch import nn

    from .outlets import Outlets
    from .watching import Act


#: Least seconds between two sums over all weights, however often they may travel: a sum reads them all, in the agent's
#: time. Only what is written through ``.data`` waits for it.
SUM_SECONDS = 2.0

#: Why a function has no graph, for people.
NO_GRAPH = "a function has no computation that could be sent"

#: Steps that may be sent without a call of the policy, until people are told: two seconds of them.
UNCALLED = 120

#: What they are told.
NOT_CALLED = (
    f"It has not acted in {UNCALLED} steps that were looked at. That is so while an agent still explores at random. "
    "Otherwise: seen are calls of the very object that the environment was wrapped with, for one observation of it; "
    "not those of a copy, nor of its layers one by one, nor for what a wrapper outside makes of observations."
)


class Capture(Protocol):
    """Sees what a policy computes; what ``take`` returns is for ``choose``, and what that returns for ``arrays``.

    ``PolicyCapture`` where the policy itself is called, ``BatchCapture`` where that is with the observations of several
    environments, ``WatchCapture`` where a library calls parts of it, ``CallingCapture`` where it is a function whose
    calls cannot be seen. ``row`` is which row of a batch is the environment's, where the policy is called with those
    of several; ``glances`` whether calls are seen, as far as they go, that are not looked at closely; ``misfit`` what
    speaks for it that observations are changed on their way to the policy, for people.
    """

    row: int
    glances: bool

    @property
    def problem(self) -> str | None: ...  # noqa: D102
    @property
    def attached(self) -> bool: ...  # noqa: D102
    @property
    def closely(self) -> bool: ...  # noqa: D102
    @property
    def misfit(self) -> str | None: ...  # noqa: D102
    def attach(self) -> None: ...  # noqa: D102
    def look_closely(self, closely: bool) -> None: ...  # noqa: D102
    def detach(self) -> None: ...  # noqa: D102
    def expect(self, observation: Any) -> None: ...  # noqa: D102
    def take(self) -> Any: ...  # noqa: D102
    def choose(self, seen: Any, observation: Mapping[str, Array]) -> Any: ...  # noqa: D102
    def arrays(self, call: Any) -> dict[str, Array]: ...  # noqa: D102


class PolicyFeed:
    """Follows the policy on the agent's thread and publishes what changes.

    Nothing here runs while nobody watches. The computation is exported once, when somebody first subscribes to it,
    which makes the agent wait for about a second; weights travel when they have changed and somebody wants them, at
    most every ``weights_every`` seconds.

    Attributes:
        capture: The hooks.
        probing: Calls the policy for others, where it cannot be exported.
        info: What hello says about the policy.
        version: Version of the newest weights sent, 0 before the first; of a policy that is called for others, how
            often it was noticed to have changed.
        stale: Whether it has changed since.

    Args:
        view: The policy.
        observation_space: The environment's.
        action_space: For the names of outputs.
        type_name: What the policy is, for people.
        outputs: Names of outputs to use instead.
        layers: Names of submodules to capture too.
        weights_every: Least seconds between two copies of the weights.
        probe_ms_per_s: Milliseconds of each second that a policy which cannot be exported may be called for others.
        guard: Told of what goes wrong.
        quiet: Print nothing.
        rows: Observations that the policy is called with at once, where the environment is one of several; else None.

    Raises:
        UnknownLayerError: The policy has no submodule of that name.
        ValueError: ``outputs`` for a policy whose outputs the adapter names, or one of them is misspelt.
    """

    def __init__(
        self,
        view: PolicyView | CallableView,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        *,
        type_name: str,
        outputs: Sequence[str] | str | None,
        layers: Sequence[str],
        weights_every: float,
        probe_ms_per_s: float,
        guard: Guard,
        quiet: bool = True,
        rows: int | None = None,
    ) -> None:
        self.probing = Probing(probe_ms_per_s)
        self.capture: Capture
        self._policy: nn.Module | None = None
        if isinstance(view, CallableView):
            self.capture = CallingCapture(
                view.call, observation_space, action_space, self.probing, outputs=outputs, guard=guard
            )
        else:
            self.capture, self._policy = _capture(view, action_space, outputs, layers, guard, rows), view.module
        if outputs is not None:
            check_spelling(outputs)
        self.version, self.stale = 0, False
        self._guard, self._quiet, self._action_space = guard, quiet, action_space
        self._problem: str | None = None
        self._weights_every, self._next_weights = weights_every, 0.0
        self._weights: WeightsWatch | None = None  # of what was exported
        self._changes: WeightsWatch | None = None  # of a module that is called for others
        self._told = False  # that the policy has changed
        self._uncalled = 0  # steps without a call of the policy, before the first that has one
        self.info = PolicyInfo(type=type_name, parameters=_count(self._policy), distribution=_distribution(view))

    def update(self, call: Call | Act | Called | None, step: int, publisher: Publisher | Outlets) -> None:
        """Publish what is new, before a step that will be sent.

        Args:
            call: The policy's call for this step, if it was seen.
            step: Number of the step.
            publisher: Where messages go.
        """
        problem = self.capture.problem or (self.probing.problem if self.info.probe is not None else None)
        if problem is not None and problem != self._problem:
            self._problem = problem
            self._tell(publisher, graph="failed", problem=problem, probe=None)
        if call is None and not self.info.outputs:
            self._count_uncalled(publisher)
        if call is not None and call.names != self.info.outputs:
            told = self.info.distribution or _switches(self._action_space, call)
            count = _count(self._policy)
            self._tell(publisher, outputs=call.names, parameters=count, distribution=told, problem=problem)
        if call is not None and self.capture.misfit is not None and self.info.graph != "failed":
            self.tell_why(self.capture.misfit, publisher)
        if call is not None and self.info.graph == "pending" and publisher.wants(PolicyGraph.kind):
            if isinstance(call, Called):
                self._tell(publisher, graph="failed", problem=NO_GRAPH, probe=self.probing.info)
            else:
                self._export(call, publisher)
        if self._weights is not None:
            self._guard.run("watching the weights", self._update_weights, step, publisher)
        elif self.info.probe is not None:
            self._guard.run("watching the weights", self._count_changes)

    def _count_uncalled(self, publisher: Publisher | Outlets) -> None:
        self._uncalled += 1
        if self._uncalled >= UNCALLED and self._policy is not None and self.info.graph == "pending":
            self.tell_why(self.capture.misfit or NOT_CALLED, publisher)

    def tell_why(self, why: str, publisher: Publisher | Outlets, *, about: str = "matching") -> None:
        """Say why nothing of the policy's calls is shown, or why something else than people think."""
        if why == self.info.problem:
            return
        if why != NOT_CALLED:
            self._guard.warn_once(about, why)
        self._tell(publisher, problem=why)

    def policy_changed(self) -> None:
        """Take note that the policy computes something else from now on; from any thread."""
        self._told = True

    def _tell(self, publisher: Publisher | Outlets, **changes: Any) -> None:
        self.info = replace(self.info, **changes)
        publisher.publish_hello()

    def work(self) -> None:
        """Call the policy for others, as far as the budget allows; from within a step or a reset."""
        self._guard.run("probing the policy", self.probing.work)

    def _export(self, call: Call | Act, publisher: Publisher | Outlets) -> None:
        assert self._policy is not None
        if not self._quiet:
            print("agentwrap: exporting the policy for the viewer, the agent pauses once", file=sys.stderr, flush=True)
        try:
            with TORCH.imported():
                from agentwrap_export.export import export_policy
                from agentwrap_export.wrapping import unwrapped
            exported = export_policy(
                self._policy, call.args, call.kwargs, output_names=call.names, batched=call.batched
            )
        except Exception as error:
            self._probe_instead(call, str(error), publisher)
            # a policy may be beyond export, and PyTorch too old for it; anything else is our fault
            if not isinstance(error, ExportError | MissingExtraError):
                self._guard.switch_off("exporting the policy", error)
            return
        constants = {f"constant/{name}": array for name, array in exported.constants.items()}
        graph = PolicyGraph(stream=publisher.stream, time=time.time(), graph=exported.graph, arrays=constants)
        publisher.publish(graph)
        self._weights = WeightsWatch(
            exported.parameters,
            module=unwrapped(self._policy),
            sources=exported.sources,
            every=max(self._weights_every, SUM_SECONDS),
        )
        self._tell(publisher, graph="exported", problem=self.capture.misfit)

    def _probe_instead(self, call: Call | Act, problem: str, publisher: Publisher | Outlets) -> None:
        """A policy that cannot be exported may be called all the same."""
        from .module_box import ModuleBox

        assert self._policy is not None
        try:
            self.probing.open(ModuleBox(self._policy, call.args, call.kwargs, names=call.names, batched=call.batched))
            self._changes = _all_weights(self._policy, self._weights_every)
        except Exception as error:
            problem = f"{problem}; nor can it be probed: {error}"
        self._tell(publisher, graph="failed", problem=problem, probe=self.probing.info)

    def _update_weights(self, step: int, publisher: Publisher | Outlets) -> None:
        assert self._weights is not None
        if self._told:
            self._told = False
            self._weights.suspect()
        self.stale = self._weights.changed()
        now = time.monotonic()
        if not self.stale or now < self._next_weights or not publisher.wants(Weights.kind):
            return
        arrays = dict(self._weights.snapshot())
        self.version, self.stale, self._next_weights = self.version + 1, False, now + self._weights_every
        publisher.publish(
            Weights(stream=publisher.stream, time=time.time(), policy_version=self.version, step=step, arrays=arrays)
        )

    def _count_changes(self) -> None:
        """Tell versions apart of a policy whose weights do not travel, no more often than weights would."""
        watched = self._changes is not None and self._changes.changed()
        self.stale, self._told = self.stale or self._told or watched, False
        now = time.monotonic()
        if self.stale and now >= self._next_weights:
            self.version, self.stale, self._next_weights = self.version + 1, False, now + self._weights_every
            if self._changes is not None:
                self._changes.mark()


def _all_weights(policy: nn.Module, every: float) -> WeightsWatch:
    """Watch a module that was not exported; what it is now counts as its first version, which has no number."""
    names = {**dict(policy.named_parameters()), **dict(policy.named_buffers())}
    watch = WeightsWatch(names, module=policy, sources={name: name for name in names}, every=every)
    watch.mark()
    return watch


def _capture(
    view: PolicyView,
    action_space: gym.Space[Any],
    outputs: Sequence[str] | str | None,
    layers: Sequence[str],
    guard: Guard,
    rows: int | None,
) -> Capture:
    if view.watch is None:
        names = view.names if outputs is None else outputs
        if rows is not None:
            return BatchCapture(view.agent, action_space, rows=rows, outputs=names, layers=layers, guard=guard)
        return PolicyCapture(view.agent, action_space, outputs=names, layers=layers, guard=guard)
    if outputs is not None:
        raise ValueError(f"outputs= is for policies that are called themselves; this one has {', '.join(view.watch)}")
    from .watching import WatchCapture

    return WatchCapture(view, layers=layers, guard=guard, rows=rows)


def _distribution(view: PolicyView | CallableView) -> DistributionInfo | None:
    if isinstance(view, CallableView):
        return None
    return describe(view.distribution, view.watch or view.names or ())


def _switches(space: gym.Space[Any], call: Call | Act | Called) -> DistributionInfo | None:
    """What is told of logits that no adapter has named, where the action is several switches."""
    if isinstance(call, Call):
        shapes = {name: held[0].shape for name, held in zip(call.names, call.outputs, strict=True)}
    else:
        shapes = {name: array.shape for name, array in call.outputs.items()} if isinstance(call, Called) else {}
    return describe(switches_of(space, tuple(shapes["logits"])), call.names) if "logits" in shapes else None


def _count(policy: nn.Module | None) -> int:
    """Number of scalar parameters; those of lazy modules that have not been called are not known yet and left out."""
    if policy is None:
        return 0
    from torch.nn.parameter import is_lazy

    return sum(parameter.numel() for parameter in policy.parameters() if not is_lazy(parameter))
