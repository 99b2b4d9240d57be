"""What the page's record button starts and shows; who records is ``agentwrap_viewer.keeper``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Kept:
    """A recording that the page has begun.

    Attributes:
        path: The file.
        seconds: How long it has been recorded.
        bytes: Size of the file.
        running: Whether it goes on.
        outcome: How it ended, for people; empty while it goes on.
        failed: Whether it ended otherwise than on purpose or with the stream.
    """

    path: str
    seconds: float
    bytes: int
    running: bool
    outcome: str = ""
    failed: bool = False


class Keeper(Protocol):
    """Records the stream that is shown, when asked to."""

    @property
    def kept(self) -> Kept | None:
        """The recording that goes on, or else the last one, or None."""

    def begin(self, endpoint: str, name: str) -> None:
        """Record a stream from now on; nothing where one is being recorded already."""

    def end(self) -> None:
        """End the recording that goes on."""

    async def close(self) -> None:
        """End the recording that goes on, and wait until it is whole."""
