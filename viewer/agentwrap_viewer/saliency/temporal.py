"""Which of the frames that a policy has seen matter now.

One frame at a time is perturbed as a whole, and what follows is computed anew from there: the recurrent state is
carried on through the frames since, as they were, to the outputs of the newest step. The score is that of Greydanus et
al. 2018 (arXiv 1711.00138): S_k = ½·Σ (outputs now − outputs now with the frame of k steps ago perturbed)², the mask
being 1 everywhere; a time step as the feature that is left out is the time relevance of Ismail et al. 2020,
"Benchmarking Deep Learning Interpretability in Time Series Predictions" (arXiv 2010.13924, section 4). A picture is
blurred (Greydanus' G_3), a vector becomes the mean of the other vectors seen. In a stack of frames there is no state to
carry: its frames are perturbed one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agentwrap_export.arrays import tensor_to_array

from .choices import Choices
from .errors import SaliencyError
from .layout import Channels, Layout, layout_of
from .masks import blur
from .outputs import Outputs, Target
from .perturbation import squared_distance
from .policies import WHOLE, BoundPolicy, Named, Observation, named_outputs

#: An observation by entry (``""`` for a single array) with a batch axis, and the state → outputs and the state after.
Step = Callable[[Mapping[str, torch.Tensor], Any, int], tuple[Named, Any]]


@dataclass(frozen=True)
class TemporalSaliency:
    """How much the frames of the past matter for the outputs now.

    Attributes:
        weights: Scores (K,) float32, at least 0, oldest first, by target; the last is that of the newest frame.
        outputs: What the policy computes where nothing is perturbed, by name, without batch axis, flattened.
        state: The state that then entered the newest step; None for a stack.
    """

    weights: Mapping[str, NDArray[np.float32]]
    outputs: Mapping[str, NDArray[np.float32]]
    state: Any = None


def explain_frames(
    policy: Any,
    observations: Sequence[Observation],
    *,
    state: Any,
    state_axis: int = 0,
    held: Sequence[Mapping[str, torch.Tensor]] | None = None,
    targets: Sequence[Target] = ("actor", "critic"),
    choices: Sequence[int] | None = None,
    action_mask: Any = None,
    channels: Channels = "auto",
    blur_sigma: float = 3.0,
) -> TemporalSaliency:
    """Score the frames that a recurrent policy has seen.

    Args:
        policy: Called as ``policy(observations, state)``, it returns a tuple whose last part is the new state; or a
            graph policy such as the viewer's ``Replica``.
        observations: Those of K consecutive steps of an episode, oldest first, without batch axis.
        state: The state that entered the oldest, with a batch axis of one; for a graph policy a dict by input name.
        state_axis: Batch axis of the state's tensors (1 for ``torch.nn.LSTM``); a graph policy's graph says it.
        held: For a graph policy: inputs of each step that are neither observation nor carried on (masks), by name.
        targets: What is explained; those that the policy does not have are left out.
        choices: See ``Request``, as for ``action_mask``, of the newest step.
        action_mask: Likewise.
        channels: Where the channels of a picture are, see ``Request``.
        blur_sigma: Standard deviation of the blur in pixels.

    Returns:
        K scores for each target, from K calls with K + 1 rows at most.

    Raises:
        SaliencyError: There is no observation, or the policy cannot be called so; the text says why.

    Example:
        >>> import torch
        >>> remember = lambda x, state: (state[:, -1:], torch.cat([x[:, :1], state[:, :-1]], 1))  # what x was 2 ago
        >>> frames = [torch.tensor([float(value)]) for value in (1, 5, 2, 4)]
        >>> explain_frames(remember, frames, state=torch.zeros(1, 2)).weights["actor"].round(2).tolist()
        [0.0, 3.559999942779541, 0.0, 0.0]
    """
    if not observations:
        raise SaliencyError("there is no observation to perturb")
    frames = [_entries(observation) for observation in observations]
    is_graph = hasattr(policy, "graph")
    step: Step = _graph_step(policy, held or ({},) * len(frames)) if is_graph else _call_step(policy)
    axes: Any = {given.name: max(_axis(given), 0) for given in policy.graph.inputs} if is_graph else state_axis
    outputs: Named = {}
    entered = state
    with torch.no_grad():
        for index, frame in enumerate(frames):
            entered, rows = state, index + 2
            # one variant more: until now it went as if nothing were perturbed, which is the first row
            other = {name: _without(name, index, frames, channels, blur_sigma) for name in frame}
            batch = {
                name: torch.cat([tensor[None].expand(rows - 1, *tensor.shape), other[name][None]])
                for name, tensor in frame.items()
            }
            outputs, state = _refused(step, batch, _one_more(state, rows - 1, axes), index)
    known = Choices.of(choices, action_mask)
    return _scored(outputs, len(frames) + 1, targets, known, state=_first(entered, axes))


def explain_stack(
    policy: Any,
    observation: Observation,
    *,
    state: Any = None,
    state_axis: int = 0,
    targets: Sequence[Target] = ("actor", "critic"),
    choices: Sequence[int] | None = None,
    action_mask: Any = None,
    channels: Channels = "auto",
    blur_sigma: float = 3.0,
) -> TemporalSaliency | None:
    """Score the frames of the stack that an observation is.

    Args:
        policy: As in ``explain``.
        observation: One observation without batch axis; in a dict the first entry that is a stack counts.
        state: As in ``explain``.
        state_axis: As in ``explain``.
        targets: What is explained; those that the policy does not have are left out.
        choices: See ``Request``, as for ``action_mask``, of the newest step.
        action_mask: Likewise.
        channels: Where the channels of a picture are, see ``Request``.
        blur_sigma: Standard deviation of the blur in pixels.

    Returns:
        A score for each frame of the stack, oldest first; None where there is no stack (one frame, or three channels,
        which are taken for colours).

    Raises:
        SaliencyError: As ``explain``.
    """
    known = Choices.of(choices, action_mask)
    bound = BoundPolicy(policy, observation, state=state, state_axis=state_axis, choices=known)
    for name, tensor in bound.entries.items():
        layout = layout_of(tuple(tensor.shape), channels) if 3 <= tensor.ndim <= 4 else None
        if layout is None or not stacked(layout):
            continue
        assert layout.stack is not None
        image = tensor.to(torch.float32)
        change, frames = _blurred(image, layout, blur_sigma) - image, layout.shape[layout.stack]
        batch = image[None].repeat(frames + 1, *[1] * image.ndim)
        for index in range(frames):
            batch[index + 1].narrow(layout.stack, index, 1).add_(change.narrow(layout.stack, index, 1))
        return _scored(bound.evaluate(name, batch).named, frames + 1, targets, bound.choices)
    return None


def stacked(layout: Layout) -> bool:
    """Whether an observation is a stack of several frames: of channels, any number but three, which are colours."""
    if layout.stack is None:
        return False
    count = layout.shape[layout.stack]
    return count > 1 and (count != 3 or len(layout.shape) == 4)


def _entries(observation: Observation) -> dict[str, torch.Tensor]:
    arrays = observation if isinstance(observation, Mapping) else {WHOLE: observation}
    return {name: torch.as_tensor(np.array(a) if isinstance(a, np.ndarray) else a) for name, a in arrays.items()}


def _without(
    name: str, index: int, frames: Sequence[Mapping[str, torch.Tensor]], channels: Channels, sigma: float
) -> torch.Tensor:
    """Return a frame's entry perturbed as a whole, in its own element type where that is of floats, else in float32."""
    tensor = frames[index][name]
    if not tensor.is_floating_point() and tensor.dtype not in (torch.uint8, torch.int8):
        return tensor  # a category, a switch: there is nothing between its values
    values = tensor.to(torch.float32)
    layout = layout_of(tuple(values.shape), channels) if 2 <= values.ndim <= 4 else None
    if layout is not None:
        return _blurred(values, layout, sigma)
    others = [frame[name].to(torch.float32) for place, frame in enumerate(frames) if place != index]
    return torch.stack(others).mean(0) if others else torch.zeros_like(values)


def _blurred(image: torch.Tensor, layout: Layout, sigma: float) -> torch.Tensor:
    assert layout.axes is not None
    return blur(image.movedim(layout.axes, (-2, -1)), sigma).movedim((-2, -1), layout.axes)


def _graph_step(policy: Any, held: Sequence[Mapping[str, torch.Tensor]]) -> Step:
    inputs = policy.graph.inputs
    observed = [given for given in inputs if given.role == "observation"]
    if not any(given.next is not None for given in inputs):
        raise SaliencyError("the policy carries no state from one step to the next")

    def step(batch: Mapping[str, torch.Tensor], state: Any, index: int) -> tuple[Named, Any]:
        filled = {**held[index], **state}
        for given in observed:
            name = WHOLE if WHOLE in batch else given.array.removeprefix("observation/")
            filled[given.name] = batch[name if name in batch else given.name].movedim(0, max(_axis(given), 0))
        outputs = policy.run(filled)
        return outputs, policy.state_after(outputs)

    return step


def _call_step(policy: Callable[..., Any]) -> Step:
    def step(batch: Mapping[str, torch.Tensor], state: Any, index: int) -> tuple[Named, Any]:
        result = policy(batch[WHOLE] if WHOLE in batch else dict(batch), state)
        if not isinstance(result, tuple | list) or len(result) < 2:
            raise SaliencyError("a recurrent policy returns its outputs and, last, the new state")
        return named_outputs(tuple(result[:-1])), result[-1]

    return step


def _refused(step: Step, batch: Mapping[str, torch.Tensor], state: Any, index: int) -> tuple[Named, Any]:
    try:
        return step(batch, state, index)
    except SaliencyError:
        raise
    except Exception as error:
        raise SaliencyError(f"the policy refuses observation {index}: {error}") from error


def _axis(given: Any) -> int:
    return given.shape.index(-1) if -1 in given.shape else -1


def _one_more(state: Any, rows: int, axes: Any) -> Any:
    """Return state of so many rows with one more: the first again."""

    def grown(part: torch.Tensor, axis: int) -> torch.Tensor:
        if part.ndim <= axis or part.shape[axis] != rows:
            raise SaliencyError(
                f"state of shape {tuple(part.shape)} has no batch axis of {rows} at axis {axis} (state_axis)"
            )
        return torch.cat([part, part.narrow(axis, 0, 1)], axis)

    return _mapped(state, axes, grown)


def _first(state: Any, axes: Any) -> Any:
    return _mapped(state, axes, lambda part, axis: part.narrow(axis, 0, 1))


def _mapped(state: Any, axes: Any, change: Callable[[torch.Tensor, int], torch.Tensor]) -> Any:
    """Return state, which may be nested, with all its tensors changed; ``axes`` is one for all, or a dict by name."""
    if isinstance(state, Mapping):
        return {n: _mapped(part, axes[n] if isinstance(axes, Mapping) else axes, change) for n, part in state.items()}
    if isinstance(state, tuple | list):
        return type(state)(_mapped(part, axes, change) for part in state)
    return change(torch.as_tensor(state), axes)


def _scored(
    named: Named, rows: int, targets: Sequence[Target], choices: Choices, *, state: Any = None
) -> TemporalSaliency:
    outputs = Outputs.from_named(named, rows, choices=choices)
    clean = Outputs.from_named({name: tensor[:1] for name, tensor in named.items()}, 1, choices=choices)
    perturbed = Outputs.from_named({name: tensor[1:] for name, tensor in named.items()}, rows - 1, choices=choices)
    known = [target for target in targets if isinstance(target, int) or target in outputs.targets]
    resolved = {str(target): clean.action() if target == "chosen" else target for target in known}
    weights = {
        name: squared_distance(clean, perturbed, target).cpu().numpy().astype(np.float32)
        for name, target in resolved.items()
    }
    kept = {name: tensor_to_array(tensor[0]).astype(np.float32).ravel() for name, tensor in named.items()}
    return TemporalSaliency(weights, kept, state)
