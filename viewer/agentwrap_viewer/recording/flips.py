"""Steps at which a discrete policy's choice hangs on little: a small change of what it sees changes its action.

That noise nobody would notice changes what trained policies do was shown by Huang et al. 2017, Adversarial Attacks on
Neural Network Policies (https://arxiv.org/abs/1702.02284), and for random noise beside the worst by Kos & Song 2017,
Delving into Adversarial Attacks on Deep Policies (https://arxiv.org/abs/1705.06452). Here it is random, normally
distributed and the same for all steps: how many of ``samples`` draws change the action that the policy rates highest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from agentwrap_export.arrays import tensor_to_array
from agentwrap_protocol import GraphError
from agentwrap_protocol.graph import Input
from agentwrap_protocol.spaces import Space

from .choices import choices
from .errors import RecordingError
from .moments import Criteria, Floats, Moment, peaks
from .recording import Recording

if TYPE_CHECKING:
    from agentwrap_viewer.replica import Replica

Inputs = Mapping[str, torch.Tensor]

#: Steps from which the range of an observation is known.
SEEN = 64

#: Steps that ``search`` looks at, at most, and between two of its answers.
LOOKS, PART = 4000, 64

#: Steps whose ratings are read at a time, and where they are.
READ, RATINGS, MASK = 8192, ("output/logits", "output/q_values"), "action_mask"


def find(
    recording: Recording,
    indices: Sequence[int] | None = None,
    *,
    sigma: float = 0.01,
    samples: int = 16,
    share: float = 0.25,
    seed: int = 0,
    criteria: Criteria | None = None,
) -> list[Moment]:
    """Return moments of kind ``action_flip``, in the order of steps: those with the largest share of flips.

    Args:
        recording: The recording, with its policy.
        indices: Which steps to look at; None for all.
        sigma: As for ``shares``, likewise ``samples`` and ``seed``.
        samples: Likewise.
        share: Least share of the draws that change the action, 0…1. A step right on the border between two actions
            changes it in half of them: a quarter is as far from the border as 0.67 standard deviations of the noise.
        seed: Likewise.
        criteria: ``apart`` and ``most`` of it count, as for other kinds.

    Raises:
        ValueError: ``share`` is out of range, or what ``shares`` says.
        RecordingError: As ``shares``.
    """
    looked = range(len(recording.steps)) if indices is None else sorted(indices)
    scores = np.full(len(recording.steps), np.nan)
    scores[looked] = shares(recording, looked, sigma=sigma, samples=samples, seed=seed)
    return _peaks(recording, scores, samples, share, criteria)


def search(
    recording: Recording,
    *,
    sigma: float = 0.01,
    samples: int = 16,
    share: float = 0.25,
    seed: int = 0,
    criteria: Criteria | None = None,
    looks: int = LOOKS,
    more: Callable[[], bool] | None = None,
) -> Iterator[list[Moment]]:
    """Look for flips part by part, first where the policy was least decided; yield all found so far after each part.

    Args:
        recording: The recording, with its policy.
        sigma: As for ``find``, likewise what follows.
        samples: Likewise.
        share: Likewise.
        seed: Likewise.
        criteria: Likewise.
        looks: Most steps to look at. Of more, those count at which the two actions rated highest were nearest to each
            other; where that was not recorded, as many, evenly spread.
        more: Asked when all have been looked at: whether the recording has grown, and the search is to go on with what
            has come, as many again at most. None ends it there.

    Raises:
        ValueError: As ``find``.
        RecordingError: As ``find``.
    """
    scores = np.empty(0)
    perturbed = _Perturbed(recording, range(len(recording.steps)), sigma, samples, seed)
    while True:
        order = _least_decided(recording, looks, len(scores))
        scores = np.append(scores, np.full(len(recording.steps) - len(scores), np.nan))
        for begin in range(0, len(order), PART):
            part = np.sort(order[begin : begin + PART])
            scores[part] = perturbed.shares(part.tolist())
            yield _peaks(recording, scores, samples, share, criteria)
        if more is None or not more():
            return


def _peaks(recording: Recording, scores: Floats, samples: int, share: float, criteria: Criteria | None) -> list[Moment]:
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; it has to be above 0, and 1 at most")
    numbers = recording.array("step", 0, len(scores))
    return [
        Moment(
            index,
            int(numbers[index]),
            "action_flip",
            f"{round(scores[index] * samples)} of {samples} small perturbations change the action",
            float(scores[index]),
        )
        for index in sorted(peaks(scores, replace(criteria or Criteria(), threshold=share)))
    ]


def _least_decided(recording: Recording, most: int, first: int = 0) -> NDArray[np.int64]:
    """Indices of steps from the first on, those at the head at which the best two actions were rated most alike."""
    count = len(recording.steps)
    name = next((name for name in RATINGS if name in recording.columns), None)
    if name is None or recording.hello is None:
        return np.arange(first, count)[:: max(1, -(-(count - first) // most))]
    margins = np.full(count, np.inf)
    for begin in range(first, count, READ):
        rated = _rows(recording, name, begin).astype(np.float64)
        if MASK in recording.columns and (allowed := _rows(recording, MASK, begin)).shape == rated.shape:
            rated = np.where(allowed, rated, -np.inf)
        for choice in choices(rated, recording.hello.action_space):
            if choice.shape[1] > 1:
                best = np.partition(choice, -2, axis=1)[:, -2:]
                with np.errstate(invalid="ignore"):  # less than two are allowed
                    apart = np.nan_to_num(best[:, 1] - best[:, 0], nan=np.inf)
                margins[begin : begin + READ] = np.minimum(margins[begin : begin + READ], apart)
    return first + np.argsort(margins[first:], kind="stable")[:most]


def _rows(recording: Recording, name: str, begin: int) -> NDArray[Any]:
    rows = np.asarray(recording.array(name, begin, begin + READ))
    return rows.reshape(len(rows), -1)


def shares(
    recording: Recording, indices: Sequence[int], *, sigma: float = 0.01, samples: int = 16, seed: int = 0
) -> Floats:
    """Return for each step which share of small perturbations changes the action, float64 (k,) in 0…1.

    Each step is judged by the policy as it was then; recurrent state stays as it was. Where the policy chooses several
    actions at once, one of them is enough.

    Args:
        recording: The recording, with its policy.
        indices: The k steps.
        sigma: Standard deviation of the perturbation, as a share of the observation's range: of 255 for pictures of
            bytes, which stay within 0…255, else of the range that was seen, for vectors of each element's own.
        samples: Perturbations of each step.
        seed: Of their generator.

    Raises:
        ValueError: ``sigma`` or ``samples`` is not positive.
        RecordingError: There is no policy that can be run here, its actions are not discrete, or it sees no numbers
            that can be perturbed.
    """
    return _Perturbed(recording, indices, sigma, samples, seed).shares(indices)


class _Perturbed:
    """Perturbs steps of a recording, all alike.

    Args:
        recording: The recording, with its policy.
        among: The steps that tell in which range observations are.
        sigma: See ``shares``, likewise what follows.
        samples: Likewise.
        seed: Likewise.
    """

    def __init__(self, recording: Recording, among: Sequence[int], sigma: float, samples: int, seed: int) -> None:
        if not sigma > 0 or samples < 1:
            raise ValueError(f"sigma is {sigma} and samples {samples}; both have to be positive")
        self._recording, self._among = recording, among
        self._sigma, self._samples, self._seed = sigma, samples, seed
        self._held: tuple[int, Replica] | None = None
        self._noise: dict[str, torch.Tensor] | None = None

    def shares(self, indices: Sequence[int]) -> Floats:
        """See ``shares``."""
        versions = self._recording.array("policy_version") if len(indices) else ()
        try:
            return np.array([self._share(index, int(versions[index])) for index in indices], np.float64)
        except GraphError as error:
            raise RecordingError(f"{self._recording.path}: actions cannot be computed again: {error}") from error

    def _share(self, index: int, version: int) -> float:
        recording = self._recording
        if self._held is None or version != self._held[0]:
            self._held = version, recording.policy(version or None)
            if self._noise is None or recording.replaced:  # another policy may have other inputs
                self._noise = _noise(recording, self._held[1], self._among, self._sigma, self._samples, self._seed)
        assert self._noise is not None
        return _share(recording, self._held[1], index, self._noise)


def _noise(
    recording: Recording, replica: Replica, indices: Sequence[int], sigma: float, samples: int, seed: int
) -> dict[str, torch.Tensor]:
    """Noise for each input that is observed and can be perturbed, (samples, …)."""
    generator = torch.Generator().manual_seed(seed)
    some = [indices[place] for place in np.unique(np.linspace(0, len(indices) - 1, SEEN).astype(int))]
    seen = [replica.inputs_from_step(recording.steps[index].arrays) for index in some]
    noise = {}
    for given in replica.graph.inputs:
        is_bytes = _is_bytes(given, recording.steps[some[0]].arrays)
        if given.role == "observation" and (is_bytes or given.dtype.startswith(("float", "bfloat"))):
            values = torch.stack([inputs[given.name].select(_axis(given), 0) for inputs in seen]).cpu()
            reach = torch.tensor(255.0) if is_bytes else _range(values.float())
            noise[given.name] = sigma * reach * torch.randn((samples, *values.shape[1:]), generator=generator)
    if not noise:
        raise RecordingError(f"{recording.path}: the policy sees neither bytes nor floats, which could be perturbed")
    return noise


def _range(values: torch.Tensor) -> torch.Tensor:
    if values.dim() == 2:
        return values.amax(0) - values.amin(0)
    return values.max() - values.min()


def _is_bytes(given: Input, arrays: Mapping[str, NDArray[Any]]) -> bool:
    """Whether bytes fill an input, whatever type the policy was called with."""
    array = arrays.get(f"input/{given.name}", arrays.get(given.array))
    return array is not None and array.dtype == np.uint8


def _axis(given: Input) -> int:
    return given.shape.index(-1) if -1 in given.shape else 0


def _share(recording: Recording, replica: Replica, index: int, noise: Inputs) -> float:
    hello = recording.hello
    assert hello is not None  # there is a policy
    arrays = recording.steps[index].arrays
    inputs = replica.inputs_from_step(arrays)
    for given in replica.graph.inputs:
        if given.name in noise:
            single = inputs[given.name].select(_axis(given), 0).float()
            rows = torch.cat([single[None], single + noise[given.name]])
            if _is_bytes(given, arrays):
                rows = rows.clamp(0, 255)
            inputs[given.name] = rows.movedim(0, _axis(given))
    outputs = {name: tensor_to_array(output) for name, output in replica.run(inputs).items()}
    actions = _actions(outputs, hello.action_space, arrays.get(MASK))
    return float((actions[1:] != actions[0]).any(1).mean())


def _actions(outputs: Mapping[str, NDArray[Any]], space: Space, mask: NDArray[Any] | None) -> NDArray[np.int64]:
    """What the policy rates highest of what it was free to choose, int64 (k, choices)."""
    rated = outputs.get("logits", outputs.get("q_values"))
    if rated is None:
        raise RecordingError(f"actions flip where they are discrete; the policy computes {', '.join(outputs)}")
    rated = rated.reshape(len(rated), -1)
    if mask is not None and mask.size == rated.shape[1]:
        rated = np.where(mask.reshape(-1), rated, -np.inf)
    return np.stack([part.argmax(1) for part in choices(rated, space)], axis=1)
