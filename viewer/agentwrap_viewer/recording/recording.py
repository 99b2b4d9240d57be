"""A recording, opened."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from agentwrap_protocol import VERSION
from agentwrap_protocol.mcap_encoder import METADATA, SEED, SUMMARY
from agentwrap_protocol.messages import EpisodeEnd, Hello, Message, PolicyGraph, SaliencyMap, Step, Weights
from agentwrap_protocol.recording_index import FIELDS, REASONS

from .bookmarks import Bookmarks
from .container import Container, Place
from .errors import RecordingError
from .index import Array, RecordingIndex
from .policies import RecordedPolicies
from .steps import Steps

if TYPE_CHECKING:
    import os
    from types import TracebackType

    from agentwrap_viewer.replica import Replica

    from .moments import Moment

#: Seconds between two looks at a file that is being written.
LOOK = 0.2


M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class Episode:
    """An episode, as far as it was recorded.

    Attributes:
        number: Its number in the stream.
        start: Index of its first recorded step in ``Recording.steps``.
        stop: Index behind its last one.
        length: Its number of steps, recorded or not; None where its end was not recorded.
        episode_return: Sum of its rewards; likewise.
        seconds: How long it took; likewise.
        reason: ``terminated``, ``truncated``, ``reset``, ``closed``; likewise.
    """

    number: int
    start: int
    stop: int
    length: int | None = None
    episode_return: float | None = None
    seconds: float | None = None
    reason: str | None = None


class Recording:
    """A recorded stream; see ``open_recording``.

    Attributes:
        path: The file.
        metadata: What it says of itself (SPEC section 13).
        steps: The steps, a sequence of ``Step`` messages that are read when they are asked for.
        notes: What is not as it should be, for people: what was cut, what is damaged. Empty where all is well.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._container = Container(path)
        try:
            self._index = RecordingIndex(self._container)
            self.path = self._container.path
            self.metadata = self._metadata(METADATA)
            self._policies = RecordedPolicies(self._container, self._index, self._message)
            self._check_version()
        except BaseException:
            self._container.close()
            raise

    def _check_version(self) -> None:
        protocol = self.metadata.get("protocol", "")
        major = protocol.partition(".")[0]
        if protocol and major != str(VERSION[0]):
            raise RecordingError(
                f"{self.path} was recorded with protocol {protocol[:20]}, this reads {VERSION[0]}.{VERSION[1]}: "
                "install the version of agentwrap-rl that recorded it"
            )

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Recording {self.path} of {self.env_id}: {len(self.steps):,} steps, {len(self.episodes):,} episodes>"

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    # What it is.

    @property
    def hello(self) -> Hello | None:
        """Who streamed, as it was said last; None where the recording was cut off before."""
        places = self._index.places(Hello.kind)
        return self._message(places[-1], Hello) if places else None

    @property
    def env_id(self) -> str:
        """The environment's id."""
        return self.metadata.get("env_id", "unknown")

    @property
    def seed(self) -> int | None:
        """Seed of the first reset that had one; None where none did."""
        text = self._metadata(SEED).get("seed", "")
        return int(text) if text.lstrip("-").isdigit() else None

    @property
    def summary(self) -> dict[str, str]:
        """What was said at its end: ``steps``, ``dropped``, ``waited_seconds``; empty where it was not ended."""
        return self._metadata(SUMMARY)

    @property
    def complete(self) -> bool:
        """Whether it was ended on purpose: neither cut off nor still being written."""
        return self._index.complete

    @property
    def notes(self) -> list[str]:
        """What is not as it should be, for people."""
        notes = []
        if not self.complete:
            cut = self._container.size - self._index.end
            lost = f"; its last {cut:,} bytes are a part of a record and were left out" if cut else ""
            notes.append(
                f"the recording was not ended: cut off, or still being written{lost}. {self._index.unindexed:,} steps "
                "were found without its index"
            )
        if self._index.damaged:
            notes.append(f"{len(self._index.damaged):,} chunks are damaged and were left out")
        notes += self._policies.notes
        if dropped := int(self.summary.get("dropped", "0") or 0):
            notes.append(f"{dropped:,} messages were dropped when it was recorded: the disk was too slow")
        return notes

    # Steps.

    @property
    def steps(self) -> Steps:
        """The steps recorded so far."""
        return Steps(self._step, range(self._index.steps))

    def _step(self, index: int) -> Step:
        return self._message(self._index.step(index), Step)

    @property
    def columns(self) -> list[str]:
        """Names that ``array`` finds without reading whole steps, beside those of other arrays."""
        names = (name.removeprefix("step/").removeprefix("array/") for name in self._index.columns())
        return sorted(set(names) - {"chunk", "offset"})

    def array(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Return a value of many steps as one array.

        Args:
            name: A field of ``Step`` (``reward``, ``episode_return``, ``terminated``, ``time``, …), or an array of it
                (``action``, ``output/value``, ``observation``, …); ``value`` is short for ``output/value``, likewise
                for other outputs.
            start: Index of the first step.
            stop: Index behind the last step; None for all that are there. Negative ones count from the end.

        Returns:
            (stop - start, …). Where the policy was not called for a step, its outputs are NaN.

        Raises:
            RecordingError: There is no such value, or its shape changes.
        """
        begin, end, _ = slice(start, stop).indices(len(self.steps))
        column = f"step/{name}" if name in FIELDS[Step.kind] else f"array/{self._full_name(name)}"
        parts = [
            self._read_array(first, last, column) if values is None else values
            for first, last, values in self._index.parts(begin, end, column)
        ]
        if not parts:
            return np.empty(0)
        try:
            return np.concatenate(parts)
        except ValueError:
            raise RecordingError(f"{self.path}: {name} does not have the same shape in all steps") from None

    def _full_name(self, name: str) -> str:
        known = self._index.columns()
        if f"array/{name}" in known or "/" in name:
            return name
        if f"array/output/{name}" in known:
            return f"output/{name}"
        first = self.steps[0].arrays if len(self.steps) else {}
        return f"output/{name}" if name not in first and f"output/{name}" in first else name

    def _read_array(self, start: int, stop: int, column: str) -> Array:
        """Read an array that is not in the index from the steps themselves."""
        name = column.removeprefix("array/")
        found = [self._step(index).arrays.get(name) for index in range(start, stop)]
        first = next((array for array in found if array is not None), None)
        if first is None:
            raise RecordingError(f"{self.path}: the steps have no {name!r}; they have {', '.join(self._names(start))}")
        if any(array is not None and array.shape != first.shape for array in found):
            raise RecordingError(f"{self.path}: {name} does not have the same shape in all steps")
        if all(array is not None for array in found):
            return np.stack([np.asarray(array) for array in found])
        if first.dtype.kind != "f":
            missing = start + next(index for index, array in enumerate(found) if array is None)
            raise RecordingError(f"{self.path}: step {missing} has no {name!r}")
        return np.stack([np.full_like(first, np.nan) if array is None else array for array in found])

    def _names(self, index: int) -> list[str]:
        return sorted({*FIELDS[Step.kind], *self._step(index).arrays})

    def observations(self, start: int = 0, stop: int | None = None) -> Array | dict[str, Array]:
        """Return observations, (stop - start, …); a dict of such by key where the environment's are dicts or tuples.

        Raises:
            RecordingError: The steps have none, or their shape changes.
        """
        begin, _, _ = slice(start, stop).indices(len(self.steps))
        if not begin < len(self.steps):
            return np.empty(0)
        names = [name for name in self.steps[begin].arrays if name.startswith("observation/")]
        if not names:
            return self.array("observation", start, stop)
        return {name.removeprefix("observation/"): self.array(name, start, stop) for name in names}

    def index_of(self, step: int) -> int:
        """Return where in ``steps`` the step of this number is, or the next one that was recorded."""
        return int(np.searchsorted(self.array("step"), step))

    @property
    def episodes(self) -> list[Episode]:
        """The episodes recorded, in order; the last may not have ended."""
        numbers = self.array("episode") if len(self.steps) else np.empty(0, np.int64)
        table = self._index.table(EpisodeEnd.kind)
        ends = dict(zip(table["episode"].tolist(), range(len(table["episode"])), strict=True)) if table else {}
        found = []
        for number in sorted({*np.unique(numbers).tolist(), *ends}):
            start, stop = np.searchsorted(numbers, [number, number + 1]).tolist()
            row = ends.get(number)
            if row is None:
                found.append(Episode(number, start, stop))
            else:
                reason = int(table["reason"][row])
                found.append(
                    Episode(
                        number,
                        start,
                        stop,
                        length=int(table["length"][row]),
                        episode_return=float(table["episode_return"][row]),
                        seconds=float(table["seconds"][row]),
                        reason=REASONS[reason] if reason < len(REASONS) else None,
                    )
                )
        return found

    def moments(self, kinds: Collection[str] | None = None, **criteria: Any) -> list[Moment]:
        """Return moments worth looking at, in the order of steps: where the value dropped, the policy hesitated.

        Args:
            kinds: Which of ``moments.KINDS``: ``value_drop``, ``entropy_peak``, ``td_error``, ``terminated``,
                ``policy_version``; None for all. ``recording.flips.find`` looks for actions that flip, by
                running the policy.
            **criteria: Fields of ``moments.Criteria``: ``threshold``, ``gamma``, ``over``, ``apart``, ``most``.

        Raises:
            ValueError: There is no such kind, or a criterion is out of range.
        """
        from . import moments

        return moments.find(self, kinds, moments.Criteria(**criteria))

    @property
    def bookmarks(self) -> Bookmarks:
        """The user's own marks, in a file beside the recording: ``.all``, ``.add(step, note)``, ``.remove(step)``."""
        return Bookmarks(self.path, stream=self.metadata.get("stream", ""))

    # The policy.

    @property
    def versions(self) -> list[int]:
        """Versions of the policy's weights: those that were recorded, in order, then those that were added."""
        return self._policies.versions

    @property
    def replaced(self) -> list[int]:
        """Versions with which another policy came: the first weights of each computation but the first one."""
        return self._policies.replaced

    def add_weights(self, path: str | os.PathLike[str]) -> int:
        """Add a version of the policy: weights from a file, for the computation that was recorded last.

        The recording's file is not changed. Versions that are added have numbers beyond all that are recorded, growing
        in the order in which they are added.

        Args:
            path: A safetensors file, its tensors named as in the policy's ``state_dict()``.

        Returns:
            The version's number, for ``policy``, ``weights``, ``name_of``.

        Raises:
            RecordingError: The recording holds no policy, or the weights are not of that policy's architecture; the
                text names the tensor and its shapes.
        """
        return self._policies.add(Path(path))

    def name_of(self, version: int) -> str:
        """Return what a version is called, for people: its file's name where it comes from one, else its number."""
        return self._policies.name_of(version)

    def weights(self, version: int | None = None) -> Weights:
        """Return a version of the policy's weights; the last one recorded unless told which.

        Raises:
            RecordingError: There is no such version, or the file that holds it cannot be read.
        """
        return self._policies.weights(version)

    def graph(self, version: int | None = None) -> PolicyGraph:
        """Return the policy's computation that a version of the weights belongs to.

        Raises:
            RecordingError: There is none.
        """
        return self._policies.graph(version)

    def policy(self, version: int | None = None, *, device: str = "cpu") -> Replica:
        """Return the policy as it was at a version of its weights, ready to run; needs torch.

        Args:
            version: ``Step.policy_version`` of a step, or another of ``versions``; the last one recorded by default.
            device: Where it is to run.

        Raises:
            RecordingError: There is no such version.
            GraphError: The policy cannot be run here.
        """
        from agentwrap_viewer.replica import Replica

        return Replica.from_messages(self.graph(version), self.weights(version), device)

    # Maps.

    @property
    def explained(self) -> dict[int, int]:
        """Steps that a recording of maps explains: number of the step → index for ``saliency_map``."""
        table = self._index.table(SaliencyMap.kind)
        return {step: index for index, step in enumerate(table["step"].tolist())} if table else {}

    def saliency_map(self, index: int) -> SaliencyMap:
        """Return a map of a recording of maps.

        Raises:
            IndexError: There are not so many.
        """
        return self._message(self._index.places(SaliencyMap.kind)[index], SaliencyMap)

    # A file that grows.

    def refresh(self) -> int:
        """Take in what was written since the file was opened, or since the last time; return how many steps more."""
        before = self._index.steps
        self._index.refresh()
        return self._index.steps - before

    def follow(self, *, patience: float | None = None) -> Iterator[Step]:
        """Yield the steps there are, and then those that are being written, until the recording is ended.

        Args:
            patience: Stop when nothing has come for so many seconds; None waits for ever.
        """
        index, heard = 0, time.monotonic()
        while True:
            while index < self._index.steps:
                yield self._step(index)
                index, heard = index + 1, time.monotonic()
            if self.complete or (patience is not None and time.monotonic() - heard > patience):
                return
            if not self.refresh():
                time.sleep(LOOK)

    def _metadata(self, name: str) -> dict[str, str]:
        return next((entries for kind, entries in self._container.metadata if kind == name), {})

    def _message(self, place: Place, kind: type[M]) -> M:
        message = self._container.message(place)
        if not isinstance(message, kind):
            raise RecordingError(f"{self.path}: the index says {kind.kind} where there is {message.kind}")
        return message
