"""Where perturbed feature maps differ from the clean one, layer by layer.

All pixels of a feature map under all perturbations live in one table of rows, one row a pixel with its channels side by
side: the clean map first, then a row of padding, then what differs. A layer gathers the rows it needs, computes windows
of equal size together, and writes the table of its output. Nothing here depends on the numbers in a table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Ints = np.ndarray[Any, np.dtype[np.int64]]
Size = tuple[int, int]


@dataclass(frozen=True)
class Axis:
    """One axis of a convolution or pooling.

    Attributes:
        kernel: Length of the kernel.
        stride: Distance between outputs, in inputs.
        padding: Padding in front.
        dilation: Distance between the kernel's elements.
        length: Length of the output.
    """

    kernel: int
    stride: int
    padding: int
    dilation: int
    length: int

    @property
    def reach(self) -> int:
        """How many inputs lie under one output, first to last."""
        return self.dilation * (self.kernel - 1) + 1

    def touched(self, low: Ints, high: Ints) -> tuple[Ints, Ints]:
        """Return the interval of outputs that see any of the inputs [low, high)."""
        first = -((self.reach - 1 - low - self.padding) // self.stride)
        beyond = (high - 1 + self.padding) // self.stride + 1
        first, beyond = np.clip(first, 0, self.length), np.clip(beyond, 0, self.length)
        return first, np.maximum(first, beyond)

    def needed(self, size: int) -> int:
        """Return how many inputs in a row ``size`` outputs in a row see."""
        return (size - 1) * self.stride + self.reach

    def source(self, first: Ints) -> Ints:
        """Return the first input that each output sees; negative in the padding."""
        return first * self.stride - self.padding


class Places(Protocol):
    """Where in a table the pixels of perturbed maps are."""

    def find(self, which: Ints, y: Ints, x: Ints, elsewhere: Ints) -> Ints:
        """Return rows (n, h, w) of pixels of the perturbations ``which``.

        Args:
            which: (n,).
            y: (n, h): lines; those outside the map too.
            x: (n, w): columns, likewise.
            elsewhere: (n, h, w): the rows of pixels that are as in the clean map.
        """


@dataclass(frozen=True, eq=False)
class Windows:
    """Pixels laid out window by window, each line by line: one window for each of N perturbations.

    Attributes:
        corner: (N, 2): the window's first pixel.
        shape: (N, 2): its height and width.
        start: (N,): the row of its first pixel.
    """

    corner: Ints
    shape: Ints
    start: Ints

    def find(self, which: Ints, y: Ints, x: Ints, elsewhere: Ints) -> Ints:
        """Return rows, as ``Places`` says."""
        y, x = y - self.corner[which, :1], x - self.corner[which, 1:]
        height, width = self.shape[which, :1], self.shape[which, 1:]
        inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
        return np.where(inside, (self.start[which, None] + y * width)[:, :, None] + x[:, None, :], elsewhere)


@dataclass(frozen=True, eq=False)
class Listed:
    """Pixels anywhere: ``rows`` (N, H, W) lists where."""

    rows: Ints

    def find(self, which: Ints, y: Ints, x: Ints, elsewhere: Ints) -> Ints:
        """Return rows, as ``Places`` says."""
        height, width = self.rows.shape[1:]
        inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
        y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
        return np.where(inside, self.rows[which[:, None, None], y[:, :, None], x[:, None, :]], elsewhere)


@dataclass(frozen=True, eq=False)
class Group:
    """Windows of equal size that are computed together.

    Attributes:
        which: (n,): the perturbations.
        corner: (n, 2): the first pixel of each window in the output.
        shape: Height and width.
        start: Row of the output's table where they begin.
    """

    which: Ints
    corner: Ints
    shape: Size
    start: int

    @property
    def count(self) -> int:
        """Rows that they take."""
        return len(self.which) * self.shape[0] * self.shape[1]


@dataclass(frozen=True, eq=False)
class Field:
    """What is known of a feature map under N perturbations before it is computed.

    Attributes:
        size: Height and width.
        low: (N, 2): top and left of the box in which each may differ from the clean map.
        high: (N, 2): its bottom and right, exclusive.
        places: Where in the table the pixels are that may differ.
        count: Rows of the table.
        clean: Whether the table begins with the clean map and a row of padding.
        groups: The windows that the table holds after that; empty where it is laid out otherwise. Rows after them, if
            there are any, mean nothing.
    """

    size: Size
    low: Ints
    high: Ints
    places: Places
    count: int
    clean: bool = True
    groups: tuple[Group, ...] = ()

    @property
    def pixels(self) -> int:
        """Pixels of the map, which is also the number of the padding's row."""
        return self.size[0] * self.size[1]

    def covers(self, other: Field) -> bool:
        """Whether wherever ``other`` may differ from its clean map, this has a window for it."""
        within = bool((self.low <= other.low).all() and (self.high >= other.high).all())
        return bool(self.groups) and self.size == other.size and within and (other.clean or not self.clean)

    def window(self, which: Ints, corner: Ints, shape: Size) -> Ints:
        """Return the rows (n, h, w) of windows whose first pixels are at ``corner`` (n, 2); padding outside the map."""
        y, x = (corner[:, axis, None] + np.arange(shape[axis]) for axis in (0, 1))
        outside = ((y < 0) | (y >= self.size[0]))[:, :, None] | ((x < 0) | (x >= self.size[1]))[:, None, :]
        elsewhere = np.where(outside, self.pixels, (y * self.size[1])[:, :, None] + x[:, None, :])
        return self.places.find(which, y, x, elsewhere)

    def whole(self, which: Ints) -> Ints:
        """Return the rows (n, H, W) of whole maps."""
        return self.window(which, np.zeros((len(which), 2), np.int64), self.size)

    def pixel(self) -> Ints:
        """Return, for each row of the table, its pixel; 0 for a row that means nothing."""
        pixels = np.zeros(self.count, np.int64)
        pixels[self.whole(np.arange(len(self.low))).reshape(-1, self.pixels)] = np.arange(self.pixels)
        return pixels

    def in_place_of(self, other: Field) -> Ints:
        """Return, for each row of this table, the row of ``other`` that holds the same pixel. This covers ``other``."""
        parts = [np.arange(self.pixels + 1)] if self.clean else []
        parts += [other.window(group.which, group.corner, group.shape).ravel() for group in self.groups]
        parts.append(np.zeros(self.count - sum(map(len, parts)), np.int64))  # for what only fills the table: any row
        return np.concatenate(parts)


def grouped(low: Ints, high: Ints, size: Size, *, cost: float, group_cost: float, clean: bool) -> Field:
    """Choose the windows in which an output is computed, and lay out its table.

    Args:
        low: (N, 2), as in ``Field``, of the output.
        high: (N, 2).
        size: Of the output.
        cost: Of one pixel.
        group_cost: Of one more group.
        clean: Whether the table is to begin with the clean map.
    """
    extent = np.maximum(high - low, 1)
    lengths = [_lengths(extent[:, axis], cost * float(extent[:, 1 - axis].mean()), group_cost) for axis in (0, 1)]
    shapes = np.stack([lengths[axis][extent[:, axis]] for axis in (0, 1)], axis=1)
    corners, starts = np.minimum(low, np.array(size) - shapes), np.zeros(len(low), np.int64)
    count, groups = (size[0] * size[1] + 1 if clean else 0), []
    found, of = np.unique(shapes, axis=0, return_inverse=True)
    for number, shape in enumerate((int(height), int(width)) for height, width in found):
        which = np.flatnonzero(of.ravel() == number)
        groups.append(Group(which, corners[which], shape, count))
        starts[which] = count + np.arange(len(which)) * (shape[0] * shape[1])
        count += groups[-1].count
    return Field(size, low, high, Windows(corners, shapes, starts), count, clean, tuple(groups))


def _lengths(extent: Ints, cost: float, group_cost: float) -> Ints:
    """Map each extent to the length of the windows it is computed in, so that all of it costs least."""
    lengths, numbers = np.unique(extent, return_counts=True)
    cuts = partition(len(lengths), lambda i, j: group_cost + cost * float(lengths[j - 1]) * int(numbers[i:j].sum()))
    table = np.zeros(int(lengths[-1]) + 1, np.int64)
    for i, j in cuts:
        table[lengths[i:j]] = lengths[j - 1]
    return table


def spans(low: Ints, high: Ints, *, cost: float, group_cost: float) -> list[tuple[Ints, int, int]]:
    """Split perturbations into groups that share one interval along an axis, so that all of it costs least.

    Args:
        low: (N,): where each begins to differ.
        high: (N,): where it ends.
        cost: Of one position.
        group_cost: Of one more group.

    Returns:
        For each group: the perturbations, and the interval [first, beyond) that holds theirs.
    """
    pairs, inverse, numbers = np.unique(np.stack([low, high], 1), axis=0, return_inverse=True, return_counts=True)
    inverse = inverse.ravel()

    def cost_of(i: int, j: int) -> float:
        return group_cost + cost * float(pairs[i:j, 1].max() - pairs[i:j, 0].min()) * int(numbers[i:j].sum())

    return [
        (np.flatnonzero((inverse >= i) & (inverse < j)), int(pairs[i:j, 0].min()), int(pairs[i:j, 1].max()))
        for i, j in partition(len(pairs), cost_of)
    ]


def partition(count: int, cost: Callable[[int, int], float]) -> list[tuple[int, int]]:
    """Cut ``range(count)`` into runs [i, j) of least total cost."""
    best = [(0.0, 0)]
    for j in range(1, count + 1):
        best.append(min((best[i][0] + cost(i, j), i) for i in range(j)))
    cuts = []
    j = count
    while j:
        i = best[j][1]
        cuts.append((i, j))
        j = i
    return cuts[::-1]
