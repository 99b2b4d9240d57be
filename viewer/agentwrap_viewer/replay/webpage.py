"""A part of a recording as one HTML file that plays it: frames, maps, features, curves, moments; it needs no network.

Frames are WebP, which every browser draws: lossless where that is small, as it is of games' drawings, else lossy. Maps
are the stage's eight-bit scores, deflated together. ``player/`` holds what the browser runs, with what it shares with
the live page.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentwrap_protocol.messages import Hello, SaliencyMap, Step
from agentwrap_viewer.page import components
from agentwrap_viewer.page.components.policy import describe
from agentwrap_viewer.page.packet import finite
from agentwrap_viewer.page.pictures import picture_of, quantise
from agentwrap_viewer.recording import Recording, RecordingError
from agentwrap_viewer.recording.scalars import scalars

from .features import features_of, with_options

_PLAYER = Path(__file__).parent / "player"
_COMPONENTS = Path(components.__file__).parent

#: Modules of the live page that the player is made of too, after those that they import; ``colour`` is its own.
SHARED = ("elements.js", "heat.js", "bars.js", "marks.js")

#: Most steps in one file: all of it is in the browser's memory.
MOST = 5000

#: Bytes of a lossless frame, on average over some, above which frames are lossy; their quality then, 0…100.
LOSSLESS, QUALITY = 8_000, 80

#: Frames tried to find that out, and the longer side of maps at most, in pixels: larger ones are averaged.
TRIED, LARGEST = 8, 96


def write_html(recording: Recording, maps: Recording | None, indices: range, path: Path, *, fps: float) -> None:
    """Write some steps as a page of their own; needs Pillow.

    Args:
        recording: The recording.
        maps: Maps of it, or None; steps without one are shown without.
        indices: Which steps, at most ``MOST``.
        path: The file.
        fps: Steps per second when it is played at speed 1.

    Raises:
        RecordingError: There are too many steps, or frames or maps of different sizes.
    """
    if len(indices) > MOST:
        raise RecordingError(
            f"{len(indices):,} steps are too many for one page, which holds {MOST:,}: choose with --episode or --steps"
        )
    steps = [recording.steps[index] for index in indices]
    name = f"{recording.env_id}, {_episodes(steps)}"
    run = {
        "title": name,
        "about": f"{recording.path.name}, steps {steps[0].step:,} to {steps[-1].step:,}",
        "fps": fps,
        "steps": [step.step for step in steps],
        "episodes": [step.episode for step in steps],
        "curves": _curves(recording, indices),
        "policy": _policy(steps, recording.hello),
        "frames": _frames(steps, recording),
        "maps": _maps(steps, maps),
        "features": features_of(steps, recording.hello, maps),
        "marks": _marks(recording, indices),
    }
    filled = {
        "title": html.escape(name),
        "style": (_PLAYER / "player.css").read_text(),
        "data": _embedded(run),
        "script": _script(),
    }
    page = (_PLAYER / "player.html").read_text()
    for key, text in filled.items():
        before, _, after = page.partition("{{" + key + "}}")
        page = before + text + after
    path.write_text(page, encoding="utf-8")


def _script() -> str:
    """The player and what it shares with the live page as one script: a page on disk cannot import modules."""
    shared = [(_COMPONENTS / name).read_text() for name in SHARED]
    joined = [re.sub(r"^(import .*\n|export )", "", text, flags=re.MULTILINE) for text in shared]
    return "\n".join([*joined, (_PLAYER / "player.js").read_text()])


def _embedded(run: dict[str, Any]) -> str:
    """JSON that cannot end the script element that it stands in, whatever the texts in it say."""
    return json.dumps(finite(run), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _episodes(steps: Sequence[Step]) -> str:
    first, last = steps[0].episode, steps[-1].episode
    return f"episode {first:,}" if first == last else f"episodes {first:,} to {last:,}"


def _curves(recording: Recording, indices: range) -> dict[str, list[float]]:
    low, high = min(indices[0], indices[-1]), max(indices[0], indices[-1]) + 1
    rows, found = np.array(indices) - low, scalars(recording, low, high)
    curves = {name: found[name][rows] for name in ("value", "entropy", "reward")}
    return {
        name: [float(f"{value:.5g}") for value in values]
        for name, values in curves.items()
        if np.isfinite(values).any()
    }


def _policy(steps: Sequence[Step], hello: Hello | None) -> dict[str, Any] | None:
    if hello is None:
        return None
    described = [describe(step, hello) for step in steps]
    names = max(([row["name"] for row in each["rows"]] for each in described), key=len)
    if not names:
        return None
    return {
        "kind": next(each["kind"] for each in described if len(each["rows"]) == len(names)),
        "names": names,
        "values": [[_rounded(row["value"]) for row in each["rows"]] for each in described],
        "taken": [next((k for k, row in enumerate(each["rows"]) if row.get("taken")), None) for each in described],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


# Frames.


def _frames(steps: Sequence[Step], recording: Recording) -> dict[str, Any] | None:
    space = recording.hello.observation_space if recording.hello is not None else None
    pictures = [picture_of(step, space) for step in steps]
    first = next((picture for picture in pictures if picture is not None), None)
    if first is None:
        return None
    for step, picture in zip(steps, pictures, strict=True):
        if picture is None or picture.shape[:2] != first.shape[:2]:
            raise RecordingError(f"{recording.path}: the frame of step {step.step} is missing or of another size")
    known = [picture for picture in pictures if picture is not None]
    tried = [len(_webp(picture, lossless=True)) for picture in known[:: max(1, len(known) // TRIED)]]
    lossless = sum(tried) / len(tried) <= LOSSLESS
    return {
        "type": "image/webp",
        "width": first.shape[1],
        "height": first.shape[0],
        "data": [base64.b64encode(_webp(picture, lossless=lossless)).decode() for picture in known],
    }


def _webp(picture: NDArray[np.uint8], *, lossless: bool) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", lossless=lossless, quality=QUALITY, method=4)
    return buffer.getvalue()


# Maps.


def _maps(steps: Sequence[Step], maps: Recording | None) -> dict[str, Any] | None:
    if maps is None:
        return None
    explained = maps.explained
    found = [maps.saliency_map(explained[step.step]) if step.step in explained else None for step in steps]
    first = next((each for each in found if each is not None and _layers(each)), None)
    if first is None:
        return None
    places: list[int | None] = []
    scores: list[NDArray[np.int8]] = []
    for each in found:
        places.append(None if each is None else len(scores))
        if each is not None:
            scores.append(_scores(each, first, maps.path))
    packed, shown = np.stack(scores), next(iter(_layers(first).values()))
    return {
        "method": with_options(first, first.method_of(shown)),
        "scale": first.scale_of(shown),
        "layers": [{"target": target, "title": first.title_of(target)} for target in _layers(first)],
        "shape": list(packed.shape[2:]),
        "places": places,
        "data": base64.b64encode(zlib.compress(packed.tobytes(), 9)).decode(),
    }


def _layers(message: SaliencyMap) -> dict[str, str]:
    """The names of the maps that are pictures, by target: of several entries of an observation the first."""
    layers: dict[str, str] = {}
    for name, array in message.arrays.items():
        kind, _, target = name.partition("/")
        if kind == "heatmap" and array.ndim == 2 and array.size:
            layers.setdefault(target.partition("/")[0], name)
    return layers


def _scores(message: SaliencyMap, first: SaliencyMap, path: Path) -> NDArray[np.int8]:
    layers = _layers(message)
    if _kinds(message) != _kinds(first):
        raise RecordingError(f"{path}: the map of step {message.step} is of another kind than those before")
    return np.stack([quantise(_reduced(message.arrays[name]), message.scale_of(name))[0] for name in layers.values()])


def _kinds(message: SaliencyMap) -> dict[str, tuple[Any, ...]]:
    """Size, method and scale of each layer: what all maps that are shown as one must agree in."""
    return {
        target: (message.arrays[name].shape, message.method_of(name), message.scale_of(name))
        for target, name in _layers(message).items()
    }


def _reduced(scores: NDArray[Any]) -> NDArray[Any]:
    """Average blocks of pixels, so that the longer side has at most ``LARGEST``."""
    block = -(-max(scores.shape) // LARGEST)
    if block == 1:
        return scores
    for axis, size in enumerate(scores.shape):
        begins = np.arange(0, size, block)
        counts = np.diff(np.append(begins, size)).reshape([-1 if each == axis else 1 for each in range(2)])
        scores = np.add.reduceat(scores, begins, axis=axis) / counts
    return scores


def _marks(recording: Recording, indices: range) -> list[dict[str, Any]]:
    places = {index: place for place, index in enumerate(indices)}
    numbers = {int(number): index for index, number in zip(indices, _numbers(recording, indices), strict=True)}
    found = [(each.index, each.kind, each.text) for each in recording.moments()]
    found += [(numbers[each.step], "bookmark", each.note) for each in recording.bookmarks.all if each.step in numbers]
    return [
        {"index": places[index], "kind": kind, "text": text} for index, kind, text in sorted(found) if index in places
    ]


def _numbers(recording: Recording, indices: range) -> NDArray[np.int64]:
    low, high = min(indices[0], indices[-1]), max(indices[0], indices[-1]) + 1
    return np.asarray(recording.array("step", low, high)[np.array(indices) - low])
