"""What is marked on a recording's timeline: moments that were found, and the user's bookmarks."""

from __future__ import annotations

from agentwrap_viewer.page.marks import Mark, Marks
from agentwrap_viewer.recording import Recording, RecordingError


class RecordingMarks(Marks):
    """Marks of a recording, with its bookmarks; the moments that were found are put with ``find_moments``.

    Args:
        recording: The recording, open.
    """

    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self._recording, self._bookmarks = recording, recording.bookmarks
        self._renew()

    def find_moments(self) -> None:
        """Mark the moments of the recording.

        Raises:
            RecordingError: The recording's index cannot be read.
        """
        self.put("moments", (Mark(found.step, found.kind, found.text) for found in self._recording.moments()))

    def bookmark(self, step: int, note: str) -> None:
        """Bookmark a step; where that cannot be saved, ``problem`` says why."""
        try:
            self._bookmarks.add(step, note)
        except RecordingError as error:
            self.problem = str(error)
        else:
            self._renew()

    def remove_bookmark(self, step: int) -> None:
        """Take a step's bookmark away; likewise."""
        try:
            self._bookmarks.remove(step)
        except RecordingError as error:
            self.problem = str(error)
        else:
            self._renew()

    def _renew(self) -> None:
        try:
            self.put("bookmarks", (Mark(each.step, "bookmark", each.note) for each in self._bookmarks.all))
            self.problem = None
        except RecordingError as error:
            self.problem = str(error)
