"""What is marked on a recording's timeline: moments that were found, and the user's bookmarks."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
import time
from collections.abc import Collection, Mapping
from typing import Any

from agentwrap_protocol.spaces import Discrete, MultiBinary, MultiDiscrete
from agentwrap_viewer.launch import Child
from agentwrap_viewer.page.marks import Mark, Marks
from agentwrap_viewer.page.store import Store
from agentwrap_viewer.recording import Recording, RecordingError
from agentwrap_viewer.recording.moments import KINDS, Criteria

#: The kind of moment that is found by running the policy.
FLIP = "action_flip"

#: Most of the time that finding moments anew may take, where a recording grows.
SHARE = 1 / 20


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which moments are marked.

    Attributes:
        kinds: Of ``moments.KINDS`` and ``action_flip``; None for all.
        criteria: What counts as one.
        noise: ``sigma``, ``samples`` and ``share`` of ``recording.flips.search``, as far as they are others than there.

    Raises:
        ValueError: There is no such kind.
    """

    kinds: Collection[str] | None = None
    criteria: Criteria = dataclasses.field(default_factory=Criteria)
    noise: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check kinds."""
        if unknown := [kind for kind in self.kinds or () if kind not in (*KINDS, FLIP)]:
            raise ValueError(f"no moments of kind {unknown[0]!r}; there are {', '.join((*KINDS, FLIP))}")

    @property
    def flips(self) -> bool:
        """Whether those are wanted for which the policy is run."""
        return self.kinds is None or FLIP in self.kinds


class RecordingMarks(Marks):
    """Marks of a recording, with its bookmarks; the moments that were found are put with ``find_moments``.

    Args:
        recording: The recording, open.
    """

    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self._recording, self._bookmarks = recording, recording.bookmarks
        self._wanted: Wanted | None = None
        self._looked_at, self._due = 0, 0.0  # how many steps, and when to look again
        self._renew()

    def find_moments(self, wanted: Wanted) -> None:
        """Mark the moments of the recording, but those that the policy is run for.

        Raises:
            RecordingError: The recording's index cannot be read.
        """
        self._wanted, self._looked_at, began = wanted, len(self._recording.steps), time.monotonic()
        kinds = None if wanted.kinds is None else [kind for kind in wanted.kinds if kind != FLIP]
        found = self._recording.moments(kinds, **dataclasses.asdict(wanted.criteria))
        self.put("moments", (Mark(each.step, each.kind, each.text) for each in found))
        now = time.monotonic()
        self._due = now + (now - began) / SHARE

    def grow(self) -> None:
        """Mark the moments of what was written since, where it is time to; at its end in any case.

        Raises:
            RecordingError: As ``find_moments``.
        """
        if self._wanted is not None and len(self._recording.steps) > self._looked_at:
            if self._recording.complete or time.monotonic() >= self._due:
                self.find_moments(self._wanted)

    async def find_flips(self, store: Store, wanted: Wanted, *, follow: bool = False) -> None:
        """Have a process of its own look for actions that flip, mark what it finds as it does, and go on waiting.

        Where there is nothing to look for, no policy or no choice of actions, nothing is begun.

        Args:
            store: Told whenever more is known.
            wanted: What is looked for.
            follow: Look at what is written from now on too.
        """
        hello, more = self._recording.hello, ["--follow"] if follow else []
        discrete = hello is not None and isinstance(hello.action_space, Discrete | MultiDiscrete | MultiBinary)
        if wanted.flips and discrete and (self._recording.versions or follow):
            given = {"--criteria": dataclasses.asdict(wanted.criteria), "--noise": dict(wanted.noise)}
            options = [text for name, value in given.items() for text in (name, json.dumps(value))]
            path = str(self._recording.path.resolve())
            child = Child([sys.executable, "-m", "agentwrap_viewer.explainer.flips", path, *options, *more])
            try:
                await child.start()
                while line := await child.line():
                    found: list[Any] = json.loads(line)
                    self.put("flips", (Mark(step, FLIP, text) for step, text in found))
                    store.notify()
            finally:
                await child.stop()
        await asyncio.Event().wait()

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
