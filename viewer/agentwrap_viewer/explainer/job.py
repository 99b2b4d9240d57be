"""One step being explained."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agentwrap_protocol.messages import Explain, SaliencyMap, Step
from agentwrap_viewer.saliency import Explanation, Method, Request
from agentwrap_viewer.saliency import SaliencyMap as Map

from .catalogue import default_method, plain_options
from .past import PastWeights, has_past, look_back
from .probed import Arrays
from .targets import Aim
from .tracking import Policy

#: Milliseconds of computing after which a map is published though its level is not complete.
SLICE_MS = 25.0

#: Outputs of the replica that are compared with the agent's.
COMPARED = ("logits", "q_values", "mean", "value")


@dataclasses.dataclass(frozen=True)
class Moment:
    """A step to explain, whether it was streamed or asked for.

    Attributes:
        source: The stream it belongs to.
        step: Its number.
        episode: Its episode.
        policy_version: Version of the weights it was taken with, at least.
        policy_stale: Whether they had changed since.
        time: When it was taken, on the agent's clock.
        arrays: What the policy saw and computed.
        episode_step: Its number in its episode, None where that is not known.
        whole: Whether its map is wanted to the end, in no hurry.
    """

    source: str
    step: int
    episode: int
    policy_version: int
    policy_stale: bool
    time: float
    arrays: Arrays
    episode_step: int | None = None
    whole: bool = False

    @classmethod
    def of_step(cls, step: Step) -> Moment:
        """Make one of a streamed step."""
        return cls(
            step.stream,
            step.step,
            step.episode,
            step.policy_version,
            step.policy_stale,
            step.time,
            step.arrays,
            step.episode_step,
        )

    @classmethod
    def of_request(cls, request: Explain) -> Moment:
        """Make one of a request."""
        return cls(
            request.source,
            request.step,
            request.episode,
            request.policy_version,
            request.policy_stale,
            request.step_time,
            request.arrays,
            whole=request.whole,
        )


class Job:
    """The explanation of a moment.

    Attributes:
        moment: What is explained.
        explanation: How far it is.
        policy: The policy that it computes with.
        version: Version of the weights it is computed with.
    """

    def __init__(
        self,
        moment: Moment,
        policy: Policy,
        method: str | None,
        options: Mapping[str, Any],
        *,
        aim: Aim | None = None,
        before: Sequence[Moment] = (),
    ) -> None:
        """Begin.

        Args:
            moment: What to explain.
            policy: The policy.
            method: Name of the method, None for the observation's default.
            options: The method's options.
            aim: What of the policy's outputs is explained; None for what the method explains of itself.
            before: Steps before, the newest first.

        Raises:
            GraphError: The step does not have what the policy needs.
            SaliencyError: The policy's outputs are not usable, or the method does not suit.
            Unanswered: The agent has not said yet what the policy computes for the step: begin again when it has.
        """
        observation, state = policy.inputs(moment.arrays)
        self._aim = aim or Aim()
        self.explanation = Explanation(
            policy.replica,
            observation,
            Request(
                method=method,
                every_entry=True,
                state=state,
                history=policy.history(),
                options=options,
                chunk=policy.chunk,
                predict=False,  # the coarsest masks are there as soon, and a map that is watched rests on masks
                **self._aim.request(moment.arrays),
            ),
        )
        self.moment, self.version = moment, policy.version
        self._wanted = method or default_method(policy.graph)
        self._published = self._published_level = 0
        self._published_ms = 0.0
        self._difference = max_abs_diff(self.explanation.outputs, moment.arrays)
        self.policy, self._before = policy, before
        self._past: PastWeights | None = None
        self._looked_back, self._looked_ms, self._past_published = not has_past(policy, observation), 0.0, True

    @property
    def done(self) -> bool:
        """Whether nothing is left to compute."""
        return self.explanation.done and self._looked_back

    @property
    def spent_ms(self) -> float:
        """Milliseconds of computing so far."""
        return 1000 * self.explanation.seconds + self._looked_ms

    def advance(self) -> None:
        """Compute a part: the coarsest map, then what the frames before weigh, then finer maps.

        Raises:
            SaliencyError: The policy's outputs became unusable.
        """
        if self.explanation.done or (self.coarse_published and not self._looked_back):
            began = time.perf_counter()
            self._past, self._looked_back = look_back(self.policy, self.moment, self._before, self._aim), True
            self._looked_ms = 1000 * (time.perf_counter() - began)
            self._past_published = self._past is None
        else:
            self.explanation.advance()

    @property
    def coarse_published(self) -> bool:
        """Whether the coarsest map at least was published."""
        return self._published > 0

    @property
    def unpublished(self) -> bool:
        """Whether something was computed since the last publication."""
        return self.explanation.forwards > self._published or not self._past_published

    @property
    def due(self) -> bool:
        """Whether to publish now: a level is complete, or ``SLICE_MS`` have gone into a finer one."""
        sliced = self.coarse_published and self.spent_ms - self._published_ms > SLICE_MS
        return self.explanation.level > self._published_level or sliced or not self._past_published

    def message(self, stream: str) -> SaliencyMap:
        """Return the maps as they are now, to be published; ``seq`` and ``time`` are filled in by who publishes."""
        maps, past = self.explanation.maps(), self._past
        explained = tuple(dict.fromkeys(item.target for item in maps))
        self._past_published = True
        self._published, self._published_level = self.explanation.forwards, self.explanation.level
        self._published_ms = self.spent_ms
        first, others = self._methods()
        return SaliencyMap(
            stream=stream,
            source=self.moment.source,
            step=self.moment.step,
            episode=self.moment.episode,
            scale=first.scale,
            policy_version=self.version,
            method=first.name,
            entry_methods={entry: method.name for entry, method in others.items()},
            entry_scales={entry: method.scale for entry, method in others.items()},
            options=plain_options(first),
            target=self._aim.name,
            targets=tuple(map(str, explained)),
            titles=self._aim.titles(explained, self.explanation.chosen),
            refined=self.explanation.refined,
            seconds=self.explanation.seconds,
            forwards=self.explanation.forwards,
            replica_max_abs_diff=self._difference,
            policy_stale=self.moment.policy_stale,
            step_time=self.moment.time,
            past=None if past is None else past.kind,
            past_problem=None if past is None else past.problem,
            arrays={
                **_arrays(maps),
                **{f"past/{name}": each for name, each in (past.weights if past else {}).items()},
                **{f"output/{name}": each for name, each in self.explanation.outputs.items()},
            },
        )

    def _methods(self) -> tuple[Method, dict[str, Method]]:
        """Return the method that was asked for or is the policy's default, and by entry those of all others."""
        methods = self.explanation.methods
        main = next((each for each in methods.values() if each.name == self._wanted), next(iter(methods.values())))
        return main, {entry: each for entry, each in methods.items() if each.name != main.name}


def max_abs_diff(computed: Arrays, arrays: Arrays) -> float | None:
    """Return the largest difference between outputs computed here and a step's; None where nothing can be compared."""
    differences = [
        float(np.abs(computed[name] - arrays[f"output/{name}"].reshape(-1)).max(initial=0.0))
        for name in COMPARED
        if name in computed and f"output/{name}" in arrays and arrays[f"output/{name}"].size == computed[name].size
    ]
    return max(differences, default=None)


def _arrays(maps: tuple[Map, ...]) -> dict[str, np.ndarray[Any, Any]]:
    arrays = {}
    for item in maps:
        name = f"{item.target}/{item.entry}" if item.entry else f"{item.target}"
        if item.heatmap.ndim == 1:
            arrays[f"features/{name}"] = item.heatmap
        else:
            arrays[f"heatmap/{name}"], arrays[f"grid/{name}"] = item.heatmap, item.grid
    return arrays
