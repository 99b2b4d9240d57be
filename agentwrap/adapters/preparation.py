"""What a library does with observations before the policy, as ``PolicyView`` has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentwrap.policy import Kept

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Preparation:
    """The part of a ``PolicyView`` that is known apart from the policy.

    Attributes:
        before: See ``PolicyView``, as for the others.
        refresh: Likewise.
        row: Likewise.
        kept: Likewise.
    """

    before: nn.Module | None = None
    refresh: Callable[[Any, int], None] | None = None
    row: Callable[[], int | None] | None = None
    kept: Mapping[str, Kept] = field(default_factory=dict)
