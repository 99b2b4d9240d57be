"""Which of a policy's outputs is the recurrent state that enters its next call."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from .inputs import CallInput
from .results import placed_leaves

#: A tensor as far as it has to agree: path below the argument or the part of the result, shape, element type.
Leaf = tuple[tuple[str, ...], tuple[int, ...], Any]


def carried(inputs: Sequence[CallInput], result: Any, *, other: Collection[int] = ()) -> dict[int, int]:
    """Pair a policy's new state with the state it was called with.

    An argument is recurrent state where a part of the result has the same structure, shapes and element types: in
    ``logits, (h, c) = policy(x, (h, c))`` the second part. Of several such parts the one counts that bears the
    argument's name, or else the last.

    Args:
        inputs: The tensors of the call.
        result: What the call returned.
        other: Places, among the result's tensors, of what is known to be something else.

    Returns:
        Place of an input by place of the output (among ``results.output_tensors(result)``) that fills it next.
    """
    parts = _parts(result, other)
    found: dict[int, int] = {}
    for parameter, leaves in _arguments(inputs).items():
        wanted = {leaf for leaf, _ in leaves}
        alike = [
            path
            for path, part in parts.items()
            if {leaf for leaf, _ in part} == wanted and not found.keys() & _places(part)
        ]
        if alike:
            best = max(alike, key=lambda path: (path[-1:] == (parameter,), alike.index(path)))
            filling = dict(parts[best])
            found.update((filling[leaf], place) for leaf, place in leaves)
    return found


def _arguments(inputs: Sequence[CallInput]) -> dict[str, list[tuple[Leaf, int]]]:
    """The floating-point tensors of each argument but the observation."""
    arguments: dict[str, list[tuple[Leaf, int]]] = {}
    for place, given in enumerate(inputs):
        if given.role == "state" and given.tensor.is_floating_point():
            leaf = given.path[1:], tuple(given.tensor.shape), given.tensor.dtype
            arguments.setdefault(given.path[0], []).append((leaf, place))
    return arguments


def _parts(result: Any, other: Collection[int]) -> dict[tuple[str, ...], list[tuple[Leaf, int]]]:
    """All parts of a nested result, by their paths, with the tensors in each."""
    parts: dict[tuple[str, ...], list[tuple[Leaf, int]]] = {}
    for place, (path, tensor) in enumerate(placed_leaves(result)):
        names = tuple(map(str, path))
        for depth in range(len(names) + 1) if place not in other else ():
            leaf = names[depth:], tuple(tensor.shape), tensor.dtype
            parts.setdefault(names[:depth], []).append((leaf, place))
    return parts


def _places(part: list[tuple[Leaf, int]]) -> set[int]:
    return {place for _, place in part}
