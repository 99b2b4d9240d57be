import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from agentwrap_viewer.recording import animation

Picture = NDArray[np.uint8]


def written(pictures: list[Picture], *, times: int = 1, sample: list[Picture] | None = None) -> list[Picture]:
    """Write an animation; returns what Pillow reads of it."""
    file = io.BytesIO()
    animation.write(file, pictures, animation.Palette(sample or pictures), hundredths=4, times=times)
    with Image.open(io.BytesIO(file.getvalue())) as film:
        assert film.info["duration"] == 40 and film.info["loop"] == 0
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(film)]


def test_few_colours_are_kept_exactly_whatever_changes() -> None:
    rng = np.random.default_rng(0)
    pictures = [np.full((21, 34, 3), (32, 96, 160), np.uint8)]
    for _ in range(12):
        picture = pictures[-1].copy()
        top, left = rng.integers(0, 20), rng.integers(0, 33)
        picture[top : top + 5, left : left + 7] = 64 * rng.integers(0, 4, 3)
        pictures.append(picture)
    pictures.insert(4, pictures[3])  # nothing changes
    read = written(pictures, times=3)
    assert len(read) == len(pictures)
    for picture, found in zip(pictures, read, strict=True):
        np.testing.assert_array_equal(found, picture.repeat(3, axis=0).repeat(3, axis=1))


def test_many_colours_are_near() -> None:
    place = np.linspace(0, 1, 64)[None, :, None] * np.ones((48, 1, 1))
    pictures = [
        (255 * np.concatenate([place, place[:, ::-1], np.full_like(place, share)], axis=2)).astype(np.uint8)
        for share in np.linspace(0, 1, 10)
    ]
    for picture, found in zip(pictures, written(pictures), strict=True):
        error = ((picture.astype(float) - found) ** 2).mean()
        assert 10 * np.log10(255**2 / error) > 32  # 640 colours in 255


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (201, 152, 101)])
def test_a_colour_that_no_sample_had_becomes_the_nearest(colour: tuple[int, int, int]) -> None:
    known = np.array([[[0, 0, 0], [255, 255, 255], [200, 150, 100]]], np.uint8)
    read = written([np.full((1, 3, 3), colour, np.uint8)], sample=[known])
    nearest = known[0][np.abs(known[0].astype(int) - colour).sum(1).argmin()]
    np.testing.assert_array_equal(read[0][0, 0], nearest)
