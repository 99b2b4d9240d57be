"""Names for what a policy returns.

Whoever captures a policy's outputs and whoever exports its computation must speak of the same tensor by the same
name; both ask here. Nothing is guessed from values: names come from the structure of the result and from the sizes of
its tensors.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from agentwrap_export.pytree import distinct
from agentwrap_export.results import named_leaves

from .distributions import switches_of

if TYPE_CHECKING:
    import torch

#: Spellings that stand for one of the protocol's own names.
ALIASES = {
    "pi": "logits",
    "policy": "logits",
    "action_logits": "logits",
    "q": "q_values",
    "q_value": "q_values",
    "values": "value",
    "v": "value",
    "critic": "value",
}


#: The protocol's own names, which viewers know what to make of.
KNOWN = ("logits", "q_values", "mean", "log_std", "quantiles", "value", "latent")


def check_spelling(names: Sequence[str] | str) -> None:
    """Refuse names that the user gives to outputs where one is nearly that of something which viewers know.

    Raises:
        ValueError: One is; the text says which name was probably meant.
    """
    for name in (names,) if isinstance(names, str) else names:
        meant = [ALIASES[name]] if name in ALIASES else difflib.get_close_matches(name, KNOWN, n=1, cutoff=0.8)
        if name not in KNOWN and meant:
            raise ValueError(f"outputs={name!r} means nothing to a viewer: did you mean {meant[0]!r}?")


def output_names(
    result: Any, action_space: gym.Space[Any], names: Sequence[str] | str | None = None
) -> tuple[str, ...]:
    """Name each tensor of a policy's result for **one** observation (with or without a batch axis of length 1).

    A tensor alone is ``logits``, or ``mean`` where actions are continuous (nothing in a tensor tells Q-values from
    logits: give ``names="q_values"``). In a tuple the first tensor with one number for each action is ``logits`` or
    ``mean``, the first with a single number is ``value``, for continuous actions the second with one number for each
    action is ``log_std``; others are ``output_<index>``. A dict keeps its own names, nested ones joined by ``/``, but
    for a few usual spellings (``pi``, ``v``, ``q``, …) which become ``logits``, ``value``, ``q_values``, and for nested
    names that end in such a one where it is the only one (``actor/logits``).

    Args:
        result: What the policy returned for one observation.
        action_space: Tells how many numbers an action's logits or mean have, and whether actions are continuous.
        names: Names to use instead, one for each tensor.

    Returns:
        One name for each tensor of ``agentwrap_export.results.output_tensors(result)``, all different.

    Raises:
        PolicyTypeError: There is no tensor in the result; the text says what is accepted.
        ValueError: ``names`` has another number of names than there are tensors, or one of them twice.
    """
    leaves = [(own, tuple(tensor.shape)) for own, tensor in named_leaves(result)]
    return name_leaves(leaves, action_space, names)


def name_leaves(
    leaves: Sequence[tuple[str, tuple[int, ...]]],
    action_space: gym.Space[Any],
    names: Sequence[str] | str | None = None,
) -> tuple[str, ...]:
    """Name the parts of a result as ``output_names`` does, given each part's own name (or ``""``) and shape.

    Raises:
        ValueError: As ``output_names`` does.
    """
    if names is not None:
        return _checked((names,) if isinstance(names, str) else tuple(names), leaves)
    head = "mean" if isinstance(action_space, gym.spaces.Box) else "logits"
    if len(leaves) == 1 and not leaves[0][0]:
        return (head,)
    own_names = {own for own, _ in leaves if own}
    aliases = {own: ALIASES.get(own, own) for own in own_names if ALIASES.get(own) not in own_names}
    aliases |= _meant_by_last_part(own_names, {*own_names, *aliases.values()})
    sizes = [math.prod(shape) for own, shape in leaves if not own]
    switches = math.prod(action_space.shape) if isinstance(action_space, gym.spaces.MultiBinary) else 0
    given = {*own_names, *aliases.values()}
    by_size = iter(_names_by_size(sizes, head, action_size(action_space), given, switches=switches))
    taken: set[str] = set()
    return tuple(distinct(aliases.get(own, own) if own else next(by_size), taken) for own, _ in leaves)


def _meant_by_last_part(own_names: set[str], taken: set[str]) -> dict[str, str]:
    """Map nested names such as ``actor/logits`` to ``logits``, where no other output could be meant."""
    last = {own: own.rpartition("/")[2] for own in own_names if "/" in own}
    counts = Counter(last.values())
    return {own: part for own, part in last.items() if part in KNOWN and counts[part] == 1 and part not in taken}


def doubts(names: Sequence[str], tensors: Sequence[torch.Tensor], action_space: gym.Space[Any]) -> str | None:
    """Say what about names that were chosen by size may be wrong.

    Args:
        names: As ``output_names`` chose them.
        tensors: The outputs that they name, for one observation.
        action_space: The environment's.

    Returns:
        A sentence for people, None where nothing is in doubt.
    """
    actions = action_size(action_space)
    sizes = {name: tensor.numel() for name, tensor in zip(names, tensors, strict=True)}
    head = next((name for name in ("logits", "q_values", "mean") if name in sizes), None)
    shapes = {name: tuple(tensor.shape) for name, tensor in zip(names, tensors, strict=True)}
    if head == "logits" and switches_of(action_space, shapes[head]) is not None:
        if shapes[head][-1:] == (2,) and math.prod(shapes[head][:-1]) == actions:  # their shape says what they are
            return None
        return (
            f"the policy's logits have {sizes[head]} numbers for the {actions} switches of {action_space}: they are "
            f"taken for off and on of one switch after the other; return them as ({actions}, 2) to confirm it, or one "
            "number for each switch"
        )
    if head is not None and actions is not None and sizes[head] != actions:
        return (
            f"the policy's {head} have {sizes[head]} numbers, but {action_space} takes {actions}: what is shown as "
            f"{head} may be something else; say what it is with outputs="
        )
    if set(sizes) == {"mean", "value"} and actions == 1 and isinstance(action_space, gym.spaces.Box):
        return (
            "the policy returns two single numbers, which are taken for mean and value: confirm it with "
            'outputs=("mean", "value"), or say outputs=("mean", "log_std")'
        )
    return None


def action_size(space: gym.Space[Any]) -> int | None:
    """How many numbers the logits or the mean of one action have; None where that is not known."""
    match space:
        case gym.spaces.Discrete():
            return int(space.n)
        case gym.spaces.MultiDiscrete():
            return int(space.nvec.sum())
        case gym.spaces.MultiBinary() | gym.spaces.Box():
            return math.prod(space.shape)
    return None


def _names_by_size(
    sizes: list[int], head: str, actions: int | None, given: set[str], *, switches: int = 0
) -> list[str]:
    """Names for the tensors of a tuple, from the number of elements of each; not those in ``given``.

    Of switches there may be one logit for each, or two: off and on.
    """
    names = [f"output_{index}" for index in range(len(sizes))]
    free = list(range(len(sizes)))

    def assign(name: str, size: int | None) -> None:
        found = next((index for index in free if sizes[index] == size), None)
        if found is not None and name not in given:
            names[found] = name
            free.remove(found)

    assign(head, actions if actions in sizes or not switches else 2 * switches)
    # with one action, value and log_std look alike: the usual orders are (mean, value) and (mean, log_std, value)
    if head == "mean" and (actions != 1 or sum(sizes[index] == 1 for index in free) > 1):
        assign("log_std", actions)
    assign("value", 1)
    return names


def _checked(names: tuple[str, ...], leaves: Sequence[tuple[str, tuple[int, ...]]]) -> tuple[str, ...]:
    if len(names) != len(leaves):
        shapes = ", ".join(str(shape) for _, shape in leaves)
        raise ValueError(f"{len(names)} names for {len(leaves)} outputs of the policy, of shapes {shapes}: {names}")
    if len(set(names)) != len(names):
        raise ValueError(f"names of outputs must differ, these do not: {names}")
    return names
