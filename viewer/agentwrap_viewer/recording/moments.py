"""Moments worth looking at, found in a recording by what was streamed: no policy is run for them.

What "unusually large" means is said by modified z-scores (Iglewicz & Hoaglin 1993, How to Detect and Handle Outliers):
the distance from the median in units of 1.4826 times the median absolute deviation, which a few outliers do not move as
they move mean and standard deviation. Where more than half of the values are alike, so that this deviation is 0, the
unit is 1.2533 times the mean absolute deviation.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .scalars import entropies, rewards, values

if TYPE_CHECKING:
    from .recording import Recording

Floats = NDArray[np.float64]

#: Steps read at a time.
PART = 8192


@dataclass(frozen=True)
class Moment:
    """A step worth looking at.

    Attributes:
        index: Its place in ``Recording.steps``.
        step: Its number.
        kind: One of ``KINDS``, or ``action_flip`` (``recording.flips``).
        text: What happened, for people.
        score: How unusual it is, larger meaning more: a modified z-score; 0 for what either happens or does not.
    """

    index: int
    step: int
    kind: str
    text: str = ""
    score: float = 0.0


@dataclass(frozen=True)
class Criteria:
    """What counts as a moment.

    Attributes:
        threshold: Least modified z-score of value drops, entropy peaks and TD errors; 3.5 is the source's advice.
        gamma: Discount of TD errors, 0…1.
        over: Steps over which a value drop is measured: a value that is to fall seldom does so in one step.
        apart: Least steps between two moments of one of these kinds: of those nearer the most unusual is taken.
        most: Most moments of one kind: the most unusual; of other kinds as many, evenly spread.

    Raises:
        ValueError: One of them is out of range.
    """

    threshold: float = 3.5
    gamma: float = 0.99
    over: int = 5
    apart: int = 15
    most: int = 100

    def __post_init__(self) -> None:
        """Check ranges."""
        lowest = {"threshold": 0.0, "gamma": 0.0, "over": 1, "apart": 0, "most": 1}
        for field in fields(self):
            if not getattr(self, field.name) >= lowest[field.name]:
                raise ValueError(
                    f"{field.name} is {getattr(self, field.name)}; it has to be {lowest[field.name]:g} at least"
                )
        if self.gamma > 1:
            raise ValueError(f"gamma is {self.gamma}; a discount is 1 at most")


def find(recording: Recording, kinds: Collection[str] | None = None, criteria: Criteria | None = None) -> list[Moment]:
    """Find moments of a recording, in the order of steps.

    Args:
        recording: The recording.
        kinds: Which of ``KINDS``; None for all.
        criteria: What counts as one.

    Raises:
        ValueError: There is no such kind.
        RecordingError: The recording's index cannot be read.
    """
    wanted = tuple(KINDS) if kinds is None else tuple(kinds)
    if unknown := [kind for kind in wanted if kind not in KINDS]:
        raise ValueError(f"no moments of kind {unknown[0]!r}; there are {', '.join(KINDS)}")
    run = Run(recording)
    found = [moment for kind in wanted for moment in KINDS[kind](run, criteria or Criteria())]
    return sorted(found, key=lambda moment: (moment.index, moment.kind))


class Run:
    """The columns of a recording that moments are found in, each read once."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.count = len(recording.steps)

    def _column(self, read: Callable[[Recording, int, int], NDArray[np.generic]], dtype: str) -> NDArray[np.generic]:
        column = np.empty(self.count, dtype)
        for begin in range(0, self.count, PART):
            end = min(begin + PART, self.count)
            column[begin:end] = read(self.recording, begin, end)
        return column

    def field(self, name: str, dtype: str) -> NDArray[np.generic]:
        """Return a field of all steps, (n,)."""
        return self._column(lambda recording, begin, end: recording.array(name, begin, end), dtype)

    @cached_property
    def step(self) -> NDArray[np.int64]:
        """Numbers of the steps."""
        return self.field("step", "<i8").astype(np.int64, copy=False)

    @cached_property
    def episode(self) -> NDArray[np.int64]:
        """Their episodes."""
        return self.field("episode", "<i8").astype(np.int64, copy=False)

    @cached_property
    def terminated(self) -> NDArray[np.bool_]:
        """Whether the episode ended with the step by the environment's own rules."""
        return self.field("terminated", "|b1").astype(np.bool_, copy=False)

    @cached_property
    def value(self) -> Floats:
        """What the policy expected at each step; NaN where unknown."""
        return self._column(values, "<f8").astype(np.float64, copy=False)

    @cached_property
    def entropy(self) -> Floats:
        """Entropy of the policy's distribution, in nats; NaN where unknown."""
        return self._column(entropies, "<f8").astype(np.float64, copy=False)

    @cached_property
    def reward(self) -> Floats:
        """Reward of each step."""
        return self._column(rewards, "<f8").astype(np.float64, copy=False)

    @cached_property
    def predicted(self) -> Floats:
        """What was expected of the action taken: Q(s, a) where there are Q-values, else V(s)."""
        if "output/value" in self.recording.columns or not {"output/q_values", "action"} <= set(self.recording.columns):
            return self.value
        return self._column(_taken, "<f8").astype(np.float64, copy=False)

    def moment(self, index: int, kind: str, text: str, score: float = 0.0) -> Moment:
        """Return a moment at an index."""
        return Moment(int(index), int(self.step[index]), kind, text, float(score))


def _taken(recording: Recording, begin: int, end: int) -> Floats:
    q_values = np.asarray(recording.array("output/q_values", begin, end), np.float64).reshape(end - begin, -1)
    actions = np.asarray(recording.array("action", begin, end)).reshape(end - begin, -1)
    if (
        actions.shape[1] != 1
        or actions.dtype.kind not in "iu"
        or (actions < 0).any()
        or (actions >= q_values.shape[1]).any()
    ):
        return np.asarray(q_values.max(1))
    return np.take_along_axis(q_values, actions.astype(np.int64), 1)[:, 0]


# What is unusual.


def modified_z(values: Floats) -> Floats:
    """Return modified z-scores, (n,), of finite values; NaN for the others, 0 everywhere where all are alike."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return np.full(len(values), np.nan)
    deviations = np.abs(finite - np.median(finite))
    unit = 1.4826 * np.median(deviations) or 1.2533 * deviations.mean()
    with np.errstate(invalid="ignore"):
        scores = (values - np.median(finite)) / (unit or np.inf)
    scores[~np.isfinite(values)] = np.nan
    return np.asarray(scores)


def peaks(scores: Floats, criteria: Criteria) -> Iterator[int]:
    """Yield the indices of scores above the threshold, largest first, so many ``apart`` and ``most`` at most."""
    above = np.flatnonzero(np.nan_to_num(scores, nan=-np.inf) >= criteria.threshold)
    near, taken = np.zeros(len(scores), bool), 0
    for index in above[np.argsort(-scores[above], kind="stable")]:
        if taken == criteria.most:
            return
        if not near[index]:
            near[max(index - criteria.apart, 0) : index + criteria.apart + 1] = True
            taken += 1
            yield int(index)


def _spread(indices: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    return indices if len(indices) <= most else indices[np.arange(most) * len(indices) // most]


# The kinds.


def value_drops(run: Run, criteria: Criteria) -> Iterator[Moment]:
    """V(s_t-over) − V(s_t) within an episode is unusually large: what was expected is no longer so."""
    over, drops = criteria.over, np.full(run.count, np.nan)
    if run.count > over:
        drops[over:] = np.where(run.episode[over:] == run.episode[:-over], run.value[:-over] - run.value[over:], np.nan)
    scores = np.where(drops > 0, modified_z(drops), np.nan)
    for index in peaks(scores, criteria):
        text = f"V(s) fell from {run.value[index - over]:.3g} to {run.value[index]:.3g} in {over} steps"
        yield run.moment(index, "value_drop", text, scores[index])


def entropy_peaks(run: Run, criteria: Criteria) -> Iterator[Moment]:
    """The entropy of the distribution over actions is unusually large: the policy does not know what to do."""
    scores = modified_z(run.entropy)
    for index in peaks(scores, criteria):
        yield run.moment(index, "entropy_peak", f"entropy {run.entropy[index]:.3g} nats", scores[index])


def td_errors(run: Run, criteria: Criteria) -> Iterator[Moment]:
    """|δ| is unusually large, δ = r + γ V(s') − V(s) (Sutton & Barto 2018, eq. 6.5): the reward was a surprise.

    With Q-values δ = r + γ max Q(s', ·) − Q(s, a) (eq. 6.8). V(s') is 0 after a terminated step. Where the next step
    was not recorded, or the episode was cut off, δ is unknown.
    """
    following = np.full(run.count, np.nan)
    if run.count:
        next_there = (np.diff(run.step) == 1) & (np.diff(run.episode) == 0)
        following[:-1] = np.where(next_there, run.value[1:], np.nan)
    error = run.reward + criteria.gamma * np.where(run.terminated, 0.0, following) - run.predicted
    scores = np.abs(modified_z(error))
    for index in peaks(scores, criteria):
        surprise = "better" if error[index] > 0 else "worse"
        yield run.moment(index, "td_error", f"δ = {error[index]:+.3g}, {surprise} than expected", scores[index])


def terminations(run: Run, criteria: Criteria) -> Iterator[Moment]:
    """The episode ended by the environment's own rules: in most games, the agent died."""
    ends = np.flatnonzero(run.terminated)
    for index in _spread(ends, criteria.most):
        so_far = float(run.recording.array("episode_return", int(index), int(index) + 1)[0])
        yield run.moment(index, "terminated", f"episode {run.episode[index]} ended, return {so_far:g}")


def policy_changes(run: Run, criteria: Criteria) -> Iterator[Moment]:
    """The step was taken with another version of the weights than the one before, or with another policy."""
    version = run.field("policy_version", "<i8")
    replaced = set(run.recording.replaced)
    for index in _spread(np.flatnonzero(np.diff(version, prepend=version[:1])), criteria.most):
        before, after = int(version[index - 1]), int(version[index])
        if not before:  # nobody had asked for the policy until then
            continue
        what = "another policy" if any(before < each <= after for each in replaced) else "weights"
        yield run.moment(index, "policy_version", f"{what}, version {before} → {after}")


#: How each kind is found.
KINDS: dict[str, Callable[[Run, Criteria], Iterator[Moment]]] = {
    "value_drop": value_drops,
    "entropy_peak": entropy_peaks,
    "td_error": td_errors,
    "terminated": terminations,
    "policy_version": policy_changes,
}
