"""A contract test for adapters, and for policies of one's own: does agentwrap see what the policy computes?"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from .arrays import Array, copied
from .errors import AgentwrapError
from .guard import Guard
from .outputs import output_names
from .policy import PolicyView, view_policy

#: Relative and absolute difference that counts as none.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Report:
    """What ``check_policy`` found.

    Attributes:
        lines: One sentence for each thing that was checked, those that failed beginning with ``FAILED``.
    """

    lines: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not any(line.startswith("FAILED") for line in self.lines)

    def __str__(self) -> str:
        return "\n".join(self.lines)


def check_policy(policy: Any, env: gym.Env[Any, Any], *, steps: int = 5, seed: int = 0) -> Report:
    """Check that an adapter describes a policy truly, and say in words what was found.

    The library's own ``predict`` acts for a few steps, as a user would, while hooks look on. What was seen, what the
    module to be exported computes, and the action that the library took have to agree, and the computation has to be
    exportable.

    Args:
        policy: What ``InterpretWrapper`` would be given. Its weights stay as they are.
        env: The environment it acts in; it is reset and stepped.
        steps: How many observations to try.
        seed: For the environment's first reset.

    Raises:
        PolicyTypeError: There is no adapter for the policy, or more than one.

    Example:
        >>> import gymnasium as gym
        >>> import torch
        >>> from agentwrap.testing import check_policy
        >>> print(check_policy(torch.nn.Linear(4, 2), gym.make("CartPole-v1")))
        the policy is called itself: no adapter is involved
        exported: logits, latent
    """
    view = view_policy(policy, env)
    observations = list(_observations(view, env, steps, seed))
    lines: list[str] = []
    if view.watch is None:
        lines.append("the policy is called itself: no adapter is involved")
    else:
        check = _Check(view)
        for observation in observations:
            lines.extend(check.act(observation))
        lines.extend(check.summary())
    lines.extend(_export(view, observations[0], env.action_space))
    return Report(tuple(dict.fromkeys(lines)))


def _observations(view: PolicyView, env: gym.Env[Any, Any], steps: int, seed: int) -> Iterator[Any]:
    """Observations of an episode, or more, in which the library acts, or else chance."""
    env.action_space.seed(seed)
    observation, _ = env.reset(seed=seed)
    for _ in range(steps):
        yield copy.deepcopy(observation)  # environments reuse their buffers
        action = env.action_space.sample() if view.predict is None else view.predict(observation)
        # predict() of some libraries gives arrays without axes, which some environments do not take
        scalar = isinstance(action, np.ndarray) and action.ndim == 0
        observation, _, terminated, truncated, _ = env.step(action.item() if scalar else action)
        if terminated or truncated:
            observation, _ = env.reset()


class _Check:
    """Compares what is seen when the library acts with what the module to be exported computes."""

    def __init__(self, view: PolicyView) -> None:
        from agentwrap_export.call import isolated_copy

        from .watching import WatchCapture, as_batch

        self._as_batch = as_batch
        self._view, self._capture = view, WatchCapture(view, guard=Guard(strict=True))
        self._copy = isolated_copy(view.module)
        self._seen: set[str] = set()

    def act(self, observation: Any) -> Iterator[str]:
        """Have the library act once; yield what is wrong."""
        import torch

        arrays = copied("observation", observation)[0]
        given = self._as_batch(arrays, self._view.agent)
        self._capture.attach()
        try:
            with torch.no_grad():
                action = self._library(observation, given)
        finally:
            acts = self._capture.take()
            call = self._capture.choose(acts, arrays)
            self._capture.detach()
        if call is None:
            yield self._unseen(acts)
            return
        seen = {name.removeprefix("output/"): array for name, array in self._capture.arrays(call).items()}
        self._seen.update(seen)
        with torch.no_grad():
            exported = {name: tensor[0].cpu().numpy() for name, tensor in self._copy(given).items()}
        yield from _differences(seen, exported)
        yield from self._other_action(exported, action)

    def summary(self) -> Iterator[str]:
        """Yield what was seen, and what was not."""
        yield f"seen when the library acts: {', '.join(name for name in self._view.watch or () if name in self._seen)}"
        unseen = [name for name in self._view.watch or () if name not in self._seen]
        if unseen:
            yield f"computed by the exported module alone: {', '.join(unseen)}"
        if self._view.predict is None or self._view.distribution is None:
            yield "not compared with the library's actions: the view has no predict, or no distribution"

    def _library(self, observation: Any, given: Any) -> Any:
        if self._view.predict is not None:
            return self._view.predict(observation)
        self._view.module(given)
        return None

    def _unseen(self, acts: Any) -> str:
        entry, head = self._view.entry or "the agent itself", next(iter(self._view.watch or ()))
        if not acts:
            return f"FAILED to see the library act: {entry} was not called with one observation, batch first"
        if not any(f"output/{head}" in act.seen for act in acts):
            return f"FAILED to see {head}: it was not computed after {entry} was called"
        return f"FAILED to recognise the observation: {entry} was called with another than act() calls it with"

    def _other_action(self, outputs: Mapping[str, Array], action: Any) -> Iterator[str]:
        distribution = self._view.distribution
        if action is None or distribution is None:
            return
        mode = distribution.mode(outputs)
        if not np.allclose(mode, action, rtol=TOLERANCE, atol=TOLERANCE):
            yield f"FAILED to reproduce the action: the library took {action}, the outputs mean {mode}"


def _differences(seen: Mapping[str, Array], exported: Mapping[str, Array]) -> Iterator[str]:
    for name, array in seen.items():
        other = exported[name].reshape(array.shape) if exported[name].size == array.size else exported[name]
        if other.shape != array.shape:
            yield f"FAILED to reproduce {name}: seen with shape {array.shape}, exported with {other.shape}"
        elif not np.allclose(array, other, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
            yield f"FAILED to reproduce {name}: seen was {_short(array)}, the exported module has {_short(other)}"


def _export(view: PolicyView, observation: Any, action_space: gym.Space[Any]) -> Iterator[str]:
    import torch

    from agentwrap_export.export import export_policy

    from .watching import as_batch

    given = as_batch(copied("observation", observation)[0], view.agent)
    try:
        names = view.names if view.watch is None else tuple(view.watch)
        if names is None:
            with torch.no_grad():
                names = output_names(view.agent(given), action_space)
        exported = export_policy(view.module, (given,), {}, output_names=names, batched=True)
    except AgentwrapError as error:
        yield f"FAILED to export: {error}"
        return
    found = [output.name for output in exported.graph.outputs]
    yield f"exported: {', '.join(found)}"
    missing = [name for name in names if name not in found]
    if missing:
        yield f"FAILED to export {', '.join(missing)}"


def _short(array: Array) -> str:
    return np.array2string(array.reshape(-1)[:8], precision=4, threshold=8)
