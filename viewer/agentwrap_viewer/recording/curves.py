"""Where a film has no pictures: the curves of its steps, with a line at the one that is shown."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .recording import Recording
from .scalars import scalars
from .strip import GROUND, HEIGHT, LIGHT, MARGIN, MUTED, TEXT, TRACK, Colour, Picture, font

Floats = NDArray[np.float64]

#: Width in pixels of a film's curves at ``strip.HEIGHT``; height of what stands above a curve; between two curves.
WIDTH, ABOVE, BETWEEN = 420, 22, 14

#: By name: the live page's colour of a curve.
COLOURS: dict[str, Colour] = {
    "value": (255, 180, 84),
    "reward": (79, 210, 155),
    "return": (157, 140, 255),
}

#: Lines are drawn so many times as large, and then reduced: that smooths them.
FINE = 3


class Curves:
    """Draws value, reward and return of some steps, from the first to the last.

    Args:
        recording: Where they are.
        indices: Which steps.
        height: Of the picture, in pixels.
    """

    def __init__(self, recording: Recording, indices: range, height: int) -> None:
        self._times = max(1, round(height / HEIGHT))
        self._height = height // self._times  # in units of so many pixels, as all lengths below
        self._size = (WIDTH * self._times, height)
        self._font = font(TEXT * self._times)
        self._lanes = _known(recording, indices)
        self._steps, self._episodes = (_picked(recording.array(name), indices) for name in ("step", "episode"))
        self._ground = self._drawn()

    def draw(self, place: int) -> Picture:
        """Return the picture with the line at a place among the steps, uint8 (height, width, 3)."""
        image = self._ground.copy()
        canvas = ImageDraw.Draw(image)
        said = f"episode {self._episodes[place]:,}, step {self._steps[place]:,}"
        self._text(canvas, MARGIN, MARGIN + 6, said, LIGHT, "lm")
        for (_, values), top in zip(self._lanes.items(), self._tops(), strict=True):
            number = "–" if np.isnan(values[place]) else f"{values[place]:.4g}"
            self._text(canvas, WIDTH - MARGIN, top + ABOVE / 2, number, LIGHT, "rm")
        at = round(self._x(place) * self._times)
        canvas.line((at, self._times * (2 * MARGIN + 12), at, self._size[1] - self._times * MARGIN), LIGHT, self._times)
        return np.asarray(image)

    def _tops(self) -> list[float]:
        begin = 2 * MARGIN + 12
        each = (self._height - begin - MARGIN) / max(1, len(self._lanes))
        return [begin + each * index for index in range(len(self._lanes))]

    def _x(self, place: int) -> float:
        return MARGIN + place / max(1, len(self._steps) - 1) * (WIDTH - 2 * MARGIN)

    def _drawn(self) -> Image.Image:
        """What is the same at all steps: the lines, and their names."""
        scale = self._times * FINE
        large = Image.new("RGB", (WIDTH * scale, self._height * scale), GROUND)
        canvas, tops = ImageDraw.Draw(large), self._tops()
        bottoms = [top - BETWEEN for top in tops[1:]] + [float(self._height - MARGIN)]
        for (name, values), top, bottom in zip(self._lanes.items(), tops, bottoms, strict=True):
            self._line(canvas, values, COLOURS[name], (top + ABOVE, bottom), scale)
        image = large.resize(self._size, Image.Resampling.LANCZOS)
        for name, top in zip(self._lanes, tops, strict=True):
            self._text(ImageDraw.Draw(image), MARGIN, top + ABOVE / 2, name, MUTED, "lm")
        return image

    def _line(
        self, canvas: ImageDraw.ImageDraw, values: Floats, colour: Colour, box: tuple[float, float], scale: int
    ) -> None:
        """Draw values between two heights, with zero where it is among them, and gaps where they are not known."""
        known = values[np.isfinite(values)]
        low, high = min(0.0, float(known.min())), max(0.0, float(known.max()))
        span, (top, bottom) = (high - low) or 1.0, box
        y = bottom - (values - low) / span * (bottom - top)
        zero = (bottom + low / span * (bottom - top)) * scale
        canvas.line((MARGIN * scale, zero, (WIDTH - MARGIN) * scale, zero), TRACK, scale)
        x = np.array([self._x(place) for place in range(len(values))])
        for run in np.split(np.arange(len(values)), np.flatnonzero(np.diff(np.isfinite(values))) + 1):
            if np.isfinite(values[run[0]]):
                points = [(float(x[place]) * scale, float(y[place]) * scale) for place in run]
                canvas.line(points if len(points) > 1 else points * 2, colour, round(1.5 * scale), "curve")

    def _text(self, canvas: ImageDraw.ImageDraw, x: float, y: float, text: str, colour: Colour, anchor: str) -> None:
        canvas.text((x * self._times, y * self._times), text, colour, self._font, anchor=anchor)


def _known(recording: Recording, indices: range) -> dict[str, Floats]:
    """Return what is known of the steps, by name, float64 (n,)."""
    low, high = min(indices[0], indices[-1]), max(indices[0], indices[-1]) + 1
    found = {**scalars(recording, low, high), "return": recording.array("episode_return", low, high)}
    rows = np.array(indices) - low
    curves = {name: np.asarray(found[name], np.float64)[rows] for name in ("value", "reward", "return")}
    return {name: values for name, values in curves.items() if np.isfinite(values).any()}


def _picked(column: NDArray[np.generic], indices: range) -> list[int]:
    return [int(each) for each in np.asarray(column)[np.array(indices)].tolist()]
