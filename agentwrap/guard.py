"""The instrument never hurts what it watches: a part that fails is switched off, once, with a warning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from types import FrameType
from typing import ParamSpec, TypeVar

from .errors import AgentwrapWarning

#: Packages that stand between a line of the user's and a part of the instrument.
BETWEEN = ("agentwrap", "agentwrap_export", "gymnasium", "threading", "torch")

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
            warnings.warn(f"agentwrap: {text}", AgentwrapWarning, stacklevel=_level_of_the_users_code())


def _level_of_the_users_code() -> int:
    """Return the ``stacklevel`` by which who calls this names the line of the user's own that led here.

    That is where something can be mended; in a thread of the instrument's there is none, and its own line stands.
    """
    frame: FrameType | None = sys._getframe(1)
    level = 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in BETWEEN:
        frame, level = frame.f_back, level + 1
    return level if frame is not None else 2
