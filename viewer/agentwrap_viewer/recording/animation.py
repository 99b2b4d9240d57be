"""Pictures as an animated GIF: one palette for all of them, and of each picture only what has changed.

The container is that of the GIF89a specification (CompuServe 1990); Pillow chooses colours and compresses. Pillow's own
way of writing an animation chooses colours for each picture by itself, compares pictures once they are enlarged, and
takes some times as long.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.GifImagePlugin import getdata

Picture = NDArray[np.uint8]
Indices = NDArray[np.uint8]

#: The index that leaves a pixel as it was; the 255 before it are colours.
UNCHANGED = 255

#: Bits of red, green and blue that are told apart when a pixel's colour is looked up.
BITS = 6

#: Pixels that colours are chosen by, at most.
CHOSEN_BY = 500_000


class Palette:
    """Colours for many pictures: all that there are, or the 255 by which they look most like themselves.

    Args:
        pictures: Some of them, uint8 (H, W, 3) each.
    """

    def __init__(self, pictures: Iterable[Picture]) -> None:
        pixels = np.concatenate([picture.reshape(-1, 3) for picture in pictures])
        colours = _colours(pixels[:: -(-len(pixels) // CHOSEN_BY)])
        self.colours = colours.tobytes().ljust(3 * 256, b"\0")  #: 256 of them, R, G, B
        self._nearest = _nearest(colours)

    def indices(self, picture: Picture) -> Indices:
        """Return the index of the colour nearest to each pixel, uint8 (H, W)."""
        return self._nearest[_cell(picture)]


def _colours(pixels: Picture) -> Picture:
    """At most 255 colours, uint8 (k, 3), the rarest first where they are all that there are."""
    packed = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    found, counts = np.unique(packed, return_counts=True)
    if len(found) <= UNCHANGED:
        ordered = found[np.argsort(counts)]
        return np.stack([ordered >> shift & 255 for shift in (16, 8, 0)], axis=1).astype(np.uint8)
    few = Image.fromarray(np.ascontiguousarray(pixels[::4])[None])
    # Median cut and a turn of k-means come near to what colours for each picture by itself would be.
    chosen = few.quantize(UNCHANGED, Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE)
    return np.array(chosen.getpalette("RGB"), np.uint8).reshape(-1, 3)[:UNCHANGED]


def _cell(colours: Picture) -> NDArray[np.int32]:
    red, green, blue = (colours[..., channel].astype(np.int32) >> (8 - BITS) for channel in range(3))
    return np.asarray((red << (2 * BITS)) | (green << BITS) | blue, np.int32)


def _nearest(colours: Picture) -> Indices:
    """The nearest colour's index for each cell; a cell that has one of the colours in it gets that one."""
    middle = ((np.arange(2**BITS) + 0.5) * 2 ** (8 - BITS)).astype(np.float32)
    cells = np.stack(np.meshgrid(middle, middle, middle, indexing="ij"), axis=-1).reshape(2**BITS, -1, 3)
    wanted = colours.astype(np.float32)
    lengths = (wanted**2).sum(1)
    nearest = np.concatenate([np.argmin(lengths - 2 * plane @ wanted.T, axis=1) for plane in cells]).astype(np.uint8)
    nearest[_cell(colours)] = np.arange(len(colours))
    return nearest


def write(file: IO[bytes], pictures: Iterable[Picture], palette: Palette, *, hundredths: int, times: int = 1) -> None:
    """Write an animation that repeats without end.

    Args:
        file: Where to.
        pictures: At least one, uint8 (H, W, 3), all of one size.
        palette: Their colours.
        hundredths: How long each is shown, in hundredths of a second; browsers take less than 2 for 10.
        times: Each pixel becomes a square of so many.
    """
    before: Indices | None = None
    for picture in pictures:
        indices = palette.indices(picture)
        if before is None:
            file.writelines(_beginning(indices.shape[1] * times, indices.shape[0] * times, palette))
        file.writelines(_frame(indices, before, hundredths, times))
        before = indices
    file.write(b";")


def _beginning(width: int, height: int, palette: Palette) -> Iterator[bytes]:
    yield b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF7, 0, 0)  # 0xF7: there follow 256 colours of 8 bits
    yield palette.colours
    yield b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"  # repeats without end


def _frame(indices: Indices, before: Indices | None, hundredths: int, times: int) -> list[bytes]:
    """The part that has changed, and in it only the pixels that have: all others are one index, which packs well."""
    left = top = 0
    if before is not None:
        changed = indices != before
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        top, bottom = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 1)
        left, right = (int(columns[0]), int(columns[-1]) + 1) if len(columns) else (0, 1)
        indices = np.where(changed, indices, UNCHANGED).astype(np.uint8)[top:bottom, left:right]
    large = indices.repeat(times, axis=0).repeat(times, axis=1)
    image = Image.frombytes("P", (large.shape[1], large.shape[0]), large.tobytes())
    place = (left * times, top * times)
    return getdata(image, place, duration=10 * hundredths, transparency=UNCHANGED, disposal=1)
