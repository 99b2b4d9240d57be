"""Beside the pictures of a film: a row for each feature of vectors, with its name, its scores as bars and its value."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from agentwrap_viewer.page.vectors import Vectors

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

#: Height in pixels that sizes are made for: a strip of twice that has letters twice as large.
HEIGHT = 420

#: Width in pixels, also of the margins; the height of a row, where there is room and at least; that of text.
WIDTH, MARGIN, ROW, LEAST, TEXT = 320, 12, 26, 15, 12

#: Where the bars begin and end; names are left of them, values right.
BEGIN, END = 118, 258

GROUND, TRACK, MUTED, LIGHT = (19, 25, 34), (39, 50, 66), (147, 160, 178), (211, 218, 228)

#: The live page's colours of targets and signs; other targets are parts of what the actor computes.
ACTOR, CRITIC, PART, FOR, AGAINST = (92, 176, 255), (255, 107, 107), (84, 226, 150), (255, 150, 40), (178, 112, 255)


class Strip:
    """Draws strips of one height.

    Args:
        height: In pixels.
    """

    def __init__(self, height: int) -> None:
        self._times = max(1, round(height / HEIGHT))
        self._size = (WIDTH * self._times, height)
        self._height = height // self._times  # in units of so many pixels, as all lengths below
        self._font = font(TEXT * self._times)
        self._canvas = ImageDraw.Draw(Image.new("RGB", (1, 1)))

    def draw(self, vectors: Vectors, *, without: str = "no map of this step") -> Picture:
        """Return the strip of a step, uint8 (height, width, 3); where there are no scores it says ``without``."""
        image = Image.new("RGB", self._size, GROUND)
        self._canvas = ImageDraw.Draw(image)
        by = f"by {' and '.join(vectors.methods)}" if vectors.methods else without
        self._text(MARGIN, MARGIN + 6, by, WIDTH - 2 * MARGIN, MUTED)
        self._keys(_legend(vectors), MARGIN + 26)
        top, count = MARGIN + 42, len(vectors.names)
        room = self._height - top - MARGIN // 2
        row = max(LEAST, min(ROW, room // max(1, count)))
        fitting = count if row * count <= room else max(0, room // row - 1)
        for index in range(fitting):
            self._row(vectors, index, top + index * row + row / 2, row)
        if fitting < count:
            self._text(MARGIN, top + fitting * row + row / 2, f"and {count - fitting:,} more values", WIDTH, MUTED)
        return np.asarray(image)

    def _keys(self, legend: Mapping[str, Colour], middle: float) -> None:
        left = float(MARGIN)
        for text, colour in legend.items():
            self._box(left, middle - 4, left + 8, middle + 4, colour)
            left += 14
            left += self._text(left, middle, text, WIDTH - MARGIN - left, LIGHT) + 14

    def _row(self, vectors: Vectors, index: int, middle: float, row: int) -> None:
        self._text(MARGIN, middle, vectors.names[index], BEGIN - MARGIN - 8, LIGHT)
        self._text(
            WIDTH - MARGIN, middle, _number(float(vectors.values[index])), WIDTH - END - MARGIN - 4, LIGHT, anchor="rm"
        )
        if vectors.scores and all(np.isnan(scores[index]) for scores in vectors.scores.values()):
            self._text(BEGIN, middle, "not explained", END - BEGIN, MUTED)
            return
        bars = max(1, len(vectors.scores))
        each = min(12, (row - 3) // bars)
        for place, (target, scores) in enumerate(vectors.scores.items()):
            above = middle - bars * each / 2 + place * each
            self._bar(above, above + each - 1, float(scores[index]), _colours(target, signed=vectors.signed))

    def _bar(self, top: float, bottom: float, share: float, colours: tuple[Colour, Colour]) -> None:
        """A track, and on it a share of -1…1: from the left, or, where its sign has a colour, from the middle."""
        self._box(BEGIN, top, END, bottom, TRACK)
        origin = BEGIN if colours[0] == colours[1] else (BEGIN + END) / 2
        end = origin + share * (END - origin)
        if abs(end - origin) >= 0.5:
            self._box(min(origin, end), top, max(origin, end), bottom, colours[share < 0])

    def _box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        places = [round(each * self._times) for each in (left, top, right, bottom)]
        self._canvas.rectangle((places[0], places[1], places[2] - 1, places[3] - 1), colour)

    def _text(self, x: float, y: float, text: str, width: float, colour: Colour, *, anchor: str = "lm") -> float:
        """Write beside a place, shortened to a width; returns how wide it has become."""
        room, whole = width * self._times, text
        while text and self._font.getlength(text if text == whole else f"{text}…") > room:
            text = text[:-1]
        shown = text if text == whole else f"{text}…"
        self._canvas.text((x * self._times, y * self._times), shown, colour, self._font, anchor=anchor)
        return float(self._font.getlength(shown)) / self._times


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) >= 0.1 else f"{value:.2g}"  # small ones have zeros before


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the letters of films, of a size in pixels."""
    return ImageFont.load_default(size)


def _colours(target: str, *, signed: bool) -> tuple[Colour, Colour]:
    if signed:
        return FOR, AGAINST
    colour = {"actor": ACTOR, "critic": CRITIC}.get(target, PART)
    return colour, colour


def _legend(vectors: Vectors) -> dict[str, Colour]:
    if vectors.signed and vectors.titles:
        return {f"raises {', '.join(vectors.titles.values())}": FOR, "lowers": AGAINST}
    return {title: _colours(target, signed=False)[0] for target, title in vectors.titles.items()}
