from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import distributions

from agentwrap import InterpretWrapper
from agentwrap.errors import PolicyTypeError
from agentwrap.outputs import check_spelling, doubts, output_names
from agentwrap_export.results import output_tensors

DISCRETE = gym.spaces.Discrete(9)
BOX = gym.spaces.Box(-1, 1, (3,), np.float32)
BOX1 = gym.spaces.Box(-2, 2, (1,), np.float32)
SWITCHES = gym.spaces.MultiBinary(3)


def t(*shape: int) -> torch.Tensor:
    return torch.zeros(shape)


@dataclass(frozen=True)
class Made:
    """What a policy of somebody's own returns."""

    pi: Any
    v: Any = None
    note: str = "not a tensor"


@pytest.mark.parametrize(
    ("result", "space", "expected"),
    [
        (t(1, 9), DISCRETE, ("logits",)),
        (t(9), DISCRETE, ("logits",)),
        (t(1, 3), BOX, ("mean",)),
        (t(1, 5), gym.spaces.MultiDiscrete([2, 3]), ("logits",)),
        (t(1, 4), gym.spaces.MultiBinary(4), ("logits",)),
        ((t(1, 6), t(1, 1)), SWITCHES, ("logits", "value")),
        ((t(1, 6), t(1, 3)), SWITCHES, ("output_0", "logits")),
        ((t(1, 9), t(1, 1)), DISCRETE, ("logits", "value")),
        ((t(9), t()), DISCRETE, ("logits", "value")),
        ([t(1), t(1, 9)], DISCRETE, ("value", "logits")),
        ((t(1, 3), t(1, 3), t(1, 1)), BOX, ("mean", "log_std", "value")),
        ((t(1, 3), t(3), t(1)), BOX, ("mean", "log_std", "value")),
        ((t(1, 3), t(1, 1)), BOX, ("mean", "value")),
        ((t(1, 1), t(1, 1)), BOX1, ("mean", "value")),
        ((t(1, 1), t(1, 1), t(1, 1)), BOX1, ("mean", "log_std", "value")),
        ((t(1, 9), t(1, 1), (t(1, 1, 8), t(1, 1, 8))), DISCRETE, ("logits", "value", "output_2", "output_3")),
        ((t(1, 9), t(1, 9), t(1, 1)), DISCRETE, ("logits", "output_1", "value")),
        ((t(1, 9), None, t(1, 1)), DISCRETE, ("logits", "value")),
        ({"q_values": t(1, 9)}, DISCRETE, ("q_values",)),
        ({"q": t(1, 9), "v": t(1)}, DISCRETE, ("q_values", "value")),
        ({"pi": t(1, 9), "vf": {"values": t(1), "aux": t(1)}}, DISCRETE, ("logits", "vf/values", "vf/aux")),
        ({"policy": t(1, 9), "logits": t(1, 9)}, DISCRETE, ("policy", "logits")),
        (({"values": t(1)}, t(1, 9)), DISCRETE, ("0/values", "logits")),
        (Made(t(1, 9), t(1, 1)), DISCRETE, ("logits", "value")),
        (Made(distributions.Categorical(logits=t(1, 9)), {"a": t(1), "b": t(1)}), DISCRETE, ("logits", "v/a", "v/b")),
        ((Made(t(1, 9)), t(1, 4)), DISCRETE, ("0/pi", "output_0")),
        ({"dist": distributions.Categorical(logits=t(1, 9)), "value": t(1)}, DISCRETE, ("logits", "value")),
        ({"dist": distributions.Normal(t(1, 3), t(1, 3) + 1)}, BOX, ("mean", "log_std")),
        ({"a": {"logits": t(1, 9)}, "b": {"logits": t(1, 9)}}, DISCRETE, ("a/logits", "b/logits")),
        ({"a": {"logits": t(1, 9)}, "pi": t(1, 9)}, DISCRETE, ("a/logits", "logits")),
        (distributions.Categorical(logits=t(1, 9)), DISCRETE, ("logits",)),
        ((distributions.Normal(t(1, 3), torch.ones(1, 3)), t(1)), BOX, ("mean", "log_std", "value")),
        ((distributions.Normal(t(1, 1), torch.ones(1, 1)), t(1, 1)), BOX1, ("mean", "log_std", "value")),
    ],
)
def test_names_follow_structure_and_sizes(result, space, expected):
    assert output_names(result, space) == expected
    assert len(output_tensors(result)) == len(expected)


def test_given_names_win():
    assert output_names(t(1, 9), DISCRETE, "q_values") == ("q_values",)
    assert output_names((t(1), t(1, 9)), DISCRETE, ["a", "b"]) == ("a", "b")


def test_given_names_must_fit():
    with pytest.raises(ValueError, match=r"1 names for 2 outputs of the policy, of shapes \(1, 9\), \(1, 1\)"):
        output_names((t(1, 9), t(1, 1)), DISCRETE, ("logits",))
    with pytest.raises(ValueError, match="must differ"):
        output_names((t(1, 9), t(1, 1)), DISCRETE, ("a", "a"))


@pytest.mark.parametrize("result", [None, 3, (), {"a": 1}, np.zeros((1, 9))])
def test_a_result_without_tensors_is_refused(result):
    with pytest.raises(PolicyTypeError, match="without any tensor; accepted are a tensor of logits"):
        output_names(result, DISCRETE)


def test_unknown_distributions_are_refused_by_name():
    with pytest.raises(PolicyTypeError, match="returned a Beta; accepted are"):
        output_tensors(distributions.Beta(torch.ones(1), torch.ones(1)))


def test_a_normal_gives_the_logarithm_of_its_deviation():
    mean, log_std = output_tensors(distributions.Independent(distributions.Normal(t(1, 3), torch.full((1, 3), 2.0)), 1))
    assert mean.shape == (1, 3)
    assert torch.allclose(log_std, torch.full((1, 3), np.log(2.0)))


@pytest.mark.parametrize(
    ("names", "tensors", "space", "text"),
    [
        (("logits",), (t(1, 9),), DISCRETE, None),
        (("logits", "value"), (t(1, 9), t(1, 1)), DISCRETE, None),
        (("mean", "log_std"), (t(1, 3), t(1, 3)), BOX, None),
        (("output_0",), (t(1, 7),), gym.spaces.Text(5), None),
        (("logits",), (t(1),), DISCRETE, "logits have 1 numbers, but Discrete(9) takes 9"),
        (("q_values",), (t(1, 10),), DISCRETE, "q_values have 10 numbers"),
        (("logits",), (t(1, 3),), SWITCHES, None),
        (("logits",), (t(1, 3, 2),), SWITCHES, None),
        (("logits",), (t(1, 6),), SWITCHES, "off and on of one switch after the other; return them as (3, 2)"),
        (("logits",), (t(1, 2, 3),), SWITCHES, "logits have 6 numbers, but MultiBinary(3) takes 3"),
        (("mean", "value"), (t(1, 1), t(1, 1)), BOX1, 'outputs=("mean", "log_std")'),
        (("mean", "log_std", "value"), (t(1, 1), t(1, 1), t(1, 1)), BOX1, None),
    ],
)
def test_doubts(names, tensors, space, text):
    said = doubts(names, tensors, space)
    assert said is None if text is None else text in said


@pytest.mark.parametrize(("given", "meant"), [("qvalues", "q_values"), ("logit", "logits"), (("mean", "v"), "value")])
def test_a_misspelt_name_is_refused_where_it_is_given(given: Any, meant: str) -> None:
    with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
        InterpretWrapper(gym.make("CartPole-v1"), torch.nn.Linear(4, 2), outputs=given, quiet=True)
    check_spelling(("logits", "features", "std"))
