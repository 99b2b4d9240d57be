"""The methods there are.

Others are added with ``register``, by a program or by a package's entry point in the group ``agentwrap.saliency``.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from functools import lru_cache
from typing import TypeVar

from .errors import SaliencyError
from .method import Method
from .request import RESERVED

ENTRY_POINTS = "agentwrap.saliency"

_methods: dict[str, type[Method]] = {}
M = TypeVar("M", bound=Method)


def register(method: type[M]) -> type[M]:
    """Add a method under its name; a class decorator.

    Raises:
        SaliencyError: The name is another method's, or an option's name means something else to ``explain``.
    """
    present = _methods.get(method.name)
    if present is not None and (present.__module__, present.__qualname__) != (method.__module__, method.__qualname__):
        raise SaliencyError(f"there is a method {method.name!r} already: {present.__module__}.{present.__qualname__}")
    taken = sorted(RESERVED & set(method.options()))
    if taken:
        raise SaliencyError(f"{method.name}: option {taken[0]} means something else to explain(): choose another name")
    _methods[method.name] = method
    return method


def methods() -> dict[str, type[Method]]:
    """Return the methods there are, by name."""
    _load_entry_points()
    return dict(_methods)


def method_class(name: str) -> type[Method]:
    """Return the method of this name.

    Raises:
        SaliencyError: There is none; the text names those there are.
    """
    known = methods()
    if name not in known:
        raise SaliencyError(f"there is no method {name!r}; there are {', '.join(known)}")
    return known[name]


@lru_cache(maxsize=1)
def _load_entry_points() -> None:
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            point.load()  # the module registers its methods
        except Exception as error:  # somebody else's package must not take the other methods away
            warnings.warn(f"saliency method {point.name!r} ({point.value}) cannot be loaded: {error}", stacklevel=2)
