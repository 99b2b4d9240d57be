"""The versions of a recording's policy: those that it holds, those that lie beside it, and files added by the user."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar

from agentwrap_protocol.mcap_encoder import BESIDE
from agentwrap_protocol.messages import Hello, Message, PolicyGraph, Weights

from .container import Container, Place
from .errors import RecordingError
from .index import RecordingIndex

#: Versions that an error lists one by one at most.
LISTED = 12

#: Versions that are added are numbered from here on: beyond what a recording that still grows comes to.
ADDED = 1_000_000_001

M = TypeVar("M", bound=Message)


class Reader(Protocol):
    """Reads the message at a place of the file."""

    def __call__(self, place: Place, kind: type[M], /) -> M:
        """Return it.

        Raises:
            RecordingError: There is another kind of message.
        """


class RecordedPolicies:
    """What ``Recording`` knows of versions of the policy; its methods say what they return and raise.

    Attributes:
        notes: What was not as expected with files that were added, for people.
    """

    def __init__(self, container: Container, index: RecordingIndex, read: Reader) -> None:
        self._container, self._index, self._read = container, index, read
        self._added: dict[int, tuple[Path, Weights, PolicyGraph]] = {}
        self.notes: list[str] = []

    @property
    def versions(self) -> list[int]:
        """See ``Recording.versions``."""
        return [*self._recorded, *self._added]

    @property
    def _recorded(self) -> list[int]:
        table = self._index.table(Weights.kind)
        return table["policy_version"].tolist() if table else []

    @property
    def replaced(self) -> list[int]:
        """See ``Recording.replaced``."""
        weights = [_order(place) for place in self._index.places(Weights.kind)]
        graphs = [_order(place) for place in self._index.places(PolicyGraph.kind)]
        first = {bisect.bisect_left(weights, graph) for graph in graphs[1:]}
        return [version for index, version in enumerate(self._recorded) if index in first]

    def add(self, path: Path) -> int:
        """See ``Recording.add_weights``."""
        from .weights_file import read_weights

        last = self._place(None)
        graph, version = self._graph_before(last), ADDED + len(self._added)
        found = read_weights(path, graph.graph)
        weights = Weights(stream=graph.stream, policy_version=version, step=0, arrays=dict(found.arrays))
        self._added[version] = path, weights, graph
        if found.unused:
            self.notes.append(
                f"{path.name} holds tensors that the recorded policy does not compute with, which are left out "
                f"({len(found.unused)}: {', '.join(found.unused[:3])}{', …' if len(found.unused) > 3 else ''})"
            )
        return version

    def name_of(self, version: int) -> str:
        """See ``Recording.name_of``."""
        if version in self._added:
            return self._added[version][0].stem
        beside = self._beside(version)
        return PurePosixPath(beside["file"]).stem if "file" in beside else f"version {version}"

    def weights(self, version: int | None) -> Weights:
        """See ``Recording.weights``."""
        if version in self._added:
            return self._added[version][1]
        place = self._place(version)
        message = self._read(place, Weights)
        beside = self._beside(message.policy_version)
        if message.arrays or not beside:
            return message
        from .weights_file import weights_beside

        return weights_beside(self._container.path, message, beside, self._graph_before(place).graph)

    def graph(self, version: int | None) -> PolicyGraph:
        """See ``Recording.graph``."""
        if version in self._added:
            return self._added[version][2]
        return self._graph_before(self._place(version))

    def _beside(self, version: int) -> dict[str, str]:
        """What is said of a version whose weights lie in another file."""
        said = (entries for kind, entries in self._container.metadata if kind == BESIDE)
        return next((each for each in said if each.get("policy_version") == str(version)), {})

    def _graph_before(self, place: Place) -> PolicyGraph:
        before = [each for each in self._index.places(PolicyGraph.kind) if _order(each) < _order(place)]
        if not before:
            raise RecordingError(f"{self._container.path} lacks the policy's computation")
        return self._read(before[-1], PolicyGraph)

    def _place(self, version: int | None) -> Place:
        """Where a recorded version is, the last one for None."""
        path, recorded = self._container.path, self._recorded
        if not recorded:
            places = self._index.places(Hello.kind)
            problem = self._read(places[-1], Hello).policy.problem if places else None
            raise RecordingError(f"{path} holds no policy: {problem or 'it was not called while it was recorded'}")
        wanted = recorded[-1] if version is None else version
        if wanted not in recorded:
            raise RecordingError(f"{path} has no version {wanted} of the policy; it has {listed(self.versions)}")
        return self._index.places(Weights.kind)[len(recorded) - 1 - recorded[::-1].index(wanted)]


def listed(versions: Sequence[int]) -> str:
    """Return versions for people: ``1 to 17`` where none is left out, else one by one as far as they are few."""
    if len(versions) > 2 and list(versions) == list(range(versions[0], versions[-1] + 1)):
        return f"{versions[0]} to {versions[-1]}"
    if len(versions) > LISTED:
        return f"{', '.join(map(str, versions[: LISTED - 1]))}, … {versions[-1]}"
    return " and ".join(filter(None, (", ".join(map(str, versions[:-1])), str(versions[-1]))))


def _order(place: Place) -> tuple[int, int]:
    return place.chunk, place.offset
