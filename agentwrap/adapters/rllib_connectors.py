"""What RLlib's env-to-module connectors do with observations, as a part of the computation that is exported.

``MeanStdFilter`` normalises with statistics that go on with each observation, of one environment after the other; with
several agents each has its own, also where they share a module: env runners know whose each of its rows is.
``FrameStackingEnvToModule`` joins what earlier connectors made of the newest observations. ``FlattenObservations``
makes a vector of them. RLlib's own connectors that only put observations into a batch change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from agentwrap.arrays import Array
from agentwrap.errors import PolicyTypeError
from agentwrap.policy import Kept

from .preparation import Preparation

if TYPE_CHECKING:
    import torch

    from .preprocessing import FrameStack, Normalization

#: What RLlib adds to a filter's standard deviation: ``ray.rllib.utils.numpy.SMALL_NUMBER``.
SMALL = 1e-6

#: What ends each pipeline: it puts observations, and state, into a batch as they are.
_BATCHING = {
    "AddObservationsFromEpisodesToBatch",
    "AddTimeDimToBatchAndZeroPad",
    "AddStatesFromEpisodesToBatch",
    "AgentToModuleMapping",
    "BatchIndividualItems",
    "NumpyToTensor",
}


#: Whose each row of the newest act was, where that is known.
Agents = Callable[[], Sequence[Any] | None]


def preparation_by(
    pipeline: Any, given: gym.Space[Any], agent: Any = None, agents: Agents | None = None
) -> tuple[Preparation, gym.Space[Any]]:
    """Say what a pipeline of connectors does with observations.

    Args:
        pipeline: An ``EnvToModulePipeline``, as env runners have it.
        given: The environment's observations.
        agent: Id of the agent whose observations they are, where there are several.
        agents: Returns the ids of those whose observations a module's newest call was with, in order.

    Returns:
        That, and the space of what comes out.

    Raises:
        PolicyTypeError: A connector changes observations in a way that cannot be followed; the text names it.
    """
    found = _Found(given, agent, agents or (lambda: None))
    for connector in pipeline.connectors:
        name, own = type(connector).__name__, type(connector).__module__.startswith("ray.rllib.connectors.")
        follow = _FOLLOWED.get(name) if own else None
        if follow is not None:
            follow(found, connector)
        elif not own or name not in _BATCHING:
            raise PolicyTypeError(
                f"the connector {name} stands between environment and module, and what it does cannot be followed: "
                f"only {', '.join(_FOLLOWED)} can. Wrap the environment instead, or let the module do it"
            )
    return found.preparation(), found.space


class _Found:
    """The steps of a pipeline as they are found, and the space of what comes out of the last one."""

    def __init__(self, space: gym.Space[Any], agent: Any, agents: Agents) -> None:
        self.space, self.agent, self.agents = space, agent, agents
        self.steps: list[Any] = []
        self.stack: FrameStack | None = None
        self._shape: tuple[int, ...] = ()
        self._filters: list[_Filter] = []

    def flatten(self, connector: Any) -> None:
        from .preprocessing import OneVector

        choices = choices_of(self.space)
        if choices is None or getattr(connector, "_keys_to_remove", None):
            raise PolicyTypeError(
                f"what FlattenObservations makes of {self.space} cannot be followed: it may hold arrays of numbers and "
                "numbers of a choice, and keep them all"
            )
        self._nothing_after_frames(connector)
        self.steps.append(OneVector(choices))
        self.space = gym.spaces.Box(-np.inf, np.inf, (gym.spaces.flatdim(self.space),), np.float32)

    def normalise(self, connector: Any) -> None:
        from .preprocessing import Normalization

        if isinstance(self.space, gym.spaces.Discrete | gym.spaces.MultiDiscrete):
            return
        if not isinstance(self.space, gym.spaces.Box) or not np.issubdtype(self.space.dtype, np.floating):
            raise PolicyTypeError(
                f"MeanStdFilter of {self.space}: only arrays of floats can be followed, of others it keeps whole "
                "numbers, or none; have the environment return floats, or put FlattenObservations first"
            )
        self._nothing_after_frames(connector)
        module = Normalization(self.space.shape, clip=connector.clip_by_value or None)
        self.steps.append(module)
        self._filters.append(_Filter(connector, module, self.agent))

    def stack_frames(self, connector: Any) -> None:
        from .preprocessing import FrameStack

        self._nothing_after_frames(connector)
        if not isinstance(self.space, gym.spaces.Box) or len(self.space.shape) != 3:
            raise PolicyTypeError(f"FrameStacking of {self.space}: RLlib stacks pictures (H, W, 1) alone")
        if connector.num_frames < 2:
            return
        size = self.space.shape[-1]
        self.stack = FrameStack(dim=-1, size=size, frames=connector.num_frames)
        self.steps.append(self.stack)
        self._shape = self.space.shape
        self.space = gym.spaces.Box(-np.inf, np.inf, (*self._shape[:-1], size * connector.num_frames), np.float32)

    def _nothing_after_frames(self, connector: Any) -> None:
        if self.stack is not None:
            raise PolicyTypeError(
                f"{type(connector).__name__} comes after FrameStacking, but changes the episodes, of which the frames "
                "are taken: put it before"
            )

    def preparation(self) -> Preparation:
        from torch import nn

        from .preprocessing import Chain

        refresh = partial(_refresh, self._filters, self.stack, self.agents) if self._filters else None
        row = partial(_first_of, self.agent, self.agents)
        if refresh is not None:
            refresh(None, 0)
        if self.stack is None:
            return Preparation(nn.Sequential(*self.steps) if self.steps else None, refresh, row)
        shape = self.stack.shape_of(self._shape)
        kept = {self.stack.name: Kept(shape, partial(_earlier, self.stack, shape))}
        return Preparation(Chain(self.steps), refresh, row, kept)


_FOLLOWED: dict[str, Callable[[_Found, Any], None]] = {
    "FlattenObservations": _Found.flatten,
    "MeanStdFilter": _Found.normalise,
    "FrameStacking": _Found.stack_frames,
}


def choices_of(space: gym.Space[Any]) -> dict[str, int | None] | None:
    """Return what the elements of a flattened observation are made of, as ``OneVector`` has it, in RLlib's order."""
    parts = dict(sorted(space.items())) if isinstance(space, gym.spaces.Dict) else {"": space}
    if not all(isinstance(part, gym.spaces.Box | gym.spaces.Discrete) for part in parts.values()):
        return None
    return {key: int(part.n) if isinstance(part, gym.spaces.Discrete) else None for key, part in parts.items()}


def _earlier(stack: FrameStack, shape: tuple[int, ...], given: torch.Tensor) -> torch.Tensor:
    """The earlier frames among those that a module is called with, perhaps in sequences of one step."""
    return stack.earlier(given).reshape(-1, *shape[1:])


@dataclass(frozen=True)
class _Filter:
    """One ``MeanStdFilter`` and what stands for it."""

    connector: Any
    module: Normalization
    agent: Any


def _first_of(agent: Any, agents: Agents) -> int | None:
    """The row of an agent in the first environment, which comes before the others."""
    known = agents()
    return None if known is None or agent not in known else list(known).index(agent)


def _refresh(
    filters: list[_Filter], stack: FrameStack | None, agents: Agents, given: torch.Tensor | None, row: int
) -> None:
    seen = given if stack is None or given is None else given.narrow(-1, stack.kept, given.shape[-1] - stack.kept)
    for place, each in enumerate(filters):
        known = each.connector._filters
        if known is None:
            continue  # nothing has passed it yet
        stat = known[each.agent].running_stats
        last = place == len(filters) - 1  # what comes out of the others is not seen
        later: list[Array] = []
        if seen is not None and last and each.connector._update_stats:
            rows, known = seen.detach().cpu().numpy().reshape(len(seen), *stat.shape), agents()
            whose = known if known is not None and len(known) == len(rows) else [each.agent] * len(rows)
            later = [rows[place] for place in range(row + 1, len(rows)) if whose[place] == each.agent]
        each.module.update(*_as_it_was(each.connector, stat, later))


def _as_it_was(connector: Any, stat: Any, later: Sequence[Array]) -> tuple[Array, Array]:
    """Return mean and standard deviation as they were when a row was filtered, before ``later`` ones of its agent.

    A filter takes in one environment's observation after the other, and normalises each with what it knows by then.
    What came after ours is taken out again: it is known from what it was made into.
    """
    count, mean, squares = stat.num_pushes, stat.mean_array, stat.sum_sq_diff_array
    for normalised in reversed(later):
        if count < 2:
            break
        std = _std(squares, count)
        other = normalised * (std if connector.de_std_to_one else 1.0) + (mean if connector.de_mean_to_zero else 0.0)
        before = (count * mean - other) / (count - 1)
        squares = squares - (other - before) * (other - mean)
        mean, count = before, count - 1
    std = _std(squares, count)
    return (
        mean if connector.de_mean_to_zero else np.zeros_like(mean),
        std if connector.de_std_to_one else np.ones_like(std),
    )


def _std(squares: Array, count: int) -> Array:
    variance = squares / (count - 1) if count > 1 else np.zeros_like(squares)
    deviation: Array = np.sqrt(np.maximum(variance, 0)) + SMALL
    return deviation
