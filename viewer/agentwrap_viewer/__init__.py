"""The viewer: explains what an agent streams, and shows it in the browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .comparison.compare import compare
    from .recording import open_recording

__all__ = ["compare", "open_recording"]


def __getattr__(name: str) -> Any:
    if name == "open_recording":  # when it is asked for: the command line must not wait for it
        from .recording import open_recording

        return open_recording
    if name == "compare":
        from .comparison.compare import compare

        return compare
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
