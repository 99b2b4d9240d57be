"""One observation being explained, chunk by chunk."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from agentwrap_export.arrays import tensor_to_array

from .attribution import GradientMethod, GradientPart
from .choices import Choices
from .errors import SaliencyError, Unanswered
from .layout import Channels, Kind, Layout, layout_of, layout_of_entry
from .maps import SaliencyMap
from .method import Method, PerturbingMethod
from .outputs import ACTOR_NAMES, CRITIC_NAMES
from .perturbed import PerturbedPart
from .policies import WHOLE, BoundPolicy, Observation
from .registry import method_class, methods
from .request import Request
from .subject import Subject
from .targets import one_target

#: The method taken for each kind of observation when none is named.
DEFAULT_METHODS: Mapping[Kind, str] = {"image": "perturbation", "vector": "feature_perturbation"}


class Explanation:
    """One observation being explained: call ``advance`` until ``done``, look at ``maps`` at any time.

    The order of computation depends on nothing but the scores, so that an explanation that was looked at on the way
    ends with the same map as one that was not.

    Attributes:
        forwards: Observations evaluated so far, perturbed ones or those that gradients were taken at.
        seconds: Time spent computing so far, waiting for answers included.
        single: Whether one map was asked for: one target, one array as observation.
    """

    def __init__(self, policy: Any, observation: Observation, request: Request | None = None) -> None:
        """Evaluate the observation itself and prepare.

        Args:
            policy: As in ``explain``.
            observation: One observation.
            request: What is asked about it.

        Raises:
            SaliencyError: Something asked for is not there, or the policy or the observation is not usable; the text
                says what.
        """
        started = time.perf_counter()
        request = request or Request()
        bound = BoundPolicy(
            policy,
            observation,
            state=request.state,
            state_axis=request.state_axis,
            choices=Choices.of(request.choices, request.action_mask),
        )
        chosen = choose_methods(
            _layouts(bound, request.channels), request.method, request.options, every=request.every_entry
        )
        self._parts = [
            _part(Subject(bound, entry, layout, request), method) for entry, (layout, method) in chosen.items()
        ]
        self.single = one_target(request.target) and set(bound.entries) == {WHOLE}
        self.forwards = 0
        self._asked: float | None = None  # when the chunk was evaluated first that is not answered yet
        self.seconds = time.perf_counter() - started

    @property
    def outputs(self) -> dict[str, np.ndarray[Any, Any]]:
        """Actor's and critic's outputs for the observation itself, by name, without batch axis, flattened."""
        named = self._parts[0].clean.named
        known = [name for name in (*ACTOR_NAMES, *CRITIC_NAMES) if name in named]
        return {name: tensor_to_array(named[name][0]).ravel() for name in known}

    @property
    def chosen(self) -> int | tuple[int, ...] | None:
        """The option that the policy prefers for the observation, of several choices that of each; None without any."""
        clean = self._parts[0].clean
        return clean.action() if "chosen" in clean.targets else None

    @property
    def methods(self) -> dict[str, Method]:
        """The method used for each entry of the observation."""
        return {part.entry: part.method for part in self._parts}

    @property
    def level(self) -> int:
        """Levels that are complete, of all entries that are not done: they have different numbers of levels."""
        levels = [part.level for part in self._parts if not part.done]
        return min(levels) if levels else max(part.level for part in self._parts)

    @property
    def evaluation(self) -> str:
        """How observations are evaluated, for people: ``gradient``, ``incremental`` or ``dense``, and why."""
        return "; ".join(dict.fromkeys(part.evaluation for part in self._parts))

    @property
    def done(self) -> bool:
        """Whether nothing is left to compute."""
        return all(part.done for part in self._parts)

    @property
    def refined(self) -> float:
        """Share of the full computation that is done or, where the map is flat, left out; 0..1."""
        return (self.forwards + sum(part.skipped for part in self._parts)) / sum(part.count for part in self._parts)

    def advance(self) -> None:
        """Evaluate the next chunk of perturbed observations, of the entry that is least refined.

        The first call evaluates none where gradients predict all of what is to be computed: that can be looked at.

        Raises:
            SaliencyError: The policy's outputs became unusable, for example NaN.
            Unanswered: The policy is asked elsewhere and has not answered yet: call again when it has.
        """
        started = time.perf_counter() if self._asked is None else self._asked
        waiting = [part for part in self._parts if not part.done]
        try:
            predicted = not self.forwards and all([part.predict() for part in self._parts])
            if waiting and not predicted:
                self.forwards += min(waiting, key=lambda part: part.level).advance()
        except Unanswered:
            self._asked = started
            raise
        self._asked = None
        self.seconds += time.perf_counter() - started

    def complete(self) -> None:
        """Compute all that is left, with nothing to look at on the way.

        Raises:
            SaliencyError: As ``advance``.
        """
        for part in self._parts:
            part.merge_levels()
        while not self.done:
            self.advance()

    def maps(self) -> tuple[SaliencyMap, ...]:
        """Return the maps as they are now: for each entry explained, one for each target."""
        return tuple(
            SaliencyMap(
                grid=grid,
                heatmap=part.arrangement.heatmap(grid),
                method=part.method.name,
                target=target,
                options=part.method.values,
                seconds=self.seconds,
                forwards=self.forwards,
                refined=self.refined,
                entry=part.entry,
                evaluation=part.evaluation,
                precision=part.precision,
            )
            for part in self._parts
            for target, grid in zip(part.targets, part.grids(), strict=True)
        )


def _part(subject: Subject, method: Method) -> PerturbedPart | GradientPart:
    if isinstance(method, PerturbingMethod):
        return PerturbedPart(subject, method)
    if isinstance(method, GradientMethod):
        return GradientPart(subject, method)
    raise SaliencyError(f"{method.name} is neither a PerturbingMethod nor a GradientMethod")


def choose_methods(
    layouts: Mapping[str, Layout], method: str | None, options: Mapping[str, Any], *, every: bool = False
) -> dict[str, tuple[Layout, Method]]:
    """Choose a method for each entry of an observation that can be explained.

    Without a name, each entry gets its kind's default, and of the options those that it has. A method that is named
    explains the entries that it suits, and the options are its own; with ``every``, other entries get their kind's
    default as it is.

    Raises:
        SaliencyError: The method explains none of the entries, or an option belongs to none of the methods.
    """
    named = None if method is None else method_class(method)
    defaults = {entry: method_class(DEFAULT_METHODS[layout.kind]) for entry, layout in layouts.items()}
    kinds = {entry: named or default for entry, default in defaults.items()}
    fitting = {entry: kind for entry, kind in kinds.items() if kind.suits(layouts[entry])}
    if not fitting:
        raise SaliencyError(_does_not_fit(method, layouts))
    for name in options:
        if not any(name in kind.options() for kind in fitting.values()):
            next(iter(fitting.values())).configured({name: options[name]})  # raises, naming the options there are
    chosen = {}
    for entry in layouts if every else fitting:
        kind = fitting.get(entry, defaults[entry])
        own = {name: value for name, value in options.items() if entry in fitting and name in kind.options()}
        chosen[entry] = (layouts[entry], kind.configured(own))
    return chosen


def _layouts(bound: BoundPolicy, channels: Channels) -> dict[str, Layout]:
    if WHOLE in bound.entries:
        layout = layout_of(tuple(bound.entries[WHOLE].shape), channels)
        return {WHOLE: replace(layout, discrete=layout.kind == "vector" and bound.is_discrete(WHOLE))}
    found = {
        entry: layout_of_entry(tuple(tensor.shape), tensor.dtype, channels) for entry, tensor in bound.entries.items()
    }
    return {entry: layout for entry, layout in found.items() if layout is not None}


def _does_not_fit(method: str | None, layouts: Mapping[str, Layout]) -> str:
    if not layouts:
        return "the observation has no entry that is an image or a vector of numbers"
    kinds = sorted({layout.kind for layout in layouts.values()})
    whole = " of whole numbers that are looked up" if any(layout.discrete for layout in layouts.values()) else ""
    others = sorted(name for name, kind in methods().items() if any(map(kind.suits, layouts.values())))
    article, do = "an" if kinds[0] == "image" else "a", "does" if len(others) == 1 else "do"
    return f"{method} does not explain {article} {' or '.join(kinds)} observation{whole}; {', '.join(others)} {do}"
