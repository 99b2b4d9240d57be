"""What an ``index`` message of a recording says of the messages before it (SPEC sections 4 and 13)."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from .messages import EpisodeEnd, Hello, Message, PolicyGraph, SaliencyMap, Step, Weights

#: Fields that an index repeats, with their element types, by kind of message. Other kinds it does not describe.
FIELDS: dict[str, dict[str, str]] = {
    Hello.kind: {},
    PolicyGraph.kind: {},
    Step.kind: {
        **{"step": "<i8", "episode": "<i8", "episode_step": "<i8", "policy_version": "<i8"},
        **{"time": "<f8", "reward": "<f8", "episode_return": "<f8"},
        **{"terminated": "|b1", "truncated": "|b1", "policy_stale": "|b1"},
    },
    EpisodeEnd.kind: {
        **{"episode": "<i8", "step": "<i8", "length": "<i8", "episode_return": "<f8", "seconds": "<f8"},
        "reason": "|u1",
    },
    Weights.kind: {"policy_version": "<i8", "step": "<i8"},
    SaliencyMap.kind: {"step": "<i8", "policy_version": "<i8"},
}

#: Words that ``EpisodeEnd.reason`` may be, in the order of the specification.
REASONS = ("terminated", "truncated", "reset", "closed")

#: Most elements of a step's array that an index repeats.
MOST_ELEMENTS = 64

#: Most different arrays of steps that an index repeats, and most characters of their names.
MOST_ARRAYS, LONGEST_NAME = 1024, 200

#: An index is due when it describes so many messages, or repeats arrays of so many bytes.
DUE_MESSAGES, DUE_BYTES = 1024, 4 * 2**20


class IndexBuilder:
    """Collects what the next index says. A writer fills it from what it writes, a reader from what was not indexed."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._count = self._bytes = 0
        self._rows: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
        self._arrays: dict[str, list[np.ndarray[Any, Any]]] = {}

    @property
    def due(self) -> bool:
        """Whether there is enough for an index."""
        return self._count >= DUE_MESSAGES or self._bytes >= DUE_BYTES

    def add(self, message: Message, chunk: int, offset: int) -> None:
        """Describe a message.

        Args:
            message: The message; of kinds that are not indexed nothing is kept.
            chunk: Where in the file its chunk begins.
            offset: Where in the uncompressed chunk its record begins.
        """
        fields = FIELDS.get(message.kind)
        if fields is None:
            return
        if isinstance(message, EpisodeEnd):
            values: tuple[Any, ...] = tuple(_reason(message) if f == "reason" else getattr(message, f) for f in fields)
        else:
            values = tuple(getattr(message, field) for field in fields)
        rows = self._rows[message.kind]
        if isinstance(message, Step):
            self._keep_small(message.arrays, first=not rows)
        rows.append((chunk, offset, *values))
        self._count += 1

    def _keep_small(self, arrays: dict[str, np.ndarray[Any, Any]], *, first: bool) -> None:
        if first:
            small = [name for name, array in arrays.items() if array.size <= MOST_ELEMENTS and name != "rewards"]
            self._arrays = {name: [] for name in small[:MOST_ARRAYS] if len(name) <= LONGEST_NAME}
        unlike = []
        for name, seen in self._arrays.items():
            array = arrays.get(name)
            if array is None or (seen and (array.shape, array.dtype) != (seen[0].shape, seen[0].dtype)):
                unlike.append(name)
            else:
                seen.append(array if array.base is None else array.copy())  # a view keeps what it is of
                self._bytes += array.nbytes
        for name in unlike:
            del self._arrays[name]

    def take(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the arrays of an index of what was added since the last time; none where that is nothing."""
        arrays: dict[str, np.ndarray[Any, Any]] = {}
        for kind, rows in self._rows.items():
            columns = zip(*rows, strict=True)
            described = {"chunk": "<u8", "offset": "<u8", **FIELDS[kind]}
            for (field, dtype), column in zip(described.items(), columns, strict=True):
                arrays[f"{kind}/{field}"] = np.array(column, dtype)
        for name, seen in self._arrays.items():
            arrays[f"array/{name}"] = np.stack(seen)
        self._clear()
        return arrays


def _reason(message: EpisodeEnd) -> int:
    return REASONS.index(message.reason)
