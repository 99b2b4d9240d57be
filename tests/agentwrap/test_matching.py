import numpy as np
import pytest
import torch

from agentwrap.matching import same_observation, single_observation, unlike
from agentwrap_export.inputs import CallInput


@pytest.mark.parametrize(
    ("given", "expected", "batched"),
    [
        ((1, 4), (4,), True),
        ((4,), (4,), False),
        ((32, 4), (4,), None),
        ((2, 4), (4,), None),
        ((1, 4, 84, 84), (4, 84, 84), True),
        ((4, 84, 84), (4, 84, 84), False),
        ((1, 28224), (4, 84, 84), True),
        ((28224,), (4, 84, 84), False),
        ((1, 3, 96, 96), (96, 96, 3), True),
        ((3, 96, 96), (96, 96, 3), False),
        ((1, 84, 84), (84, 84, 1), False),
        ((1, 1, 84, 84), (84, 84, 1), True),
        ((1, 84, 84), (1, 84, 84), False),
        ((1, 4, 42, 42), (4, 84, 84), True),
        ((128, 4, 84, 84), (4, 84, 84), None),
        ((1,), (), True),
        ((), (), False),
        ((1, 16), (), True),
        ((32,), (), None),
        ((8,), (4,), None),
    ],
)
def test_single_observations_are_told_from_minibatches(given, expected, batched):
    assert single_observation({"observation": given}, {"observation": expected}) is batched


def test_all_parts_of_an_observation_must_agree():
    expected = {"observation/a": (4,), "observation/b": (3, 8, 8)}
    assert single_observation({"observation/a": (1, 4), "observation/b": (1, 3, 8, 8)}, expected) is True
    assert single_observation({"observation/a": (4,), "observation/b": (3, 8, 8)}, expected) is False
    assert single_observation({"observation/a": (1, 4), "observation/b": (9, 3, 8, 8)}, expected) is None
    assert single_observation({"observation": (1, 196)}, expected) is True
    assert single_observation({}, expected) is None


def observed(tensor, array="observation"):
    return CallInput(array, array, "observation", tensor)


def state(tensor):
    return CallInput("state", "input/state", "state", tensor)


SEEN = {"observation": np.arange(6, dtype=np.uint8).reshape(2, 3)}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16, torch.bfloat16, torch.int64])
def test_the_observation_itself_is_not_sent_again(dtype):
    tensor = torch.arange(6).reshape(2, 3).to(dtype)
    assert unlike([observed(tensor)], SEEN, batched=False) == []
    assert unlike([observed(tensor[None])], SEEN, batched=True) == []
    assert unlike([observed(tensor + 1)], SEEN, batched=False) != []


@pytest.mark.parametrize(
    "prepare", [lambda tensor: tensor / 255, lambda tensor: tensor.T, lambda tensor: tensor.flatten()]
)
def test_what_was_made_of_it_is_another(prepare):
    tensor = prepare(torch.arange(6.0).reshape(2, 3))
    for given, batched in ((tensor, False), (tensor[None], True)):
        inputs = [observed(given)]
        assert unlike(inputs, SEEN, batched=batched) == inputs


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_is_the_same_as_nan(dtype):
    seen = {"observation": np.array([np.nan, 1.0], dtype)}
    assert unlike([observed(torch.tensor([torch.nan, 1.0]))], seen, batched=False) == []
    assert unlike([observed(torch.tensor([torch.nan, 2.0]))], seen, batched=False) != []


def test_state_is_no_observation():
    assert unlike([state(torch.zeros(1, 1, 8))], SEEN, batched=True) == []


def test_a_part_that_the_environment_does_not_have_is_another():
    assert len(unlike([observed(torch.ones(1, 2), "observation/x")], SEEN, batched=True)) == 1


def test_equal_observations_of_two_calls():
    one, other = observed(torch.ones(2)), observed(torch.zeros(2))
    assert same_observation([one], [observed(torch.ones(2))])
    assert not same_observation([one], [other])
    assert not same_observation([one], [observed(torch.ones(1))])
    assert not same_observation([one], [])
    assert not same_observation([one, other], [one, one])
