"""Names for what a policy is called with.

Capture and export both ask here, so that the arrays of a step message and the inputs of the policy graph have the
same names.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from .pytree import distinct, leaves_with_paths

if TYPE_CHECKING:
    import torch

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_./]")
_LONGEST_NAME = 250  # the protocol's 256, less room for a number that tells equal names apart


@dataclass(frozen=True, slots=True)
class CallInput:
    """One tensor that a policy was called with.

    Attributes:
        name: Its name in the policy graph: ``observation``, ``observation/<key>``, or the parameter's name, with
            ``/<key>`` or ``/<index>`` where the argument is a dict or a sequence. Holds only what the protocol allows
            in a name.
        array: The array of a step message that fills it: ``observation``, ``observation/<key>`` or ``input/<name>``.
        role: ``observation`` for the first argument, ``state`` for all others (recurrent state, masks).
        tensor: The tensor itself, not a copy.
        path: Where it stands: the parameter, then keys and places in what that was given.
    """

    name: str
    array: str
    role: Literal["observation", "state"]
    tensor: torch.Tensor
    path: tuple[str, ...] = ()


def call_inputs(module: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[CallInput]:
    """Name the tensors of a call ``module(*args, **kwargs)``, in pytree order of ``(args, kwargs)``.

    The observation is the first parameter of ``module.forward`` whose argument holds a tensor. Arguments without
    tensors are left out.

    Raises:
        TypeError: The arguments do not fit the signature of ``module.forward``.
    """
    arguments = _arguments(module, args, kwargs)
    tensors = [(parameter, _tensors(value)) for parameter, value in arguments]
    with_tensors = {parameter for parameter, leaves in tensors if leaves}
    observed = next((parameter for parameter in _signature_order(module, arguments) if parameter in with_tensors), None)
    found: list[CallInput] = []
    taken: set[str] = set()
    for parameter, leaves in tensors:
        for path, tensor in leaves:
            is_observation = parameter == observed
            full = "/".join(("observation" if is_observation else parameter, *path))
            name = distinct(_NOT_IN_NAMES.sub("_", full)[:_LONGEST_NAME], taken)
            array = full if is_observation else f"input/{name}"
            role: Literal["observation", "state"] = "observation" if is_observation else "state"
            found.append(CallInput(name, array, role, tensor, (parameter, *path)))
    return found


def arrays_to_tensors(tree: Any) -> Any:
    """Return ``tree`` with its arrays as tensors that share their memory: some policies are called with arrays."""
    import numpy as np
    import torch
    from torch.utils import _pytree as pytree

    def convert(leaf: Any) -> Any:
        return torch.as_tensor(leaf) if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biuf" else leaf

    if not any(isinstance(leaf, np.ndarray) for leaf in pytree.tree_leaves(tree)):
        return tree
    return pytree.tree_map(convert, tree)


def _arguments(module: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The call's arguments in call order, each with its parameter's name: ``args/0``, ``args/1``, … for ``*args``."""
    names: list[str] = []
    for name, kind in _parameters(module):
        if kind is inspect.Parameter.VAR_POSITIONAL:
            names.extend(f"{name}/{index}" for index in range(len(args) - len(names)))
            break
        if kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
            names.append(name)
    if len(args) > len(names):
        raise TypeError(
            f"{type(module).__name__}.forward takes {len(names)} positional arguments, {len(args)} were given"
        )
    return [*zip(names, args, strict=False), *kwargs.items()]


def _signature_order(module: torch.nn.Module, arguments: list[tuple[str, Any]]) -> list[str]:
    """Names of the arguments as the signature orders them, for keyword arguments come in any order."""
    order = {name: index for index, (name, _) in enumerate(_parameters(module))}
    return sorted((name for name, _ in arguments), key=lambda name: order.get(name.split("/")[0], len(order)))


def _parameters(module: torch.nn.Module) -> tuple[tuple[str, Any], ...]:
    """Names and kinds of the parameters of a module's forward."""
    forward = module.forward
    function = getattr(forward, "__func__", forward)
    return _parameters_of(function)[function is not forward :]


@lru_cache(maxsize=64)
def _parameters_of(function: Any) -> tuple[tuple[str, Any], ...]:
    # inspecting takes longer than all else that is done with a call
    return tuple((parameter.name, parameter.kind) for parameter in inspect.signature(function).parameters.values())


def _tensors(value: Any) -> list[tuple[tuple[str, ...], torch.Tensor]]:
    """The tensors in an argument, each with its path in it."""
    import torch

    return [(tuple(map(str, path)), leaf) for path, leaf in leaves_with_paths(value) if isinstance(leaf, torch.Tensor)]
