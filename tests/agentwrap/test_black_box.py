"""What becomes of a function that is called for others: how it takes observations, and what is refused."""

from __future__ import annotations

import random
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from agentwrap.black_box import CallableBox
from agentwrap.errors import PolicyTypeError
from agentwrap.module_box import ModuleBox

RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(4, 3))
VECTOR, THREE = spaces.Box(-1, 1, (4,), np.float32), spaces.Discrete(3)
ROWS = RNG.normal(size=(7, 4)).astype(np.float32)


def box(policy: Any, space: gym.Space[Any] = VECTOR, actions: gym.Space[Any] = THREE, **options: Any) -> CallableBox:
    arrays = {"observation": ROWS[0]} if space is VECTOR else options.pop("arrays")
    return CallableBox(policy, arrays, observation_space=space, action_space=actions, **options)


def one_alone(observation: np.ndarray) -> np.ndarray:
    assert observation.shape == (4,)
    return observation @ WEIGHT


def batches_alone(observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    assert observations.ndim == 2
    return observations @ WEIGHT, observations.sum(1)


@pytest.mark.parametrize(
    "policy", [one_alone, batches_alone, lambda x: x @ WEIGHT, lambda x: torch.as_tensor(x @ WEIGHT)]
)
def test_rows_come_out_as_the_function_computes_them_alone(policy: Any) -> None:
    found = box(policy)({"observation": ROWS})
    np.testing.assert_allclose(found["logits"], ROWS @ WEIGHT, atol=1e-5)
    if "value" in found:
        np.testing.assert_allclose(found["value"], ROWS.sum(1), atol=1e-5)


def test_it_is_found_out_whether_a_function_takes_a_batch() -> None:
    assert box(one_alone).most_rows == 1
    assert box(lambda x: x - x.mean()[..., None] if x.ndim == 1 else x, actions=spaces.Discrete(4)).most_rows == 1
    assert box(batches_alone).most_rows > 1


def test_an_output_that_is_the_same_for_all_observations_is_given_for_each() -> None:
    policy = box(lambda x: {"mean": x @ WEIGHT, "log_std": np.array([0.0, 1.0, 2.0])}, actions=spaces.Box(-1, 1, (3,)))
    assert policy.most_rows > 1
    assert policy({"observation": ROWS})["log_std"].tolist() == [[0.0, 1.0, 2.0]] * 7


def test_dict_observations_are_put_together_again() -> None:
    space = spaces.Dict({"image": spaces.Box(0, 255, (2, 2), np.uint8), "pose": spaces.Tuple((VECTOR, VECTOR))})
    arrays = {
        "observation/image": np.arange(4, dtype=np.uint8).reshape(2, 2),
        "observation/pose/0": ROWS[0],
        "observation/pose/1": ROWS[1],
    }

    def policy(observation: Any) -> np.ndarray:
        image = observation["image"].reshape(*observation["image"].shape[:-2], 4)
        return (image / 255 + observation["pose"][0] - observation["pose"][1]) @ WEIGHT

    both = box(policy, space, arrays=arrays)
    assert [given.array for given in both.inputs] == list(arrays)
    found = both({name: np.stack([array] * 2) for name, array in arrays.items()})
    expected = (np.arange(4) / 255 + ROWS[0] - ROWS[1]) @ WEIGHT
    np.testing.assert_allclose(found["logits"], [expected] * 2, atol=1e-5)


HAND = spaces.Tuple((spaces.Discrete(32), spaces.Discrete(11), spaces.Discrete(2)))
HANDS = np.array([[20, 5, 0], [13, 2, 1], [4, 10, 0]])
TABLE = RNG.normal(size=(32, 11, 2, 3))
LOOKED_UP = {tuple(index): TABLE[index] for index in np.ndindex(32, 11, 2)}


@pytest.mark.parametrize(
    ("policy", "batches"), [(lambda hand: TABLE[hand], True), (lambda hand: LOOKED_UP[hand], False)]
)
@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_tables_are_looked_up_with_the_numbers_of_a_tuple(policy: Any, batches: bool, dtype: Any) -> None:
    both = box(policy, HAND, arrays={"observation": HANDS[0]})
    assert (both.most_rows > 1) is batches
    found = both({"observation": HANDS.astype(dtype)})["logits"]
    np.testing.assert_allclose(found, TABLE[tuple(HANDS.T)])


def test_pictures_of_wide_integers_are_perturbed_in_floats() -> None:
    image = np.arange(4).reshape(2, 2)
    both = box(
        lambda x: x.reshape(*x.shape[:-2], 4) @ WEIGHT,
        spaces.Box(0, 9, (2, 2), np.int64),
        arrays={"observation": image},
    )
    found = both({"observation": image[None] + np.float32(0.25)})["logits"]
    np.testing.assert_allclose(found, [(image.reshape(4) + 0.25) @ WEIGHT], atol=1e-5)


@pytest.mark.parametrize("table", [TABLE[0, 0], dict(enumerate(TABLE[0, 0]))])
def test_tables_are_looked_up_with_a_number(table: Any) -> None:
    looked_up = box(lambda state: table[state], spaces.Discrete(2), arrays={"observation": np.array(1)})
    found = looked_up({"observation": np.array([0, 1, 1], np.float32)})["logits"]
    np.testing.assert_allclose(found, TABLE[0, 0][[0, 1, 1]])


def test_a_number_of_a_dict_is_looked_up() -> None:
    space = spaces.Dict({"body": VECTOR, "mode": spaces.Discrete(2), "seen": spaces.MultiDiscrete([5, 2])})
    arrays = {"observation/body": ROWS[0], "observation/mode": np.array(1), "observation/seen": np.array([4, 1])}

    def policy(observation: Any) -> np.ndarray:
        return (
            observation["body"] @ WEIGHT * TABLE[0, 0][observation["mode"]] + TABLE[0, 1][observation["seen"][..., 1]]
        )

    both = box(policy, space, arrays=arrays)
    found = both({name: np.stack([array] * 2).astype(np.float32) for name, array in arrays.items()})
    np.testing.assert_allclose(found["logits"], [ROWS[0] @ WEIGHT * TABLE[0, 0][1] + TABLE[0, 1][1]] * 2, atol=1e-5)


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (lambda x: int(np.argmax(x @ WEIGHT)), "returned a single number .* rather than the action chosen"),
        (lambda x: x[:2], r"returned an array of shape \(2,\) for one observation, but Discrete\(3\) takes 3"),
        (lambda x: x @ WEIGHT + np.random.normal(), "draws random numbers"),
        (lambda x: "left", "accepted are logits"),
        (lambda x: x @ WEIGHT if x.dtype == np.float64 else 2 * x @ WEIGHT, "whatever the dtype"),
    ],
)
def test_what_is_no_function_of_the_observation_is_refused(policy: Any, says: str) -> None:
    double = spaces.Box(-1, 1, (4,), np.float64)
    with pytest.raises(PolicyTypeError, match=says):
        box(policy, double, arrays={"observation": ROWS[0].astype(np.float64)})


def test_what_a_function_raises_is_raised() -> None:
    with pytest.raises(KeyError, match="weights"):
        box(lambda x: {}["weights"])


def test_random_states_and_gradients_stay_as_they_are() -> None:
    parameter = torch.ones(4, 3, requires_grad=True)

    def policy(x: np.ndarray) -> torch.Tensor:
        random.random(), np.random.random(), torch.rand(1)
        return torch.as_tensor(x) @ parameter

    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    box(policy)({"observation": ROWS})
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    assert parameter.grad is None and torch.is_grad_enabled()


class Branching(nn.Module):
    """Cannot be exported: what it does depends on the observation's values."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.dropout, self.norm = nn.Linear(4, 3), nn.Dropout(0.5), nn.BatchNorm1d(4)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        signs = torch.tensor([1 if float(row.detach().sum()) > 0 else -1 for row in x])
        return self.head(self.dropout(self.norm(x))) * signs[:, None]


def test_a_modules_copy_is_called_and_the_module_itself_is_not() -> None:
    torch.manual_seed(0)
    module = Branching().train()
    called = ModuleBox(module, (torch.from_numpy(ROWS[:1]),), {}, names=("logits",), batched=True)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    found = called({"observation": ROWS})["logits"]
    assert module.training and module.calls == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    module.eval()
    np.testing.assert_allclose(found, module(torch.from_numpy(ROWS)).detach().numpy(), atol=1e-6)


def test_a_modules_copy_follows_its_weights_and_statistics() -> None:
    torch.manual_seed(0)
    module = Branching().eval()
    called = ModuleBox(module, (torch.from_numpy(ROWS[:1]),), {}, names=("logits",), batched=True)
    with torch.no_grad():
        module.head.weight.mul_(2)
        module.norm.running_mean.add_(0.5)
    module.norm.weight = nn.Parameter(torch.full((4,), 3.0))
    expected = module(torch.from_numpy(ROWS)).detach().numpy()
    np.testing.assert_allclose(called({"observation": ROWS})["logits"], expected, atol=1e-6)


def test_pixels_are_perturbed_in_floats() -> None:
    class Pixels(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert float(x.sum()) >= 0  # cannot be exported
            return x.float().flatten(1)[:, :3]

    row = torch.zeros(1, 2, 2, dtype=torch.uint8)
    called = ModuleBox(Pixels(), (row,), {}, names=("logits",), batched=True)
    assert called({"observation": np.full((2, 2, 2), 0.25, np.float32)})["logits"].tolist() == [[0.25] * 3] * 2


def test_a_state_that_a_module_keeps_to_itself_is_named() -> None:
    class Memory(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.hidden = nn.GRUCell(3, 3), torch.zeros(1, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.hidden = self.cell(x, self.hidden)
            return self.hidden

    class Policy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.memory = Memory()

        def forward(self, x: torch.Tensor) -> Any:
            return self.memory(x)

    policy = Policy()
    with pytest.raises(PolicyTypeError, match=r"keeps a state in memory\.hidden, which it sets when it is called"):
        ModuleBox(policy, (torch.ones(1, 3),), {}, names=("logits",), batched=True)
    assert policy.memory.hidden.tolist() == [[0, 0, 0]]


def test_a_module_that_is_called_with_a_state_is_refused() -> None:
    class Recurrent(nn.Module):
        def forward(self, x: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
            return x + state

    with pytest.raises(PolicyTypeError, match="state"):
        ModuleBox(Recurrent(), (torch.zeros(1, 3), torch.zeros(1, 3)), {}, names=("logits",), batched=True)
