"""Which part of an observation is a picture, and what it looks like."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import step

from agentwrap_protocol.messages import ScoreScale
from agentwrap_protocol.spaces import Box, Dict, Discrete, Tuple
from agentwrap_viewer.page.pictures import leaves_of, network_input, observation_of, picture_of, quantise, size_of

UNIT = Box(shape=(84, 84), dtype="float32", low=0.0, high=1.0)


@pytest.mark.parametrize(
    ("shape", "planes"),
    [
        ((84, 84), (1, 84, 84)),
        ((4, 84, 84), (4, 84, 84)),
        ((84, 84, 4), (4, 84, 84)),
        ((84, 84, 1), (1, 84, 84)),
        ((210, 160, 3), (1, 210, 160, 3)),
        ((3, 64, 64), (1, 64, 64, 3)),
        ((4, 96, 96, 3), (4, 96, 96, 3)),
        ((8, 84, 84), (4, 84, 84)),
    ],
)
def test_planes_of_every_layout(shape: tuple[int, ...], planes: tuple[int, ...]) -> None:
    observation = np.arange(np.prod(shape), dtype=np.uint64).reshape(shape).astype(np.uint8)
    found = network_input(step(0, arrays={"observation": observation}), None)
    assert found is not None and found.shape == planes and found.dtype == np.uint8


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (5, 5), (0, 84)])
def test_what_is_no_picture(shape: tuple[int, ...]) -> None:
    sent = step(0, arrays={"observation": np.zeros(shape, np.float32)})
    assert network_input(sent, None) is None and picture_of(sent, None) is None


def test_a_spaces_picture_has_the_size_of_its_planes() -> None:
    for shape, size in {
        (84, 84): (84, 84),
        (4, 84, 96): (84, 96),
        (210, 160, 3): (210, 160),
        (4, 96, 64, 3): (96, 64),
    }.items():
        assert size_of(Box(shape=shape, dtype="uint8", low=0, high=255)) == size
    vector = Box(shape=(4,), dtype="float32", low=-1, high=1)
    assert size_of(vector) is None and size_of(Discrete(n=2)) is None
    assert size_of(Dict(spaces={"speed": vector, "camera": UNIT})) == (84, 84)


def test_newest_plane_stands_in_for_a_missing_frame() -> None:
    stack = np.stack([np.full((84, 84), value, np.uint8) for value in (1, 2, 3, 4)])
    picture = picture_of(step(0, arrays={"observation": stack}), None)
    assert picture is not None and (picture == 4).all()
    frame = np.full((10, 12, 3), 9, np.uint8)
    assert picture_of(step(0, arrays={"observation": stack, "frame": frame}), None).tolist() == frame.tolist()


def test_floats_are_scaled_by_the_space_else_by_their_range() -> None:
    half = step(0, arrays={"observation": np.full((84, 84), 0.5, np.float32)})
    assert picture_of(half, UNIT).max() == 128
    ramp = step(0, arrays={"observation": np.linspace(-7, 5, 84 * 84, dtype=np.float32).reshape(84, 84)})
    picture = picture_of(ramp, None)
    assert (picture.min(), picture.max()) == (0, 255)
    assert picture_of(step(0, arrays={"observation": np.full((84, 84), np.nan, np.float32)}), UNIT).max() == 0


def test_a_dict_shows_its_picture() -> None:
    arrays = {"observation/speed": np.zeros(3), "observation/camera": np.full((84, 84), 0.5, np.float32)}
    sent = step(0, arrays=arrays)
    assert observation_of(sent)[0] == "observation/camera"
    assert picture_of(sent, Dict(spaces={"camera": UNIT})).max() == 128


def test_a_picture_in_a_tuple_is_found_and_has_its_bounds() -> None:
    space = Tuple(spaces=(Box(shape=(3,), dtype="float32", low=0.0, high=1.0), Dict(spaces={"camera": UNIT})))
    sent = step(0, arrays={"observation/0": np.zeros(3), "observation/1/camera": np.full((84, 84), 0.5, np.float32)})
    assert [name for name, _ in leaves_of(space)] == ["observation/0", "observation/1/camera"]
    assert picture_of(sent, space).max() == 128 and size_of(space) == (84, 84)


@pytest.mark.parametrize(
    ("scale", "scores", "quantised", "full"),
    [
        ("magnitude", [0.0, 1.0, 2.0, 4.0], [0, 32, 64, 127], 4.0),
        ("magnitude", [-8.0, np.nan, np.inf, 4.0], [0, 0, 0, 127], 4.0),
        ("signed", [-8.0, np.nan, -np.inf, 4.0], [-127, 0, 0, 64], 8.0),
        ("signed", [-1.0, -2.0, -4.0, -0.0], [-32, -64, -127, 0], 4.0),
        ("relative", [0.5, 0.75, 0.625, np.nan], [0, 127, 64, 0], 0.25),
        ("relative", [-3.0, -1.0, -2.0, -3.0], [0, 127, 64, 0], 2.0),
    ],
)
def test_quantised_heat_keeps_what_its_scale_says_that_scores_mean(
    scale: ScoreScale, scores: list[float], quantised: list[int], full: float
) -> None:
    found, found_full = quantise(np.array(scores, np.float32), scale)
    assert (found.tolist(), found_full) == (quantised, full)


@pytest.mark.parametrize("scale", ["magnitude", "signed", "relative"])
def test_a_map_without_differences_has_no_heat(scale: ScoreScale) -> None:
    constant = 0.0 if scale == "signed" else -1.0
    for empty in (np.zeros((2, 2)), np.full((2, 2), np.nan), np.full((2, 2), constant), np.zeros((0, 0))):
        quantised, full = quantise(empty, scale)
        assert full == 0.0 and not quantised.any()
