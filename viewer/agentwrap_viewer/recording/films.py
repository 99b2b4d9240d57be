"""Recordings as films: the frames, and over them what the agent depends on, in the page's colours.

What it depends on of vectors stands beside the frames, see ``strip.py``. Of agents that see vectors and show no picture
the film is that and the curves of its steps, see ``curves.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentwrap_protocol.messages import SaliencyMap, Step
from agentwrap_viewer.page.pictures import picture_of, quantise
from agentwrap_viewer.page.vectors import described

from .errors import RecordingError
from .recording import Recording

Picture = NDArray[np.uint8]

#: Colours of targets; others get the next that is free.
COLOURS = {"actor": (64, 128, 255), "critic": (255, 64, 64)}
FURTHER = ((64, 220, 120), (255, 200, 0))

#: How much of a picture the strongest heat covers.
OPACITY = 0.8

#: Pictures that a GIF's colours are chosen by.
SAMPLED = 24


@dataclass(frozen=True)
class Film:
    """Pictures of a recording, uint8 (H, W, 3), all of one size; made as one iterates.

    They are as large as they were recorded, but for those of steps with maps of vectors: these are enlarged first, so
    that the text beside them is sharp.

    Attributes:
        recording: Where the frames are; where it has none, pictures among the observations are taken, or else features
            and curves are drawn.
        maps: Maps to lay over them; steps without a map are shown without.
        indices: Which steps.
        height: Least height in pixels of those that are enlarged.
    """

    recording: Recording
    maps: Recording | None
    indices: range
    height: int = 0

    def sample(self, count: int) -> Film:
        """Return a film of so many of its pictures at most, evenly spread."""
        return replace(self, indices=self.indices[:: max(1, -(-len(self.indices) // count))])

    def __iter__(self) -> Iterator[Picture]:
        """Yield the pictures.

        Raises:
            RecordingError: A step has no picture, or one of another size than those before.
        """
        return self._of_features() if self._is_blind() else self._of_pictures()

    def _of_pictures(self) -> Iterator[Picture]:
        recording, maps = self.recording, self.maps
        hello = recording.hello
        space, shape = None if hello is None else hello.observation_space, None
        beside = has_features(maps)
        for index in self.indices:
            step = recording.steps[index]
            picture = picture_of(step, space)
            if picture is None:
                raise _unusable(recording, step, "has neither a frame nor a picture or a vector as observation")
            shape = shape or picture.shape[:2]
            if picture.shape[:2] != shape:
                raise _unusable(recording, step, "has a frame of another size than those before")
            picture = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
            message = self._map_of(step)
            picture = picture if message is None else overlaid(picture, message)
            yield self._with_features(picture, step, message) if beside else picture

    def _is_blind(self) -> bool:
        """Whether the first step has vectors and no picture."""
        step, hello = self.recording.steps[self.indices[0]], self.recording.hello
        space = None if hello is None else hello.observation_space
        return picture_of(step, space) is None and described(step, hello, None) is not None

    def _of_features(self) -> Iterator[Picture]:
        from .curves import Curves
        from .strip import HEIGHT, Strip

        height = -(-(self.height or HEIGHT) // 2) * 2  # even, as H.264 asks for
        strip, curves = Strip(height), Curves(self.recording, self.indices, height)
        without = "no map of this step" if self.maps is not None else "without maps"
        for place, index in enumerate(self.indices):
            step = self.recording.steps[index]
            vectors = described(step, self.recording.hello, self._map_of(step))
            if vectors is None:
                raise _unusable(self.recording, step, "has no vector as observation, as those before have")
            yield np.hstack([strip.draw(vectors, without=without), curves.draw(place)])

    @cached_property
    def _explained(self) -> dict[int, int]:
        return {} if self.maps is None else self.maps.explained

    def _map_of(self, step: Step) -> SaliencyMap | None:
        known = self.maps is not None and step.step in self._explained
        return self.maps.saliency_map(self._explained[step.step]) if self.maps is not None and known else None

    def _with_features(self, picture: Picture, step: Step, message: SaliencyMap | None) -> Picture:
        from .strip import Strip

        large = _enlarged(picture, self.height)
        strip, vectors = Strip(large.shape[0]), described(step, self.recording.hello, message)
        return np.hstack([large, strip.draw(vectors)]) if vectors is not None else large


def has_features(maps: Recording | None) -> bool:
    """Tell whether maps have scores of vectors."""
    first = next(iter(maps.explained.values()), None) if maps is not None else None
    if maps is None or first is None:
        return False
    return any(name.startswith("features/") for name in maps.saliency_map(first).arrays)


def _unusable(recording: Recording, step: Step, why: str) -> RecordingError:
    return RecordingError(f"{recording.path}: step {step.step} {why}")


def overlaid(picture: Picture, saliency: SaliencyMap) -> Picture:
    """Return a picture with heat over it, each target's in its colour; the strongest scores cover it most."""
    mixed, further = picture.astype(np.float32), iter(FURTHER)
    for name, scores in saliency.arrays.items():
        kind, _, target = name.partition("/")
        if kind != "heatmap":
            continue
        colour = COLOURS.get(target.partition("/")[0]) or next(further, FURTHER[-1])
        heat, _ = quantise(scores, saliency.scale_of(name))
        strength = np.abs(_resized(heat.astype(np.float32) / np.float32(127), picture.shape[:2]))[..., None] * OPACITY
        mixed += (np.array(colour, np.float32) - mixed) * strength
    return np.clip(mixed, 0, 255).astype(np.uint8)


def write_mp4(film: Film, path: Path, *, fps: float, height: int) -> None:
    """Write a film as H.264 in an MP4 file; needs PyAV.

    Args:
        film: The film.
        path: The file.
        fps: Pictures per second.
        height: Least height in pixels: smaller pictures are enlarged by a whole number.

    Raises:
        RecordingError: See ``Film``.
    """
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = None
        for small in replace(film, height=height):
            picture = _enlarged(small, height)
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
                stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv420p"
                stream.options = {"crf": "18", "preset": "veryfast"}
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        if stream is not None:
            container.mux(stream.encode())


def write_gif(film: Film, path: Path, *, fps: float, height: int) -> None:
    """Write a film as an animated GIF; needs Pillow. Its frames last whole hundredths of a second, two at least.

    Args:
        film: The film.
        path: The file.
        fps: Pictures per second.
        height: As for ``write_mp4``.

    Raises:
        RecordingError: See ``Film``.
    """
    from . import animation

    film = replace(film, height=height)
    palette = animation.Palette(film.sample(SAMPLED))
    times = _times(next(iter(film)), height)
    with open(path, "wb") as file:
        animation.write(file, film, palette, hundredths=max(2, round(100 / fps)), times=times)


def _resized(heat: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Stretch over a picture, bilinearly."""
    for axis, size in enumerate(shape):
        places = np.clip((np.arange(size) + 0.5) * heat.shape[axis] / size - 0.5, 0, heat.shape[axis] - 1)
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, heat.shape[axis] - 1)
        share = (places - low).astype(np.float32).reshape([-1 if each == axis else 1 for each in range(2)])
        heat = np.take(heat, low, axis) * (1 - share) + np.take(heat, high, axis) * share
    return heat


def _times(picture: Picture, height: int) -> int:
    return max(1, -(-height // int(picture.shape[0])))


def _enlarged(picture: Picture, height: int) -> Picture:
    """Enlarge by a whole number, and cut to even sides, which H.264 asks for."""
    times = _times(picture, height)
    large = picture.repeat(times, axis=0).repeat(times, axis=1)
    return large[: large.shape[0] // 2 * 2, : large.shape[1] // 2 * 2]
