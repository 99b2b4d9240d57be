"""The options that all ways to look at an agent have."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from .recorder import OnFull


class Options(TypedDict, total=False):
    """Options of ``InterpretWrapper``, where they are explained."""

    endpoint: str | None
    name: str | None
    fps: float
    layers: Sequence[str] | str | None
    outputs: Sequence[str] | str | None
    action_meanings: Sequence[str] | None
    feature_names: Sequence[str] | None
    weights_every: float
    probe_ms_per_s: float
    record: str | os.PathLike[str] | None
    record_every: int
    on_full: OnFull
    overwrite: bool
    view: bool
    quiet: bool
    strict: bool
