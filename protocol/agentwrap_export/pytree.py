"""Leaves of nested arguments and results, in the order in which ``torch.export`` flattens them too."""

from __future__ import annotations

import dataclasses
from typing import Any


def leaves_with_paths(tree: Any) -> list[tuple[tuple[str | int, ...], Any]]:
    """Return the leaves of a pytree with their paths: an int for a place in a sequence, a str for a key."""
    import torch
    from torch.utils import _pytree as pytree

    if isinstance(tree, torch.Tensor):  # nearly always, and ten times as fast
        return [((), tree)]
    if type(tree) is tuple and all(isinstance(item, torch.Tensor) for item in tree):
        return [((index,), item) for index, item in enumerate(tree)]
    return [(tuple(_part(key) for key in path), leaf) for path, leaf in pytree.tree_flatten_with_path(tree)[0]]


def fields_of(value: Any) -> dict[str, Any] | None:
    """Return the fields of a dataclass's object by name; None for all else."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return None
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def distinct(name: str, taken: set[str]) -> str:
    """Return ``name``, with a number at its end if it is taken, and take it."""
    base, count = name, 2
    while name in taken:
        name, count = f"{base}_{count}", count + 1
    taken.add(name)
    return name


def _part(key: Any) -> str | int:
    if hasattr(key, "idx"):
        return int(key.idx)
    return str(getattr(key, "key", getattr(key, "name", key)))
