"""The instrument never hurts what it watches: a part that fails is switched off, once, with a warning."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from .errors import AgentwrapWarning

P = ParamSpec("P")
R = TypeVar("R")


class Guard:
    """Runs parts of the instrument and switches off those that fail.

    Args:
        strict: Raise the error instead of warning, in the thread that runs the part. For tests.
    """

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self._off: dict[str, str] = {}
        self._said: set[str] = set()

    def run(self, part: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R | None:
        """Call ``function``; None if it fails, and from then on for everything under the name of ``part``."""
        if part in self._off:
            return None
        try:
            return function(*args, **kwargs)
        except Exception as error:
            self.switch_off(part, error)
            return None

    def switch_off(self, part: str, error: Exception) -> None:
        """Switch a part off and warn of it, or raise ``error`` where strict."""
        if self.strict:
            raise error
        self._off[part] = f"{part} failed and is switched off: {type(error).__name__}: {error}"
        self.warn_once(part, self._off[part])

    def reason(self, part: str) -> str | None:
        """Why a part is switched off, None where it is on."""
        return self._off.get(part)

    def is_on(self, part: str) -> bool:
        """Whether a part has not failed so far."""
        return part not in self._off

    def warn_once(self, about: str, text: str) -> None:
        """Warn, but only the first time for what this is about."""
        if about not in self._said:
            self._said.add(about)
            warnings.warn(f"agentwrap: {text}", AgentwrapWarning, stacklevel=4)
