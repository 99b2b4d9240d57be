import gymnasium as gym
import numpy as np
import torch

from agentwrap.arrays import MOST_PARTS, copied


def test_parts_are_named_by_their_path():
    value = {"a": np.ones(2), "b": (3, {"c": np.float32(4)}), "d": [0.5, 1.5]}
    arrays, left_out = copied("observation", value)
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "observation/a": [1.0, 1.0],
        "observation/b/0": 3,
        "observation/b/1/c": 4.0,
        "observation/d": [0.5, 1.5],
    }
    assert left_out == []


def test_arrays_are_copies():
    value, tensor = np.zeros(3), torch.zeros(3)
    array, other = copied("x", value)[0]["x"], copied("x", tensor)[0]["x"]
    value[:] = 1
    tensor[:] = 1
    assert array.tolist() == other.tolist() == [0, 0, 0]


def test_what_does_not_travel_is_named():
    space = gym.spaces.Dict({"text": gym.spaces.Text(4), "n": gym.spaces.Discrete(3)})
    arrays, left_out = copied("observation", space.sample())
    assert list(arrays) == ["observation/n"]
    assert left_out == ["observation/text"]
    assert copied("x", np.zeros(2, complex)) == ({}, ["x"])
    assert copied("x", object()) == ({}, ["x"])
    assert copied("x", None) == ({}, ["x"])
    assert copied("x", torch.zeros(2, dtype=torch.complex64)) == ({}, ["x"])


def test_the_number_of_parts_is_bounded():
    arrays, left_out = copied("x", tuple({"n": n} for n in range(MOST_PARTS + 3)))
    assert (len(arrays), len(left_out)) == (MOST_PARTS, 3)
