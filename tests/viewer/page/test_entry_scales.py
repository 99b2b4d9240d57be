"""Maps of a dict observation whose picture is explained by another method than the one that was chosen."""

from __future__ import annotations

import base64
import json
import zlib
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from fakes import hello, saliency_map, step

from agentwrap_protocol.messages import SaliencyMap
from agentwrap_viewer.page.states import Pictures, mean
from agentwrap_viewer.page.store import Store
from agentwrap_viewer.recording import Recording
from agentwrap_viewer.replay.features import NONE, features_of
from agentwrap_viewer.replay.webpage import _maps

HEAT = np.array([[1.0, -1.0], [0.5, 0.0]], np.float32)


def of_entries(number: int) -> SaliencyMap:
    """The vector by the method chosen, the picture by the default of pictures, which is signed."""
    arrays = {"heatmap/actor/eye": HEAT, "features/actor/body": np.float32([1, 2])}
    return saliency_map(
        step(number),
        method="feature_perturbation",
        entry_methods={"eye": "gradient"},
        entry_scales={"eye": "signed"},
        targets=("actor",),
        arrays=arrays,
    )


def test_their_mean_keeps_the_sign() -> None:
    store = Store()
    store.add(hello())
    steps = [step(number) for number in range(3)]
    for each in steps:
        store.add(each)
        store.add(of_entries(each.step))
    data = mean(store, Pictures(), steps)
    length = int.from_bytes(data[:4], "little")
    (layer,) = json.loads(data[4 : 4 + length])["sections"]["mean"]["heat"]
    assert (layer["scale"], layer["method"]) == ("signed", "gradient")
    begin = 4 + length + layer["heat"]["offset"]
    assert np.frombuffer(data[begin : begin + 4], np.int8).tolist() == [127, -127, 64, 0]


def test_a_page_of_a_recording_keeps_it_too() -> None:
    steps = [step(number) for number in range(2)]
    maps: Any = SimpleNamespace(explained={0: 0, 1: 1}, saliency_map=of_entries, path="maps.mcap")
    made = _maps(steps, cast(Recording, maps))
    assert made is not None and (made["scale"], made["method"]) == ("signed", "gradient")
    scores = np.frombuffer(zlib.decompress(base64.b64decode(made["data"])), np.int8)
    assert scores.tolist() == 2 * [127, -127, 64, 0]


def test_a_page_of_a_recording_keeps_what_has_no_score() -> None:
    arrays = {"observation/body": np.float32([3, 4]), "observation/mode": np.array(1)}
    steps = [step(number, arrays=arrays) for number in range(2)]
    maps: Any = SimpleNamespace(explained={0: 0, 1: 1}, saliency_map=of_entries, path="maps.mcap")
    made = features_of(steps, hello(), cast(Recording, maps))
    assert made is not None and made["names"] == ["body 0", "body 1", "mode"]
    scores = np.frombuffer(zlib.decompress(base64.b64decode(made["data"])), np.int8)
    assert scores.tolist() == 2 * [64, 127, NONE]
