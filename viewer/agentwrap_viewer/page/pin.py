"""A pinned step: how its map changes from one version of the policy to the next."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence

import msgspec

from agentwrap_protocol.messages import DEFAULT_TARGET, SaliencyMap, Scalar, Step

from .ring import size_of

#: Versions of which the map is kept, and bytes of these maps.
MOST, MOST_BYTES = 24, 32 * 2**20

#: Methods, each with its options, whose maps are kept: who tries another one finds those of the first again.
KINDS = 3

#: The explainer's time that maps of the pinned step may take at most, as a share.
SHARE = 1 / 3

#: Seconds without news of a map that was asked for until the next version has its turn.
PATIENCE = 30.0

#: Arrays of a map that are kept.
KEPT = ("heatmap/", "features/", "output/")


class Pin:
    """A step that is pinned, and its map by each version of the policy.

    Versions of a running agent come and go, so each is asked for while it is the newest; those of a recording can all
    be had. Of too many those are left out that leave the smallest gap, so that what is kept spans all of them evenly.

    Args:
        step: The step.
        versions: Returns the versions that can be had, oldest first; None where that is only the newest.
        clock: Monotonic seconds.

    Attributes:
        step: The step; stays when the store forgets it.
        changes: Grows whenever ``maps`` are others.
    """

    def __init__(
        self,
        step: Step,
        *,
        versions: Callable[[], Sequence[int]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.step = step
        self.changes = 0
        self._all_versions, self._clock = versions, clock
        self._spread: tuple[int, list[int]] = (-1, [])
        self._shelves: OrderedDict[Hashable, dict[int, SaliencyMap]] = OrderedDict()
        self._kind: Hashable = None
        self._asked: set[int] = set()  # versions of this kind whose turn is over
        self._pending: int | None = None
        self._free_at = -float("inf")  # when the next one may be asked for

    @property
    def maps(self) -> dict[int, SaliencyMap]:
        """The maps of the method in use by version, the oldest first; some may be unfinished."""
        return dict(sorted(self._shelves.get(self._kind, {}).items()))

    def map_by(self, version: int) -> SaliencyMap | None:
        """Return the map by a version, of the method in use, or None."""
        return self._shelves.get(self._kind, {}).get(version)

    @property
    def versions(self) -> list[int] | None:
        """Of a recording, the versions that are shown; None of a running agent."""
        if self._all_versions is None:
            return None
        known = self._all_versions()
        if self._spread[0] != len(known):
            self._spread = len(known), thinned(known, MOST, keep={self.step.policy_version})
        return self._spread[1]

    def use(self, method: str, options: Mapping[str, Scalar], target: str = DEFAULT_TARGET) -> None:
        """Show maps of this target by this method with these options from now on."""
        kind = _kind(method, options, target)
        if kind == self._kind:
            return
        self._kind, self._asked, self._pending = kind, set(), None
        self.changes += 1

    def take(self, message: SaliencyMap) -> bool:
        """Take a map if it is one of the pinned step; return whether it is shown here."""
        if (message.source, message.step) != (self.step.stream, self.step.step):
            return False
        versions = self.versions
        if versions is not None and message.policy_version not in versions:
            return False
        kind, version = _kind(message.method, message.options, message.target), message.policy_version
        if kind == self._kind and self._is_awaited(version):
            self._note_answer(message)
        known = self._shelves.get(kind, {}).get(version)
        if known is None or message.refined >= known.refined:
            self._keep(kind, message)
        return True

    def _is_awaited(self, version: int) -> bool:
        """Whether it answers what was asked for; a running agent's weights may have been replaced meanwhile."""
        if self._pending is None:
            return False
        return version == self._pending if self._all_versions is not None else version >= self._pending

    def _note_answer(self, message: SaliencyMap) -> None:
        finished = message.refined >= 1
        self._free_at = self._clock() + (message.seconds * (1 / SHARE - 1) if finished else PATIENCE)
        if finished:
            self._asked.add(message.policy_version)
            self._pending = None

    def _keep(self, kind: Hashable, message: SaliencyMap) -> None:
        shelf = self._shelves.setdefault(kind, {})
        self._shelves.move_to_end(kind)
        arrays = {name: array for name, array in message.arrays.items() if name.startswith(KEPT)}
        shelf[message.policy_version] = msgspec.structs.replace(message, arrays=arrays)
        most = min(MOST, max(2, MOST_BYTES // size_of(shelf[message.policy_version])))
        kept = thinned(sorted(shelf), most, keep={self.step.policy_version})
        self._shelves[kind] = {version: shelf[version] for version in kept}
        while len(self._shelves) > KINDS:
            self._shelves.popitem(last=False)
        self.changes += 1

    def next(self, newest: int) -> int | None:
        """Return the version whose map is to be asked for now, None where there is none or it is not time yet.

        Args:
            newest: The version that the explainer has; of a recording that does not matter.
        """
        if self._clock() < self._free_at:
            return None
        if self._pending is not None:  # nothing came of it
            self._asked.add(self._pending)
            self._pending = None
        versions = self.versions
        if versions is None:
            self._asked &= {newest}
            versions = [newest]
        return next((each for each in versions if each not in self._asked and not self._finished(each)), None)

    def asked(self, version: int) -> None:
        """The map by this version has been asked for."""
        self._pending, self._free_at = version, self._clock() + PATIENCE

    def _finished(self, version: int) -> bool:
        known = self.map_by(version)
        return known is not None and known.refined >= 1


def thinned(versions: Sequence[int], most: int, *, keep: Collection[int] = ()) -> list[int]:
    """Return at most ``most`` of these versions, as if they had come one by one and each had cost an older one.

    The first and the last stay, and those to ``keep``; of the others goes whose neighbours are nearest to each other.
    """
    kept: list[int] = []
    for version in versions:
        kept.append(version)
        if len(kept) > max(most, 2):
            gaps = [after - before for before, after in zip(kept, kept[2:], strict=False)]
            removable = [index for index in range(len(gaps)) if kept[index + 1] not in keep]
            if removable:
                del kept[min(removable, key=gaps.__getitem__) + 1]
    return kept


def _kind(method: str, options: Mapping[str, Scalar], target: str) -> Hashable:
    return method, target, tuple(sorted(options.items(), key=lambda item: item[0]))
