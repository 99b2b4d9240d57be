import numpy as np
import pytest
import torch
from torch import nn

from agentwrap_export.inputs import arrays_to_tensors, call_inputs

X, H, C = torch.zeros(1, 4), torch.zeros(1, 1, 8), torch.ones(1, 1, 8)


class Recurrent(nn.Module):
    def forward(self, x, state=None, *, mask=None):
        raise NotImplementedError


class Many(nn.Module):
    def forward(self, x, *others, **more):
        raise NotImplementedError


def described(module, *args, **kwargs):
    return [(found.name, found.array, found.role) for found in call_inputs(module, args, kwargs)]


def test_one_tensor_is_the_observation():
    assert described(Recurrent(), X) == [("observation", "observation", "observation")]
    assert call_inputs(Recurrent(), (X,), {})[0].tensor is X


def test_other_arguments_are_state():
    assert described(Recurrent(), X, (H, C), mask=X) == [
        ("observation", "observation", "observation"),
        ("state/0", "input/state/0", "state"),
        ("state/1", "input/state/1", "state"),
        ("mask", "input/mask", "state"),
    ]


def test_keyword_arguments_come_in_any_order():
    assert described(Recurrent(), state=(H, C), x=X)[-1] == ("observation", "observation", "observation")


def test_dict_observations_keep_their_keys_as_array_and_a_plain_name_in_the_graph():
    assert described(Recurrent(), {"image": X, "my key": H, "nested": {"a": X}}) == [
        ("observation/image", "observation/image", "observation"),
        ("observation/my_key", "observation/my key", "observation"),
        ("observation/nested/a", "observation/nested/a", "observation"),
    ]


def test_names_that_would_be_equal_get_numbers():
    assert [name for name, _, _ in described(Recurrent(), {"a b": X, "a-b": X})] == [
        "observation/a_b",
        "observation/a_b_2",
    ]


def test_variable_arguments():
    assert [name for name, _, _ in described(Many(), X, H, {"k": C}, more=X)] == [
        "observation",
        "others/0",
        "others/1/k",
        "more",
    ]


def test_arguments_without_tensors_are_left_out():
    assert described(Recurrent(), X, None) == [("observation", "observation", "observation")]
    assert described(Many(), None, X) == [("observation", "observation", "observation")]
    assert described(Many(), 3) == []


def test_too_many_arguments_are_refused():
    with pytest.raises(TypeError, match="Recurrent.forward takes 2 positional arguments, 3 were given"):
        call_inputs(Recurrent(), (X, H, C), {})


def test_arrays_become_tensors_that_share_their_memory():
    array, word = np.zeros(3, np.float32), np.array(["word"])
    converted = arrays_to_tensors(({"a": array}, [word, 7]))
    array[0] = 5
    assert converted[0]["a"][0] == 5
    assert converted[1] == [word, 7]
