"""A contract test for adapters, and for policies of one's own: does agentwrap see what the policy computes?"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import gymnasium as gym
import numpy as np

from agentwrap_protocol.graph import Graph

from .arrays import Array, copied
from .black_box import CallableBox
from .errors import AgentwrapError
from .guard import Guard
from .outputs import output_names
from .policy import CallableView, PolicyView, view_policy

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


def check_policy(policy: Any, env: gym.Env[Any, Any], *, steps: int = 5, seed: int = 0, state: Any = None) -> Report:
    """Check that an adapter describes a policy truly, and say in words what was found.

    The library's own ``predict`` acts for a few steps, as a user would, while hooks look on. What was seen, what the
    module to be exported computes, and the action that the library took have to agree, and the computation has to be
    exportable. Recurrent state is handed from step to step, and what the library makes of it has to agree too.

    Args:
        policy: What ``InterpretWrapper`` would be given. Its weights stay as they are.
        env: The environment it acts in; it is reset and stepped.
        steps: How many observations to try.
        seed: For the environment's first reset.
        state: For a recurrent module that is called itself, ``policy(observation, state)``: the state that an episode
            begins with.

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
    lines: list[str] = []
    try:
        found = _call(view, env, seed) if isinstance(view, CallableView) else _watch(view, env, steps, seed, state)
        for line in found:
            lines.append(line)
    except Exception as error:  # mostly the policy's own, of observations that it does not take
        where = traceback.extract_tb(error.__traceback__)[-1]
        lines.append(
            f"FAILED: {type(error).__name__} was raised for observations of {env.observation_space}: {error} "
            f"({where.filename}, line {where.lineno})"
        )
    return Report(tuple(dict.fromkeys(lines)))


def _watch(view: PolicyView, env: gym.Env[Any, Any], steps: int, seed: int, state: Any) -> Iterator[str]:
    """What is found when a policy acts while hooks look on, and of what is exported of it."""
    check = None if view.watch is None else _Check(view)  # now what prepares observations is where the agent is
    observations = list(_observations(view, env, steps, seed))
    if check is None:
        yield "the policy is called itself: no adapter is involved"
    else:
        for observation, begins in observations:
            yield from check.act(observation, begins=begins)
        yield from check.summary()
    yield from _export(view, observations[0][0], env.action_space, state)


def _observations(view: PolicyView, env: gym.Env[Any, Any], steps: int, seed: int) -> Iterator[tuple[Any, bool]]:
    """Observations of an episode, or more, in which the library acts, or else chance; and whether an episode begins."""
    env.action_space.seed(seed)
    observation, _ = env.reset(seed=seed)
    begins, chance = True, view.predict is None or bool(view.carried)
    for _ in range(steps):
        yield copy.deepcopy(observation), begins  # environments reuse their buffers
        action = env.action_space.sample() if chance or view.predict is None else view.predict(observation)
        # predict() of some libraries gives arrays without axes, which some environments do not take
        scalar = isinstance(action, np.ndarray) and action.ndim == 0
        observation, _, terminated, truncated, _ = env.step(action.item() if scalar else action)
        begins = terminated or truncated
        if begins:
            observation, _ = env.reset()


def _call(view: CallableView, env: gym.Env[Any, Any], seed: int) -> Iterator[str]:
    """What is found when a function is called for others."""
    observation, _ = env.reset(seed=seed)
    arrays, _ = copied("observation", observation)
    yield "the policy is a function: it is called for its outputs"
    try:
        box = CallableBox(
            view.call, arrays, observation_space=env.observation_space, action_space=env.action_space, names=None
        )
    except Exception as error:
        yield f"FAILED: it cannot be probed: {error}"
    else:
        how = "a batch of observations" if box.most_rows > 1 else "one observation at a time"
        yield f"probed, with {how}: {', '.join(box.outputs)}"


class _Check:
    """Compares what is seen when the library acts with what the module to be exported computes."""

    def __init__(self, view: PolicyView) -> None:
        from agentwrap_export.call import isolated_copy

        from .watching import WatchCapture, as_batch

        self._as_batch = as_batch
        self._view, self._capture = view, WatchCapture(view, guard=Guard(strict=True))
        self._copy = isolated_copy(view.module)
        self._seen: set[str] = set()
        self._state: dict[str, Any] = {}

    def act(self, observation: Any, *, begins: bool) -> Iterator[str]:
        """Have the library act once, in an episode that begins or goes on; yield what is wrong."""
        import torch

        if begins:
            self._state = cast(Any, self._view.module).initial() if self._view.carried else {}
        arrays = copied("observation", observation)[0]
        given = self._as_batch(arrays, self._view.agent)
        self._capture.attach()
        self._capture.expect(observation)
        try:
            with torch.no_grad():
                action, after = self._library(observation, given)
        finally:
            acts = self._capture.take()
            call = self._capture.choose(acts, arrays)
            self._capture.detach()
        if call is None:
            yield self._unseen(acts)
            return
        found = self._capture.arrays(call)
        seen = {name.removeprefix("output/"): array for name, array in found.items() if name.startswith("output/")}
        self._seen.update(seen)
        with torch.no_grad():
            computed = dict(self._copy(*call.args))
        leaving = computed.pop("state", {})
        exported = {name: tensor[0].detach().cpu().numpy() for name, tensor in computed.items()}
        yield from _differences(seen, exported)
        yield from self._other_action(exported, action)
        yield from self._other_state(found, leaving, after)
        self._state.update(leaving)

    def summary(self) -> Iterator[str]:
        """Yield what was seen, and what was not."""
        yield f"seen when the library acts: {', '.join(name for name in self._view.watch or () if name in self._seen)}"
        unseen = [name for name in self._view.watch or () if name not in self._seen]
        if unseen:
            yield f"computed by the exported module alone: {', '.join(unseen)}"
        if self._view.predict is None or self._view.distribution is None:
            yield "not compared with the library's actions: the view has no predict, or no distribution"

    def _library(self, observation: Any, given: Any) -> tuple[Any, Mapping[str, Any]]:
        """Have the library act; return its action, and what is known of the state after it."""
        state = (self._state,) if self._view.carried else ()
        if self._view.predict is None:
            self._view.module(given, *state)
            return None, {}
        result = self._view.predict(observation, *state)
        return result if state else (result, {})

    def _other_state(
        self, seen: Mapping[str, Array], leaving: Mapping[str, Any], after: Mapping[str, Any]
    ) -> Iterator[str]:
        """Compare the state that entered with what the step before left, and what the library left with our own."""
        for name in leaving:
            entered, before = seen[f"input/state/{name}"], self._state[name].cpu().numpy()
            if not np.allclose(entered, before, rtol=TOLERANCE, atol=TOLERANCE):
                yield f"FAILED to see the state {name}: {_short(entered)} entered, left before was {_short(before)}"
        for name, tensor in after.items():
            if name in leaving and not np.allclose(tensor, leaving[name].cpu(), rtol=TOLERANCE, atol=TOLERANCE):
                yield f"FAILED to reproduce the state {name}: the library left another than the exported module"

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


def _export(view: PolicyView, observation: Any, action_space: gym.Space[Any], state: Any) -> Iterator[str]:
    import torch

    from agentwrap_export.export import export_policy

    from .watching import as_batch

    given = as_batch(copied("observation", observation)[0], view.agent)
    try:
        if view.carried:
            state = cast(Any, view.module).initial()
        arguments = (given,) if state is None else (given, state)
        names = view.names if view.watch is None else (*view.watch, *(f"state/{name}" for name in view.carried))
        if names is None:
            with torch.no_grad():
                names = output_names(view.agent(*arguments), action_space)
        exported = export_policy(view.module, arguments, {}, output_names=names, batched=True)
    except AgentwrapError as error:
        yield f"FAILED to export: {error}"
        return
    found = [output.name for output in exported.graph.outputs]
    yield f"exported: {', '.join(found)}"
    missing = [name for name in names if name not in found]
    if missing:
        yield f"FAILED to export {', '.join(missing)}"
    yield from _recurrence(exported.graph)


def _recurrence(graph: Graph) -> Iterator[str]:
    """Yield which state is carried from step to step, and what is not."""
    states = [given for given in graph.inputs if given.role == "state"]
    carried = [f"{given.name} becomes {given.next}" for given in states if given.next is not None]
    held = [given.name for given in states if given.next is None]
    if carried:
        yield f"recurrent: {', '.join(carried)}"
    if held and not carried:
        yield (
            f"FAILED to carry on {', '.join(held)}: nothing that the policy returns has its structure and shapes; "
            "return the new state as the old one was given"
        )
    elif held:
        yield f"given to the policy and not carried on: {', '.join(held)}"


def _short(array: Array) -> str:
    return np.array2string(array.reshape(-1)[:8], precision=4, threshold=8)
