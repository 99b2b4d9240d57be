"""What of a policy's outputs is explained."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

from .errors import SaliencyError
from .method import Method
from .outputs import CHOICE, FIRST, Outputs, Resolved, Target
from .registry import methods


def one_target(target: Any) -> bool:
    """Whether ``target`` is a single one, not several or none in particular."""
    return isinstance(target, str | numbers.Integral)


def resolve_targets(
    method: Method, clean: Outputs, target: Target | Sequence[Target] | None
) -> tuple[tuple[Target, ...], tuple[Resolved, ...]]:
    """Return the targets asked for, and the same with ``chosen`` replaced by the action's index.

    None asks for the method's own targets as far as the policy has them, ``first`` for the first of these. Of a choice
    a method that is defined for single actions alone gets the option that is chosen there.

    Raises:
        SaliencyError: The method is not defined for a target, or the policy has nothing of the kind.
    """
    if target is None or target == FIRST:
        wanted: tuple[Target, ...] = tuple(name for name in method.targets if name in clean.targets)
        wanted = wanted or tuple(name for name in method.fallback if name in clean.targets)
        if not wanted:
            raise SaliencyError(_nothing_to_explain(method, clean))
        wanted = wanted if target is None else wanted[:1]
    else:
        wanted = tuple(name if isinstance(name, str) else int(name) for name in _several(target))
    for name in wanted:
        if not accepts(method, name, continuous=clean.continuous):
            accepted = ", ".join("an action's index" if name == "action" else name for name in method.accepts)
            raise SaliencyError(f"{method.name} is not defined for target {name!r}, but for {accepted}")
        if isinstance(name, int) and name < 0:
            raise clean.not_offered(name)
    resolved = tuple(_resolved(method, clean, name) for name in wanted)
    for each in resolved:
        clean.columns(each)
    return wanted, resolved


def accepts(method: Method | type[Method], target: Target, *, continuous: bool = False) -> bool:
    """Whether a method is defined for a target, of a policy whose actions are ``continuous`` or not."""
    if continuous and target in method.accepts_continuous:
        return True
    if _is_choice(target):
        return bool({"choice", "action"} & set(method.accepts))
    return ("action" if isinstance(target, int) else target) in method.accepts


def _nothing_to_explain(method: Method, clean: Outputs) -> str:
    others = [name for name, each in methods().items() if {*each.targets, *each.fallback} & set(clean.targets)]
    why = "; its actions are continuous, there is none among others" if clean.continuous else ""
    return (
        f"{method.name} explains {', '.join(method.targets)}; this policy has only {', '.join(clean.targets)}{why}: "
        f"take {', '.join(others)}"
    )


def _resolved(method: Method, clean: Outputs, target: Target) -> Resolved:
    if target == "chosen":
        return clean.action()
    if isinstance(target, str) and _is_choice(target) and "choice" not in method.accepts:
        return clean.option_of(target)
    return target


def _is_choice(target: Target) -> bool:
    return isinstance(target, str) and target.startswith(CHOICE)


def _several(target: Any) -> Sequence[Target]:
    several = [target] if one_target(target) else target
    if not isinstance(several, Sequence) or not several or not all(map(one_target, several)):
        raise SaliencyError(
            f"target {target!r}: wanted is 'actor', 'critic', 'chosen', 'choice:<i>', an action's index, or several"
        )
    return several
