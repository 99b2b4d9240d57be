"""One observation being explained, chunk by chunk."""

from __future__ import annotations

import numbers
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .attribution import GradientMethod, GradientPart
from .errors import SaliencyError
from .layout import Channels, Kind, Layout, layout_of
from .maps import SaliencyMap
from .method import Context, Method, PerturbingMethod
from .outputs import ACTOR_NAMES, Outputs, Target
from .policies import WHOLE, BoundPolicy, Observation
from .registry import method_class, methods

#: The method taken for each kind of observation when none is named.
DEFAULT_METHODS: Mapping[Kind, str] = {"image": "perturbation", "vector": "feature_perturbation"}

#: Numbers in a chunk of perturbed observations. Measured on 84×84×4 and the Nature CNN, one thread: chunks of 24 to 48
#: are within 2 % of each other, 8 takes 20 % longer, and from 96 the activations fall out of the cache (30 %).
#: Contiguous beats channels-last.
CHUNK_NUMBERS = 2**20
CHUNK_BOUNDS = (8, 512)


class Explanation:
    """One observation being explained: call ``advance`` until ``done``, look at ``maps`` at any time.

    The order of computation depends on nothing but the scores, so that an explanation that was looked at on the way
    ends with the same map as one that was not.

    Attributes:
        forwards: Observations evaluated so far, perturbed ones or those that gradients were taken at.
        seconds: Time spent computing so far.
        single: Whether one map was asked for: one target, one array as observation.
    """

    def __init__(
        self,
        policy: Any,
        observation: Observation,
        *,
        method: str | None = None,
        target: Target | Sequence[Target] | None = None,
        state: Any = None,
        state_axis: int = 0,
        history: Mapping[str, Any] | Any = None,
        channels: Channels = "auto",
        chunk: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Evaluate the observation itself and prepare; for the arguments see ``explain``.

        Raises:
            SaliencyError: Something asked for is not there, or the policy or the observation is not usable; the text
                says what.
        """
        started = time.perf_counter()
        bound = BoundPolicy(policy, observation, state=state, state_axis=state_axis)
        chosen = choose_methods(_layouts(bound, channels), method, options or {})
        past = history if isinstance(history, Mapping) else {WHOLE: history}
        self._parts = [
            _part(bound, entry, layout, configured, target, past.get(entry), chunk)
            for entry, (layout, configured) in chosen.items()
        ]
        self.single = one_target(target) and set(bound.entries) == {WHOLE}
        self.forwards = 0
        self.seconds = time.perf_counter() - started

    @property
    def outputs(self) -> dict[str, np.ndarray[Any, Any]]:
        """Actor's and critic's outputs for the observation itself, by name, without batch axis, flattened."""
        named = self._parts[0].clean.named
        return {
            name: named[name][0].detach().cpu().numpy().ravel() for name in (*ACTOR_NAMES, "value") if name in named
        }

    @property
    def methods(self) -> dict[str, Method]:
        """The method used for each entry of the observation."""
        return {part.entry: part.method for part in self._parts}

    @property
    def level(self) -> int:
        """Levels that are complete, of all entries."""
        return min(part.level for part in self._parts)

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
        """Share of the full computation that is done, 0..1."""
        return self.forwards / sum(part.count for part in self._parts)

    def advance(self) -> None:
        """Evaluate the next chunk of perturbed observations, of the entry that is least refined.

        Raises:
            SaliencyError: The policy's outputs became unusable, for example NaN.
        """
        started = time.perf_counter()
        waiting = [part for part in self._parts if not part.done]
        if waiting:
            self.forwards += min(waiting, key=lambda part: part.level).advance()
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
            )
            for part in self._parts
            for target, grid in zip(part.targets, part.grids(), strict=True)
        )


def _part(
    bound: BoundPolicy,
    entry: str,
    layout: Layout,
    method: Method,
    target: Target | Sequence[Target] | None,
    history: Any,
    chunk: int | None,
) -> _Part | GradientPart:
    if isinstance(method, PerturbingMethod):
        return _Part(bound, entry, layout, method, target, history, chunk)
    if not isinstance(method, GradientMethod):
        raise SaliencyError(f"{method.name} is neither a PerturbingMethod nor a GradientMethod")
    clean = bound.clean(entry)
    targets, resolved = resolve_targets(method, clean, target)
    rows = chunk or chunk_size(bound.entries[entry].numel())
    return GradientPart(bound, entry, layout, method, clean, targets, resolved, rows)


class _Part:
    """The explanation of one entry of the observation, the others held."""

    def __init__(
        self,
        bound: BoundPolicy,
        entry: str,
        layout: Layout,
        method: PerturbingMethod,
        target: Target | Sequence[Target] | None,
        history: Any,
        chunk: int | None,
    ) -> None:
        self.entry, self.method, self._bound = entry, method, bound
        self.clean = bound.clean(entry)
        self.targets, self._resolved = resolve_targets(method, self.clean, target)
        image = bound.entries[entry].to(torch.float32).contiguous()
        self._perturbations = method.perturb(Context(image, layout, _history(history, image)))
        self.arrangement = self._perturbations.arrangement
        self.count = self.arrangement.count
        self._chunk, self._block = chunk or chunk_size(image.numel()), chunk
        self._buffer = image.new_empty((min(self._chunk, self.count), *layout.shape))
        incremental = bound.incremental(entry, layout, self._perturbations)
        self._incremental = incremental if incremental and incremental.keeps(self.count, chunk) else None
        self._scores = image.new_zeros((len(self.targets), self.count))
        self._known = np.zeros(self.count, bool)
        self.level = -1
        self._left: list[torch.Tensor] = []
        self._estimate: torch.Tensor | None = None
        self._next_level()

    @property
    def done(self) -> bool:
        return not self._left

    @property
    def evaluation(self) -> str:
        if self._incremental is None:
            return "dense"
        dense = self._incremental.dense
        return f"incremental, dense from {dense[0]} on" if dense else "incremental"

    def merge_levels(self) -> None:
        """Line up everything at once, if that saves work and nothing has been computed yet."""
        if self._incremental is not None and not self._known.any():
            self.level = len(self.arrangement.levels) - 1
            self._left = self._incremental.blocks(torch.arange(self.count), self._block)

    def advance(self) -> int:
        perturbed = None if self._incremental is None else self._bound.evaluate_masked(self._incremental, self._left[0])
        if perturbed is None:
            self._go_dense()
        indices = self._left.pop(0)
        here = indices.to(self._scores.device)
        if perturbed is None:
            batch = self._buffer[: len(indices)]
            self._perturbations.build(here, batch)
            perturbed = self._bound.evaluate(self.entry, batch)
        scores = [self.method.score(self.clean, perturbed, target) for target in self._resolved]
        self._scores[:, here] = torch.stack(scores)
        self._known[indices.numpy()] = True
        if not self._left:
            self._next_level()
        return len(indices)

    def grids(self) -> list[Any]:
        scores = self._scores.cpu().numpy()
        estimates = [None] * len(scores) if self._estimate is None else self._estimate.cpu().numpy()
        return [
            self.arrangement.grid(row, self._known, estimate) for row, estimate in zip(scores, estimates, strict=True)
        ]

    def _next_level(self) -> None:
        """Line up the next level's chunks, those first that the levels before let expect to matter."""
        self.level += 1
        if self.level >= len(self.arrangement.levels):
            return
        indices = self.arrangement.levels[self.level]
        self._estimate = self.arrangement.estimate(self._scores, self.level)
        expected = None if self._estimate is None else _importance(self._estimate)
        if self._incremental is not None:  # plans are kept for sets of masks: the sets stay, their order may change
            self._left = self._incremental.blocks(indices, self._block)
            if expected is not None:
                self._left.sort(key=lambda block: -float(expected[block].mean()))
            return
        if expected is not None:
            indices = indices[torch.argsort(expected[indices], descending=True, stable=True)]
        self._left = list(torch.split(indices, self._chunk))

    def _go_dense(self) -> None:
        """Cut what is lined up into batches, if it is not yet."""
        if self._incremental is not None:
            self._incremental = None
            self._left = [part for block in self._left for part in torch.split(block, self._chunk)]


def _importance(estimate: torch.Tensor) -> torch.Tensor:
    """Return how much each perturbation is expected to matter, (count,), all targets together."""
    size = estimate.abs()
    return (size / size.amax(1, keepdim=True).clamp(min=torch.finfo(size.dtype).tiny)).sum(0).cpu()


def chunk_size(numbers: int) -> int:
    """Return how many observations of this many numbers are evaluated at a time."""
    low, high = CHUNK_BOUNDS
    return min(max(CHUNK_NUMBERS // numbers, low), high)


def choose_methods(
    layouts: Mapping[str, Layout], method: str | None, options: Mapping[str, Any]
) -> dict[str, tuple[Layout, Method]]:
    """Choose a method for each entry of an observation that can be explained.

    Without a name, each entry gets its kind's default, and of the options those that it has.

    Raises:
        SaliencyError: The method explains none of the entries, or an option belongs to none of the methods.
    """
    named = None if method is None else method_class(method)
    kinds = {entry: named or method_class(DEFAULT_METHODS[layout.kind]) for entry, layout in layouts.items()}
    fitting = {entry: kind for entry, kind in kinds.items() if layouts[entry].kind in kind.observations}
    if not fitting:
        raise SaliencyError(_does_not_fit(method, layouts))
    for name in options:
        if not any(name in kind.options() for kind in fitting.values()):
            next(iter(fitting.values())).configured({name: options[name]})  # raises, naming the options there are
    chosen = {}
    for entry, kind in fitting.items():
        own = {name: value for name, value in options.items() if name in kind.options()}
        chosen[entry] = (layouts[entry], kind.configured(own))
    return chosen


def one_target(target: Any) -> bool:
    """Whether ``target`` is a single one, not several or none in particular."""
    return isinstance(target, str | numbers.Integral)


def resolve_targets(
    method: Method, clean: Outputs, target: Target | Sequence[Target] | None
) -> tuple[tuple[Target, ...], tuple[Target, ...]]:
    """Return the targets asked for, and the same with ``chosen`` replaced by the action's index.

    None asks for the method's own targets as far as the policy has them.

    Raises:
        SaliencyError: The method is not defined for a target, or the policy has nothing of the kind.
    """
    if target is None:
        wanted: tuple[Target, ...] = tuple(name for name in method.targets if name in clean.targets)
        wanted = wanted or tuple(name for name in method.fallback if name in clean.targets)
        if not wanted:
            raise SaliencyError(f"{method.name} explains {', '.join(method.targets)}; this policy has none of them")
    else:
        several: Sequence[Any] = [target] if one_target(target) else target  # type: ignore[assignment]
        wanted = tuple(name if isinstance(name, str) else int(name) for name in several)
    for name in wanted:
        if ("action" if isinstance(name, int) else name) not in method.accepts:
            accepted = ", ".join("an action's index" if name == "action" else name for name in method.accepts)
            raise SaliencyError(f"{method.name} is not defined for target {name!r}, but for {accepted}")
    resolved = tuple(clean.action() if name == "chosen" else name for name in wanted)
    for name in resolved:
        clean.columns(name)
    return wanted, resolved


def _layouts(bound: BoundPolicy, channels: Channels) -> dict[str, Layout]:
    if WHOLE in bound.entries:
        return {WHOLE: layout_of(tuple(bound.entries[WHOLE].shape), channels)}
    continuous = {
        entry: tensor
        for entry, tensor in bound.entries.items()
        if 1 <= tensor.ndim <= 4
        and (tensor.is_floating_point() or tensor.dtype in (torch.uint8, torch.int8, torch.bool))
    }
    return {entry: layout_of(tuple(tensor.shape), channels) for entry, tensor in continuous.items()}


def _history(history: Any, image: torch.Tensor) -> torch.Tensor:
    if history is None:
        return image.new_empty((0, *image.shape))
    past = torch.as_tensor(np.asarray(history) if not isinstance(history, torch.Tensor) else history)
    past = past.to(image.device, torch.float32)
    if past.shape[1:] != image.shape:
        raise SaliencyError(f"history has shape {tuple(past.shape)}; wanted is (k, {', '.join(map(str, image.shape))})")
    return past


def _does_not_fit(method: str | None, layouts: Mapping[str, Layout]) -> str:
    if not layouts:
        return "the observation has no entry that is an image or a vector of numbers"
    kinds = sorted({layout.kind for layout in layouts.values()})
    others = sorted(name for name, kind in methods().items() if set(kinds) & set(kind.observations))
    return f"{method} does not explain a {' or '.join(kinds)} observation; {', '.join(others)} do"
