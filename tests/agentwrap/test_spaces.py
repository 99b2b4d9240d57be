import gymnasium as gym
import numpy as np
import pytest

from agentwrap.spaces import describe, is_image
from agentwrap_protocol import spaces


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (
            gym.spaces.Box(np.array([-1, -np.inf]), np.array([2, np.inf]), dtype=np.float64),
            spaces.Box(shape=(2,), dtype="float64", low=-np.inf, high=np.inf),
        ),
        (gym.spaces.Box(0, 255, (4, 84, 84), np.uint8), spaces.Box(shape=(4, 84, 84), dtype="uint8", low=0, high=255)),
        (gym.spaces.Discrete(3, start=-1), spaces.Discrete(n=3, start=-1)),
        (gym.spaces.MultiDiscrete([[2, 3], [4, 5]]), spaces.MultiDiscrete(counts=(2, 3, 4, 5))),
        (gym.spaces.MultiBinary((2, 3)), spaces.MultiBinary(shape=(2, 3))),
        (gym.spaces.MultiBinary(5), spaces.MultiBinary(shape=(5,))),
        (
            gym.spaces.Dict({"a": gym.spaces.Tuple([gym.spaces.Discrete(2)])}),
            spaces.Dict(spaces={"a": spaces.Tuple(spaces=(spaces.Discrete(n=2),))}),
        ),
    ],
)
def test_spaces_in_the_protocols_words(space, expected):
    assert describe(space) == expected


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Text(5),
        gym.spaces.Sequence(gym.spaces.Discrete(2)),
        gym.spaces.Graph(gym.spaces.Discrete(2), None),
        gym.spaces.OneOf([gym.spaces.Discrete(2)]),
        gym.spaces.MultiDiscrete(np.full(5000, 2)),
    ],
)
def test_what_has_no_words_is_described_for_people(space):
    described = describe(space)
    assert isinstance(described, spaces.Other)
    assert described.text.startswith(type(space).__name__)


def box(*shape):
    return gym.spaces.Box(0, 1, shape)


def test_images_are_told_from_vectors_and_matrices():
    assert all(map(is_image, [box(84, 84), box(4, 84, 84), box(96, 96, 3), box(4, 64, 64, 3), box(7, 7, 3)]))
    assert not any(map(is_image, [box(4), box(2, 8), box(5, 20), box(3, 4, 9), gym.spaces.Discrete(3)]))
