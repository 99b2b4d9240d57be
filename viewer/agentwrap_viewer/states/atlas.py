"""The map itself: points, where they are, and when they have to be laid out anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentwrap_protocol.messages import Hello, Step

from .columns import RETURN_TO_GO, columns_of, row_of
from .errors import StatesError
from .layouts import LEAST, LEAST_TSNE, Layout, Method, NeighbourLayout, PrincipalLayout
from .memory import MAX_BYTES, MAX_POINTS, Indices, StateMemory

#: Points of which a layout is made at most; the others are placed among them.
SAMPLE = 4000

#: A layout is made anew when the points have become more by this factor; and where they cannot, when so many times
#: ``SAMPLE`` others have come.
GROWTH, CHANGE = 1.5, 1.0

#: Numbers of a latent at most: of a larger one too few would be kept.
MAX_SIZE = 2**17

#: Array that is taken where none is named.
LATENT = "latent"

MISSING = (
    "The steps hold no latent activations: none was found between the policy's parts. Name a layer, "
    "InterpretWrapper(env, policy, layers=[...]), with one of the names of policy.named_modules()."
)


class Fit:
    """A layout under computation, for a thread of its own: ``run`` uses nothing that the atlas changes meanwhile."""

    def __init__(self, atlas: Atlas, slots: Indices, *, again: bool) -> None:
        self.slots, self.step, self.again = slots, atlas.memory.step[slots].copy(), again
        self.generation, self.arrived = atlas.generation, atlas.arrived
        self.count = len(atlas.memory)
        self.progress = 0.0
        self.cancelled = False
        self.layout: NeighbourLayout | None = None
        self._sample, self._before = atlas.memory.latents(slots), atlas.xy[slots].copy()
        self._perplexity = atlas.perplexity

    def run(self) -> None:
        """Compute the layout; None where it was cancelled."""
        self.layout = NeighbourLayout.of(
            self._sample,
            before=self._before,
            again=self.again,
            perplexity=self._perplexity,
            on_progress=self._report,
        )

    def _report(self, share: float) -> bool:
        self.progress = share
        return self.cancelled


class Atlas:
    """A map of the inner states of an agent in the steps seen so far.

    Args:
        hello: Who acts.
        layer: Which of the steps' ``output/…`` arrays: ``latent``, or ``layer/<module>``; None takes the latent, else
            the first layer.
        perplexity: See ``NeighbourLayout.of``.
        max_points: Points to keep.
        max_bytes: Bytes of latents to keep.

    Attributes:
        memory: The points.
        xy: float32 (capacity, 2): where they are, in no unit; NaN before there is a layout.
        columns: What points are coloured by.
        layers: Names that ``layer`` may be, as far as seen.
        arrived: Points added so far.
        left_out: Steps left out because their latent holds NaN or infinities.
        without: Steps that hold no latent at all.
        notes: What happened that one should know, newest last.
        generation: Grows when the map begins anew.
        episode: int64 (capacity,): the points' episodes.
        placed, changed: int64 (capacity,): grow with each change of a point's place, and of its step or scalars.
    """

    def __init__(
        self,
        hello: Hello,
        *,
        layer: str | None = None,
        perplexity: float = 30.0,
        max_points: int = MAX_POINTS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.hello, self.columns, self.layer, self.perplexity = hello, columns_of(hello), layer, perplexity
        self.layers: list[str] = []
        self.notes: list[str] = []
        self.generation = 0
        self._bounds: dict[str, int] = {"max_points": max_points, "max_bytes": max_bytes}
        self._clock = 0
        self._returns: dict[int, float] = {}
        self._begin(0)

    def _begin(self, size: int) -> None:
        self.memory = StateMemory(size, len(self.columns), **(self._bounds if size else {"max_points": 2}))
        capacity = self.memory.capacity
        self.xy = np.full((capacity, 2), np.nan, np.float32)
        self.placed, self.changed = np.zeros(capacity, np.int64), np.zeros(capacity, np.int64)
        self.episode, self._before = np.full(capacity, -1, np.int64), np.full(capacity, np.nan)
        self.layout: Layout | None = None
        self._fitted = (0, 0)  # points there were when the layout was made, and points that had arrived
        self.arrived = self.left_out = self.without = 0
        self.generation += 1

    # What comes.

    def add(self, steps: Sequence[Step]) -> None:
        """Add steps, and place them. Those without a latent and those whose latent is no number are counted.

        Raises:
            StatesError: A latent is larger than any that can be kept.
        """
        slots = [slot for step in steps if (slot := self._add(step)) is not None]
        if slots:
            self._place(np.unique(np.array(slots, np.int64)))

    def _add(self, step: Step) -> int | None:
        latent = self._latent_of(step)
        if latent is None:
            self.without += 1
            return None
        if not np.isfinite(latent).all():
            self.left_out += 1
            return None
        if latent.size != self.memory.size:
            self._change_size(latent.size, step.step)
        slot = self.memory.slot_of(step.step)
        if slot is None:
            slot = self.memory.add(step.step, latent)
            self.arrived += 1
        self.memory.rows[slot] = row_of(step, self.hello, self.columns)
        self.episode[slot], self._before[slot] = step.episode, step.episode_return - step.reward
        if step.episode in self._returns:
            self.memory.rows[slot, RETURN_TO_GO] = self._returns[step.episode] - self._before[slot]
        self._touch(self.changed, slot)
        return slot

    def _latent_of(self, step: Step) -> NDArray[np.float32] | None:
        for name in step.arrays:
            short = name.removeprefix("output/")
            if short == LATENT or short.startswith("layer/") and short not in self.layers:
                self._know(short)
        wanted = self.layer or (LATENT if f"output/{LATENT}" in step.arrays else next(iter(self.layers), LATENT))
        array = step.arrays.get(f"output/{wanted}")
        if array is None or not array.size or array.dtype.kind not in "biuf":
            return None
        with np.errstate(over="ignore"):
            return array.reshape(-1).astype(np.float32)

    def _know(self, layer: str) -> None:
        if layer not in self.layers and len(self.layers) < 64:
            self.layers = sorted({*self.layers, layer}, key=lambda name: (name != LATENT, name))

    def _change_size(self, size: int, step: int) -> None:
        if size > MAX_SIZE:
            raise StatesError(f"a latent of {size:,} numbers is more than the {MAX_SIZE:,} of a map: name a layer")
        before = self.memory.size
        if before:
            self.notes = [
                *self.notes[-3:],
                f"At step {step:,} the latent changed from {before:,} to {size:,} numbers: this is another network, "
                "and its map began anew.",
            ]
        self._begin(size)

    def end_episode(self, episode: int, episode_return: float) -> None:
        """Tell what an episode returned: from then on the return to go of its steps is known."""
        if self._returns.get(episode) == episode_return:
            return
        self._returns[episode] = episode_return
        while len(self._returns) > 10_000:
            del self._returns[next(iter(self._returns))]
        slots = np.flatnonzero(self.episode == episode)
        self.memory.rows[slots, RETURN_TO_GO] = episode_return - self._before[slots]
        self._touch(self.changed, slots)

    # Where it lies.

    def _place(self, slots: Indices) -> None:
        if self.layout is None or (self.layout.method == "pca" and self._has_grown):
            self.lay_out()
        elif self.layout is not None:
            self.xy[slots] = self.layout.place(self.memory.latents(slots))
            self._touch(self.placed, slots)

    def lay_out(self) -> None:
        """Find the principal components of what there is, and place all by them; nothing where there is too little."""
        if len(self.memory) >= LEAST:
            sample = self._sample()
            before = self.xy[sample].copy() if self.layout is not None else None
            if before is not None:  # new ones have no place yet
                sample, before = sample[known := np.isfinite(before).all(1)], before[known]
            self.adopt(PrincipalLayout.of(self.memory.latents(sample), before=before))

    def adopt(self, layout: Layout) -> None:
        """Place all points by another layout."""
        self.layout = layout
        self._fitted = len(self.memory), self.arrived
        everyone = np.arange(len(self.memory))
        for begin in range(0, len(everyone), 8192):
            part = everyone[begin : begin + 8192]
            self.xy[part] = layout.place(self.memory.latents(part))
        self._touch(self.placed, everyone)

    @property
    def _has_grown(self) -> bool:
        count, arrived = self._fitted
        return len(self.memory) >= GROWTH * count or self.arrived - arrived >= CHANGE * len(self.memory)

    @property
    def wants_fit(self) -> bool:
        """Whether a t-SNE of what there is would say more than the layout there is."""
        if self.layout is None or len(self.memory) < LEAST_TSNE:
            return False
        return self.layout.method == "pca" or self._has_grown

    def begin_fit(self) -> Fit:
        """Begin a t-SNE: have ``run`` called, in whatever thread, and then ``finish_fit``.

        Raises:
            StatesError: There are too few points; says how many are missing.
        """
        if self.layout is None:
            raise StatesError(self.problem or "there is no map yet")
        return Fit(self, self._sample(), again=self.layout.method == "tsne")

    def finish_fit(self, fit: Fit) -> bool:
        """Use a layout that was computed; False where it is of points that are gone."""
        if fit.layout is None or fit.generation != self.generation:
            return False
        self.adopt(fit.layout)
        kept = self.memory.step[fit.slots] == fit.step
        self.xy[fit.slots[kept]] = fit.layout.xy[kept]
        self._fitted = fit.count, fit.arrived
        return True

    def _sample(self) -> Indices:
        count = len(self.memory)
        if count <= SAMPLE:
            return np.arange(count)
        return np.sort(np.random.default_rng(self.arrived).choice(count, SAMPLE, replace=False))

    def _touch(self, versions: NDArray[np.int64], slots: Any) -> None:
        self._clock += 1
        versions[slots] = self._clock

    # What one wants to know of it.

    def __len__(self) -> int:
        return len(self.memory)

    @property
    def method(self) -> Method | None:
        """How points are laid out now; None before there are enough."""
        return self.layout.method if self.layout is not None else None

    @property
    def step(self) -> Indices:
        """Numbers of the points' steps, int64 (n,)."""
        return self.memory.step[: len(self)]

    def column(self, name: str) -> NDArray[np.float32]:
        """Return what points are coloured by, float32 (n,); NaN where unknown.

        Raises:
            StatesError: There is no such column.
        """
        names = [column.name for column in self.columns]
        if name not in names:
            raise StatesError(f"there is no column {name!r}; there are {', '.join(names)}")
        return self.memory.rows[: len(self), names.index(name)]

    @property
    def problem(self) -> str | None:
        """Why there is no map, for people; None where there is one."""
        if self.layout is not None:
            return None
        if not len(self.memory) and self.without >= LEAST:
            return MISSING if self.layer is None else f"The steps hold no {self.layer!r}. {self._offered}"
        if self.left_out >= LEAST and not len(self.memory):
            return f"The latents of all {self.left_out:,} steps hold NaN or infinities: there is nothing to lay out."
        missing = LEAST - len(self.memory)
        return f"A map needs at least {LEAST} steps with latents; {missing} more are missing."

    @property
    def _offered(self) -> str:
        return f"They hold {', '.join(self.layers)}." if self.layers else MISSING

    def neighbours(self, step: int, count: int = 8, *, apart: int = 20) -> list[tuple[int, float]]:
        """Return the steps whose latents are nearest to that of a step, nearest first.

        Args:
            step: Number of a step of this map.
            count: How many at most.
            apart: Steps of one episode that are nearer than this to the step or to one found are left out: what is one
                step away is always alike.

        Returns:
            (number of the step, distance): the distance as a share of the mean distance from it to all.

        Raises:
            StatesError: The step is not in the map.
        """
        slot = self.memory.slot_of(step)
        if slot is None:
            raise StatesError(f"step {step:,} is not in the map: it holds no latent, or is no longer kept")
        distances = self._distances(slot)
        mean = float(distances.mean()) or 1.0
        found: list[tuple[int, float]] = []
        taken = [slot]
        for other in np.argsort(distances, kind="stable"):
            if len(found) >= count:
                break
            if all(self._far(int(other), near, apart) for near in taken):
                taken.append(int(other))
                found.append((int(self.memory.step[other]), float(distances[other]) / mean))
        return found

    def _distances(self, slot: int) -> NDArray[np.float32]:
        query = self.memory.latents(np.array([slot]))[0]
        parts = [np.arange(begin, min(begin + 4096, len(self))) for begin in range(0, len(self), 4096)]
        return np.concatenate([np.linalg.norm(self.memory.latents(part) - query, axis=1) for part in parts])

    def _far(self, one: int, other: int, apart: int) -> bool:
        if one == other:
            return False
        same = self.episode[one] == self.episode[other]
        return not same or abs(int(self.memory.step[one] - self.memory.step[other])) >= apart

    def inside(self, polygon: NDArray[Any]) -> Indices:
        """Return the slots of the points within a polygon, by the numbers of their steps.

        Args:
            polygon: Its corners, (k, 2) in the map's coordinates; the last is joined to the first. Where it crosses
                itself, the even-odd rule holds.
        """
        x, y = self.xy[: len(self)].T
        found = np.zeros(len(self), bool)
        with np.errstate(divide="ignore", invalid="ignore"):
            for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
                found ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
        slots = np.flatnonzero(found)
        return slots[np.argsort(self.memory.step[slots])]

    def fit(self) -> None:
        """Compute a t-SNE of what there is now, in this thread; ``begin_fit`` is for others.

        Raises:
            StatesError: There are too few points; says how many are missing.
        """
        fit = self.begin_fit()
        fit.run()
        self.finish_fit(fit)
