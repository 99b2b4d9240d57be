"""A call of a policy, as far as it was seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agentwrap_export.inputs import CallInput

from .arrays import Array
from .holding import Held

#: Arguments, keyword arguments and result of a call.
Glance = tuple[tuple[Any, ...], dict[str, Any], Any]


@dataclass(slots=True)
class Before:
    """What was seen when a call began.

    Attributes:
        version: ``Tensor._version`` of the observation, None where it is not known.
        state: What the policy was called with beside the observation, by array name.
    """

    version: int | None
    state: dict[str, Held]


@dataclass(slots=True)
class Call:
    """One call of the policy with a single observation.

    Attributes:
        args: Positional arguments, not copied.
        kwargs: Keyword arguments, not copied.
        batched: Whether the observation had a batch axis (of length 1).
        names: Names of the outputs.
        outputs: The outputs, in the same order.
        held: ``latent`` and named layers; nothing after a glance.
        before: What was seen when the call began, None where nobody looked.
        unlike: What of the observation is not as the environment returned it; known once the call was chosen.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    batched: bool
    names: tuple[str, ...]
    outputs: list[Held]
    held: dict[str, Held] = field(default_factory=dict)
    before: Before | None = None
    unlike: list[CallInput] = field(default_factory=list)


#: What was seen of the policy between two steps of the environment.
Seen = Sequence[Call] | Glance | None


def version_of(value: Any) -> int | None:
    """How often a tensor was changed in place; None for what is no tensor and for inference tensors."""
    if not hasattr(value, "is_inference") or value.is_inference():
        return None
    return int(value._version)


def without_batch(name: str, array: Array | None, batched: bool) -> Array | None:
    """Return an output as of one observation, without the batch axis that it was computed with."""
    if array is None:
        return None
    if name == "value" and array.size == 1:
        return array.reshape(())
    return array[0] if batched and array.ndim > 1 and array.shape[0] == 1 else array
