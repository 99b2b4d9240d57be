"""Observation and action spaces as plain data (SPEC section 5)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(max_length=256)]
Dimension = Annotated[int, Meta(ge=0, le=2**40)]
Shape = Annotated[tuple[Dimension, ...], Meta(max_length=16)]


class Box(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="box"):
    """An array of numbers.

    Attributes:
        shape: The array's shape.
        dtype: NumPy's name of the element type, for example ``uint8``.
        low: The lowest bound over all elements (may be ``-inf``).
        high: The highest bound over all elements (may be ``inf``).
    """

    shape: Shape
    dtype: Name
    low: float
    high: float


class Discrete(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="discrete"):
    """One of ``n`` integers counted from ``start``."""

    n: Annotated[int, Meta(ge=1)]
    start: int = 0


class MultiDiscrete(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="multi_discrete"):
    """Several integers at once; ``counts`` says how many values each can take."""

    counts: Annotated[tuple[Annotated[int, Meta(ge=1)], ...], Meta(max_length=4096)]


class MultiBinary(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="multi_binary"):
    """An array of zeros and ones."""

    shape: Shape


class Dict(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="dict"):
    """Named spaces. Arrays of an entry are named ``observation/<key>``."""

    spaces: Annotated[dict[Name, Space], Meta(max_length=256)]


class Tuple(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="tuple"):
    """Spaces in a row. Arrays of an entry are named ``observation/<index>``."""

    spaces: Annotated[tuple[Space, ...], Meta(max_length=256)]


class Other(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="other"):
    """A space this version has no words for; ``text`` is for people."""

    text: Annotated[str, Meta(max_length=4096)]


Space = Box | Discrete | MultiDiscrete | MultiBinary | Dict | Tuple | Other
