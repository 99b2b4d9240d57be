"""Arrays to pictures: frames, observations, stacks of frames, heat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentwrap_protocol.messages import ScoreScale, Step
from agentwrap_protocol.spaces import Box, Dict, Space, Tuple

Picture = NDArray[np.uint8]
Heat = NDArray[np.int8]

#: The most planes of a stack that are shown, and the largest side of a picture.
PLANES = 4
MAX_SIDE = 4096


def observation_of(step: Step, chosen: str | None = None) -> tuple[str, NDArray[Any]] | None:
    """Return (name, array) of the observation; of a dict the picture chosen, else the first, else the first vector."""
    pictures = pictures_of(step)
    if pictures:
        name = chosen if chosen in pictures else pictures[0]
        return name, step.arrays[name]
    entries = _entries_of(step)
    for name, array in entries:
        if array.ndim <= 1:
            return name, array
    return entries[0] if entries else None


def pictures_of(step: Step) -> list[str]:
    """Return the names of the observation's arrays that are pictures: of a dict or tuple there may be several."""
    return [name for name, array in _entries_of(step) if is_picture(array)]


def _entries_of(step: Step) -> list[tuple[str, NDArray[Any]]]:
    return [(n, a) for n, a in step.arrays.items() if n == "observation" or n.startswith("observation/")]


def is_picture(array: NDArray[Any]) -> bool:
    """Tell whether an array has the shape of a picture or of a stack of them."""
    if array.ndim not in (2, 3, 4) or array.dtype.kind not in "uifb" or not array.size:
        return False
    sides = sorted(array.shape, reverse=True)[:2]
    return bool(sides[1] >= 8 and sides[0] <= MAX_SIDE)


def size_of(space: Space) -> tuple[int, int] | None:
    """Return height and width of the picture in observations of this space, or None where there is none."""
    if isinstance(space, Dict | Tuple):
        return next((size for _, part in leaves_of(space) if (size := size_of(part)) is not None), None)
    if not isinstance(space, Box):
        return None
    alike = np.broadcast_to(np.uint8(0), space.shape)  # takes no memory, whatever its shape
    return planes_of(alike)[-1].shape[:2] if is_picture(alike) else None


def is_vector(array: NDArray[Any]) -> bool:
    """Tell whether an array is a vector of numbers, or a single one."""
    return array.ndim <= 1 and array.dtype.kind in "uifb"


def leaves_of(space: Space | None, name: str = "observation") -> Iterator[tuple[str, Space]]:
    """Yield the parts of a space that hold arrays, in its order, each with the name of its array in a step."""
    if isinstance(space, Dict):
        for key, part in space.spaces.items():
            yield from leaves_of(part, f"{name}/{key}")
    elif isinstance(space, Tuple):
        for index, part in enumerate(space.spaces):
            yield from leaves_of(part, f"{name}/{index}")
    elif space is not None:
        yield name, space


def planes_of(array: NDArray[Any]) -> list[NDArray[Any]]:
    """Split an observation into the pictures it consists of, oldest first; each is (H, W) or (H, W, 3).

    Taken for colour: three channels. Taken for a stack of grey pictures: any other number of channels, before or after
    height and width, whichever is the smaller side.
    """
    if array.ndim == 2:
        return [array]
    if array.ndim == 4:
        return [plane for part in array for plane in planes_of(part)[-1:]]
    if array.shape[0] < array.shape[-1]:
        array = np.moveaxis(array, 0, -1)
    channels = array.shape[-1]
    return [array] if channels == 3 else [array[..., index] for index in range(channels)]


def bounds_of(space: Space | None, name: str) -> tuple[float, float] | None:
    """Return the lowest and highest value that the space allows for an array ``observation[/key]``, where finite."""
    space = next((leaf for leaf_name, leaf in leaves_of(space) if leaf_name == name), None)
    if isinstance(space, Box) and np.isfinite([space.low, space.high]).all() and space.high > space.low:
        return space.low, space.high
    return None


def to_uint8(array: NDArray[Any], bounds: tuple[float, float] | None) -> Picture:
    """Return a picture of 0…255: as it is where uint8, else scaled from ``bounds`` or from its own range."""
    if array.dtype == np.uint8:
        return array
    values = np.nan_to_num(array.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = bounds if bounds is not None else (float(values.min()), float(values.max()))
    scaled = (values - low) / max(high - low, 1e-12)
    return np.asarray(np.clip(scaled, 0, 1) * 255 + 0.5, dtype=np.uint8)


def network_input(step: Step, space: Space | None, chosen: str | None = None) -> NDArray[np.uint8] | None:
    """Return the newest planes of the observation, uint8 (k, H, W) or (k, H, W, 3), oldest first; None for a vector."""
    observation = observation_of(step, chosen)
    if observation is None or not is_picture(observation[1]):
        return None
    name, array = observation
    planes = planes_of(array)[-PLANES:]
    return np.stack([to_uint8(plane, bounds_of(space, name)) for plane in planes])


def picture_of(step: Step, space: Space | None, chosen: str | None = None) -> Picture | None:
    """Return what the stage shows: the frame, else the observation's newest picture; uint8 (H, W) or (H, W, 3).

    Args:
        step: The step.
        space: The space of its observation.
        chosen: Name of the array that is meant, where the observation has several pictures; None for the first.
    """
    frame = step.arrays.get("frame")
    if frame is not None and is_picture(frame):
        return to_uint8(frame[..., :3] if frame.ndim == 3 else frame, None)
    observation = observation_of(step, chosen)
    if observation is None or not is_picture(observation[1]):
        return None
    name, array = observation
    return to_uint8(planes_of(array)[-1], bounds_of(space, name))


def quantise(heat: NDArray[Any], scale: ScoreScale = "magnitude") -> tuple[Heat, float]:
    """Return (heat as int8, full): 127 stands for ``full``, -127 for its opposite; NaN and infinities are no effect.

    Of a magnitude ``full`` is the largest score and what is negative is 0; of signed scores it is the largest distance
    from 0; of relative ones, which are counted from the lowest, the distance between the lowest and the largest.
    """
    scores = np.asarray(heat, dtype=np.float32)
    known = scores[np.isfinite(scores)]
    origin = float(known.min(initial=np.inf)) if scale == "relative" and known.size else 0.0
    scores = np.nan_to_num(scores - origin, nan=0.0, posinf=0.0, neginf=0.0)
    full = float((np.abs(scores) if scale == "signed" else scores).max(initial=0.0))
    if full <= 0:
        return np.zeros(scores.shape, np.int8), 0.0
    lowest = -1.0 if scale == "signed" else 0.0
    return np.rint(np.clip(scores / full, lowest, 1) * 127).astype(np.int8), full
