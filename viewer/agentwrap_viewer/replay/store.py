"""A recording as the page's store: steps read where one looks, maps kept as they are computed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from agentwrap_protocol.messages import Message, Outputs, SaliencyMap, Step
from agentwrap_viewer.page.pin import Pin
from agentwrap_viewer.page.ring import MapShelf, StepRing, size_of
from agentwrap_viewer.page.store import Store
from agentwrap_viewer.recording import Recording, RecordingError

from .columns import Columns
from .contrast import Contrast
from .marked import RecordingMarks

#: Bytes of steps, and of maps, that are kept: going back and forth reads and computes each once.
STEP_BYTES, MAP_BYTES = 32 * 2**20, 128 * 2**20

#: Versions of the policy of which maps are kept that did not make the steps, and bytes of each.
SHELVES, SHELF_BYTES = 8, 32 * 2**20


class CannotReplay(RuntimeError):
    """A recording cannot be shown, or not with these maps; the text says why."""


class RecordedSteps(StepRing):
    """The steps of a recording at their positions in it, all of which can be had; some are kept in memory."""

    def __init__(self, recording: Recording, columns: Columns, *, max_bytes: int = STEP_BYTES) -> None:
        super().__init__(max_bytes, len(columns.step))
        self.unreadable: dict[int, str] = {}  #: Positions of damaged steps that were looked at: why
        self._recording, self._columns = recording, columns
        self._kept: OrderedDict[int, Step] = OrderedDict()

    def grow(self, columns: Columns) -> None:
        """Take in that the recording has more steps."""
        self._columns = columns

    def __len__(self) -> int:
        return len(self._columns.step)

    def __iter__(self) -> Iterator[Step]:
        return (step for position in range(len(self)) if (step := self.at(position)) is not None)

    @property
    def first(self) -> int:
        """Position of the first step: 0."""
        return 0

    @property
    def last(self) -> int:
        """Position of the last step."""
        return len(self) - 1

    def append(self, step: Step) -> None:
        """Refuse: nothing can be added to what was recorded.

        Raises:
            TypeError: Always.
        """
        raise TypeError("steps of a recording are read from its file")

    def at(self, position: int) -> Step | None:
        """Return the step at a position; of one that is damaged what the index says; None where there is none."""
        if not 0 <= position < len(self):
            return None
        if position in self._kept:
            self._kept.move_to_end(position)
            return self._kept[position]
        step = self._kept[position] = self._read(position)
        self.bytes += size_of(step)
        while len(self._kept) > 1 and self.bytes > self.max_bytes:
            self.bytes -= size_of(self._kept.popitem(last=False)[1])
        return step

    def _read(self, position: int) -> Step:
        try:
            return self._recording.steps[position]
        except RecordingError as error:
            self.unreadable[position] = str(error)
            hello, episode = self._recording.hello, int(self._columns.episode[position])
            return Step(
                stream=hello.stream if hello is not None else "0" * 32,
                step=int(self._columns.step[position]),
                episode=episode,
                episode_step=position - self._columns.start_of(episode),
                reward=float("nan"),
                episode_return=float("nan"),
                terminated=False,
                truncated=False,
            )

    def position_of(self, step: int) -> int | None:
        """Return the position of the step of this number, or None where it was not recorded."""
        position = self._columns.position_of(step)
        return position if self._columns.step[position] == step else None


class RecordedMaps(MapShelf):
    """Maps of one method, options and target, from a file where it has them: others are of no use to who looks around.

    Args:
        max_bytes: Bytes to keep of those that were computed.
        file: A recording of maps, or None.
    """

    def __init__(self, max_bytes: int = MAP_BYTES, *, file: Recording | None = None) -> None:
        super().__init__(max_bytes)
        self._file = file
        self._in_file = file.explained if file is not None else {}
        self._kind: object = None

    def choose(self, kind: object) -> None:
        """Have ``get`` return only maps of this (method, options, target) from now on."""
        self._kind = kind

    def get(self, step: int) -> SaliencyMap | None:
        """Return the best map of a step, or None."""
        kept = super().get(step)
        if self._suits(kept) and kept is not None and kept.refined >= 1:
            return kept
        found = self._read(step)
        if found is not None and self._suits(found):
            self.put(found)
            return found
        return kept if self._suits(kept) else None

    def _suits(self, message: SaliencyMap | None) -> bool:
        return message is not None and self._kind in (None, (message.method, message.options, message.target))

    def _read(self, step: int) -> SaliencyMap | None:
        if self._file is None or step not in self._in_file:
            return None
        try:
            return self._file.saliency_map(self._in_file[step])
        except RecordingError:  # damaged: it is computed
            del self._in_file[step]
            return None


class RecordedStore(Store):
    """A recording, and what the explainer makes of it.

    Args:
        recording: The recording; stays open while it is shown.
        maps: Maps of it that were computed before, or None.
        follow: Show also what is written to it from now on.

    Attributes:
        recording: The recording.
        columns: What is known of all its steps.
        marks: What is marked on its timeline.
        contrast: Two versions of its policy that are compared, or None.

    Raises:
        CannotReplay: There is nothing to show, or the maps are of another recording or another policy.
    """

    def __init__(self, recording: Recording, maps: Recording | None = None, *, follow: bool = False) -> None:
        super().__init__()
        hello = recording.hello
        if not len(recording.steps) or hello is None:
            raise CannotReplay(f"{recording.path} holds no steps: there is nothing to replay")
        if maps is not None:
            check_maps(recording, maps)
        self.recording, self.columns = recording, Columns.of(recording)
        self.marks: RecordingMarks = RecordingMarks(recording)
        self.contrast: Contrast | None = None
        self.hello = hello
        self.steps: RecordedSteps = RecordedSteps(recording, self.columns)
        self.maps: RecordedMaps = RecordedMaps(file=maps)
        self._follow, self._last_episode = follow, -1
        self._not_followed: str | None = None
        self._add_recorded_episodes()
        self._by_version: OrderedDict[int, RecordedMaps] = OrderedDict()
        self._kind: object = None
        self._newest = self.steps.at(self.steps.last)
        if not recording.versions:
            problem = hello.policy.problem or "The policy was not called while it was recorded."
            self.without_maps = f"The recording holds no policy. {problem}"

    def _add_recorded_episodes(self) -> None:
        for episode in self.recording.episodes:
            if episode.number <= self._last_episode or episode.episode_return is None or episode.length is None:
                continue
            self._last_episode = episode.number
            self.episodes.add(episode.number, episode.episode_return, episode.length)

    @property
    def follows(self) -> bool:
        """Whether steps are still being added."""
        return self._follow and not self.recording.complete

    def advance(self) -> None:
        """Take in what was written to the recording since, where it is followed; call it about once a second."""
        if not self.follows:
            return
        try:
            if self.recording.refresh():
                self._grow()
            self.marks.grow()
        except RecordingError as error:
            self._follow, self._not_followed = False, f"what is written from now on is not shown: {error}"
        self.notify()

    def _grow(self) -> None:
        self.columns = Columns.of(self.recording, self.columns)
        self.steps.grow(self.columns)
        self._newest = self.steps.at(self.steps.last)
        self._add_recorded_episodes()
        if self.contrast is not None:
            self.contrast.grow(self.columns.step)

    @property
    def connection(self) -> str:
        """``recorded``."""
        return "recorded"

    @property
    def stream(self) -> str | None:
        """Identity of the stream that was recorded."""
        return self.hello.stream if self.hello is not None else None

    @property
    def title(self) -> str | None:
        """Name of the file."""
        return self.recording.path.name

    @property
    def newest(self) -> Step | None:
        """The last step."""
        return self._newest

    @property
    def notes(self) -> list[str]:
        """What is not as it should be with the file."""
        notes, unreadable = list(self.recording.notes), self.steps.unreadable
        if self.follows:
            notes.clear()  # that it was not ended is as it should be
        if self._not_followed is not None:
            notes.append(self._not_followed)
        if unreadable:
            why = next(iter(unreadable.values()))
            notes.append(f"{len(unreadable):,} of the steps looked at cannot be read: {why}")
        return notes

    def map_of(self, step: int, version: int | None = None) -> SaliencyMap | None:
        """Return the best map of a step by a version of the policy; None for the version that made the step."""
        own = self.maps.get(step)
        if version is None or (own is not None and own.policy_version == version):
            return own
        shelf = self._by_version.get(version)
        found = shelf.get(step) if shelf is not None else None
        if found is None and self.pin is not None and self.pin.step.step == step:
            return self.pin.map_by(version)
        return found

    def _add_map(self, message: SaliencyMap) -> None:
        """Keep a map: with the others where it is of the policy that made the step, else with those of its version."""
        position = self.steps.position_of(message.step)
        step = self.steps.at(position) if position is not None else None
        if step is None or message.source != self.stream:
            return
        if step.policy_version == message.policy_version:
            super()._add_map(message)
        elif self.pin is not None and self.pin.take(message):
            return  # there is room for all its versions, and none for so many of other steps
        elif self._shelf(message.policy_version).put(message):
            self._statistics.on_map(message)
            self.maps.newest = self.maps.newest or message

    def _shelf(self, version: int) -> RecordedMaps:
        shelf = self._by_version.setdefault(version, RecordedMaps(SHELF_BYTES))
        shelf.choose(self._kind)
        self._by_version.move_to_end(version)
        while len(self._by_version) > SHELVES:
            self._by_version.popitem(last=False)
        return shelf

    def _pin_of(self, step: Step) -> Pin:
        return Pin(step, versions=lambda: self.recording.versions)

    def name_of_version(self, version: int) -> str:
        """Return what a version of the policy is called: the name of the file that it comes from, or its number."""
        name = self.recording.name_of(version)
        return super().name_of_version(version) if name == f"version {version}" else name

    def add(self, message: Message) -> None:
        """Take in one message of the explainer."""
        if isinstance(message, Outputs):
            if self.contrast is not None and message.source == self.stream:
                self.contrast.take(message)
            return
        super().add(message)

    def notify(self) -> None:
        """Tell everyone who listens; the explainer may have changed what it explains."""
        if self.explainer is not None:
            self._kind = (self.explainer.method, self.explainer.options, self.explainer.target)
            for maps in (self.maps, *self._by_version.values()):
                maps.choose(self._kind)
        super().notify()


def check_maps(recording: Recording, maps: Recording) -> None:
    """Check that maps are of this recording, each computed with the policy of its step.

    Raises:
        CannotReplay: They are not.
    """
    hello, of = recording.hello, maps.hello
    if hello is None or of is None or hello.stream != of.stream:
        raise CannotReplay(f"{maps.path} holds no maps of {recording.path}: they are of another run")
    if not maps.explained:
        raise CannotReplay(f"{maps.path} holds no maps: make some with agentwrap explain")
    if version := maps.metadata.get("policy_version"):
        raise CannotReplay(
            f"{maps.path} shows what version {version} of the policy looks at, not what made each step look: make maps "
            "with agentwrap explain, without --policy-version"
        )


def kind_of(maps: Recording) -> tuple[str, dict[str, object], str]:
    """Return method, options and target of a file's maps."""
    first = maps.saliency_map(next(iter(maps.explained.values())))
    return first.method, dict(first.options), first.target
