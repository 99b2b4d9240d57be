"""What a recording holds, without reading its chunks: the index that was written with it, and what came after.

The index is a row of blocks, each an ``index`` message of the file or made of the messages that none describes yet.
Of blocks in the file only what is not about steps stays in memory; the rest is read when it is asked for.
"""

from __future__ import annotations

import bisect
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agentwrap_protocol import UnknownKindError
from agentwrap_protocol.messages import Index, Step
from agentwrap_protocol.recording_index import FIELDS, IndexBuilder

from .container import Container, Place
from .errors import RecordingError

Array = np.ndarray[Any, Any]

#: Blocks whose columns are kept.
KEPT_BLOCKS = 64


@dataclass
class Block:
    """A stretch of steps.

    Attributes:
        first: Steps before it.
        count: Its number of steps.
        place: Its message; None for one that was made here.
        tables: Columns of all other kinds by ``<kind>/<field>``, and those of steps where it was made here.
    """

    first: int
    count: int
    place: Place | None
    tables: dict[str, Array] = field(default_factory=dict)


class RecordingIndex:
    """The index of a file, which may grow.

    Attributes:
        steps: Number of steps.
        damaged: Chunks left out because they cannot be read.
        unindexed: Steps that no index of the file describes.
        complete: Whether the file was ended.
        end: Where the last whole record ends.
    """

    def __init__(self, container: Container) -> None:
        self._container = container
        self._kept: OrderedDict[int, dict[str, Array]] = OrderedDict()
        self._blocks: list[Block] = []
        self.damaged: set[int] = set()
        found = container.look_through()
        self.complete, self.end = found.complete, found.end
        try:
            self._take(found.chunks)
        except RecordingError:  # an index that cannot be read: find everything anew
            self._blocks.clear()
            found = container.look_on(8)
            self.end = found.end
            self._describe([chunk for chunk, _ in found.chunks])

    @property
    def steps(self) -> int:
        """Number of steps."""
        return self._blocks[-1].first + self._blocks[-1].count if self._blocks else 0

    @property
    def unindexed(self) -> int:
        """Number of steps that no index of the file describes."""
        return sum(block.count for block in self._blocks if block.place is None)

    def refresh(self) -> None:
        """Take in what was written since."""
        if not self.complete:
            found = self._container.look_on(self.end)
            self.complete, self.end = found.complete, found.end
            self._take(found.chunks)

    def _take(self, chunks: list[tuple[int, frozenset[str]]]) -> None:
        """Add the blocks of these chunks. An index describes all before it that the index before does not."""
        last = max((i for i, (_, topics) in enumerate(chunks) if Index.kind in topics), default=-1)
        indexes = [chunk for chunk, topics in chunks[: last + 1] if Index.kind in topics]
        if indexes:
            while self._blocks and self._blocks[-1].place is None:
                self._blocks.pop()
        for chunk in indexes:
            self._add_from_file(chunk)
        self._describe([chunk for chunk, _ in chunks[last + 1 :]])

    def _add_from_file(self, chunk: int) -> None:
        for offset, topic, payload in self._container.messages(chunk):
            if topic == Index.kind:
                arrays = _checked(self._container.decoded(bytes(payload)).arrays)
                place = Place(chunk, offset)
                tables = {name: np.array(array) for name, array in arrays.items() if not _about_steps(name)}
                self._blocks.append(Block(self.steps, len(arrays.get("step/step", ())), place, tables))

    def _describe(self, chunks: list[int]) -> None:
        """Add blocks for chunks that no index describes, by reading their messages."""
        builder = IndexBuilder()
        for chunk in chunks:
            try:
                for offset, topic, payload in self._container.messages(chunk):
                    if topic in FIELDS:
                        builder.add(self._container.decoded(payload), chunk, offset)
            except UnknownKindError:
                continue
            except RecordingError:
                self.damaged.add(chunk)
            if builder.due:
                self._add_made(builder)
        self._add_made(builder)

    def _add_made(self, builder: IndexBuilder) -> None:
        arrays = builder.take()
        if arrays:
            self._blocks.append(Block(self.steps, len(arrays.get("step/step", ())), None, arrays))

    # Asking.

    def table(self, kind: str) -> dict[str, Array]:
        """Return the columns of all messages of a kind other than ``step``, by field; empty where there are none."""
        found = {}
        for column in ("chunk", "offset", *FIELDS[kind]):
            parts = [block.tables[f"{kind}/{column}"] for block in self._blocks if f"{kind}/{column}" in block.tables]
            if parts:
                found[column] = np.concatenate(parts)
        return found

    def places(self, kind: str) -> list[Place]:
        """Return where the messages of a kind other than ``step`` lie, in order."""
        table = self.table(kind)
        pairs = zip(table["chunk"].tolist(), table["offset"].tolist(), strict=True) if table else ()
        return [Place(*pair) for pair in pairs]

    def step(self, number: int) -> Place:
        """Return where the step lies that is this many after the first."""
        block = self._blocks[bisect.bisect_right(self._blocks, number, key=lambda block: block.first) - 1]
        columns, row = self._columns(block), number - block.first
        return Place(int(columns["step/chunk"][row]), int(columns["step/offset"][row]))

    def parts(self, start: int, stop: int, name: str) -> list[tuple[int, int, Array | None]]:
        """Return the column ``name`` of steps, block by block: (start, stop, values), None where a block lacks it."""
        found: list[tuple[int, int, Array | None]] = []
        for block in self._blocks:
            begin, end = max(start, block.first), min(stop, block.first + block.count)
            if begin < end:
                column = self._columns(block).get(name)
                found.append((begin, end, None if column is None else column[begin - block.first : end - block.first]))
        return found

    def columns(self) -> set[str]:
        """Return the names of the columns of steps that the first block has, as ``step/…`` and ``array/…``."""
        first = next((block for block in self._blocks if block.count), None)
        return set() if first is None else {name for name in self._columns(first) if _about_steps(name)}

    def _columns(self, block: Block) -> dict[str, Array]:
        if block.place is None:
            return block.tables
        if block.first in self._kept:
            self._kept.move_to_end(block.first)
        else:
            self._kept[block.first] = _checked(self._container.message(block.place).arrays)
            while len(self._kept) > KEPT_BLOCKS:
                self._kept.popitem(last=False)
        return self._kept[block.first]


def _about_steps(name: str) -> bool:
    return name.startswith((f"{Step.kind}/", "array/"))


def _checked(arrays: dict[str, Array]) -> dict[str, Array]:
    """Return an index's arrays if they are what one has: columns of one length for each kind, of the right type.

    Raises:
        RecordingError: They are not.
    """
    for kind, fields in FIELDS.items():
        columns = {"chunk": "<u8", "offset": "<u8", **fields}
        present = [f"{kind}/{column}" for column in columns if f"{kind}/{column}" in arrays]
        lengths = {arrays[name].shape for name in present}
        if present and (len(present) != len(columns) or len(lengths) != 1 or len(next(iter(lengths))) != 1):
            raise RecordingError(f"an index of the recording is not whole: {', '.join(present)[:200]}")
    rows = len(arrays.get("step/step", ()))
    for name, array in arrays.items():
        if name.startswith("array/") and array.shape[:1] != (rows,):
            raise RecordingError(f"an index of the recording has {name[:100]} of shape {array.shape} for {rows} steps")
    return arrays
