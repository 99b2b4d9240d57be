from __future__ import annotations

import copy
import io
import pickle  # noqa: TID251  users pickle their policies
import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from agentwrap import UnknownLayerError
from agentwrap.capture import PATIENCE, PolicyCapture
from agentwrap.choosing import TRUST
from agentwrap.errors import AgentwrapWarning
from agentwrap.guard import Guard

DISCRETE = gym.spaces.Discrete(2)


def capture_of(policy: nn.Module, *, observation: Any = None, **options: Any) -> PolicyCapture:
    capture = PolicyCapture(policy, DISCRETE, guard=Guard(strict=True), **options)
    capture.expect(np.zeros(4) if observation is None else observation)
    capture.attach()
    return capture


def newest(capture: PolicyCapture, observation: Any = None) -> dict[str, Any]:
    """What a step message would hold of the policy now."""
    seen = {"observation": X[0].numpy() if observation is None else observation}
    call = capture.choose(capture.take(), seen)
    return {} if call is None else capture.arrays(call)


def hooks(policy: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in policy.modules())


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True))
        self.heads = nn.ModuleDict({"actor": nn.Linear(8, 2), "critic": nn.Linear(8, 1)})

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        latent = self.trunk(x)
        return {"value": self.heads["critic"](latent).squeeze(-1), "logits": self.heads["actor"](latent)}


X = torch.arange(4.0)[None]


@pytest.mark.parametrize(
    ("policy", "latent"),
    [
        (nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), lambda policy: policy[:2](X)),
        (nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2), nn.Tanh()), lambda policy: policy[:2](X)),
        (nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2), nn.Flatten()), lambda policy: policy[0](X)),
        (Heads(), lambda policy: policy.trunk(X)),
        (nn.Linear(4, 2), None),
    ],
)
def test_the_latent_is_what_the_last_layer_is_given(policy: nn.Module, latent: Any) -> None:
    capture = capture_of(policy)
    for _ in range(3):  # found in the first call, seen in all
        policy(X)
        arrays = newest(capture)
        if latent is None:
            assert "output/latent" not in arrays
        else:
            np.testing.assert_array_equal(arrays["output/latent"], latent(policy)[0].detach().numpy())
    capture.detach()
    capture.attach()
    policy(X)
    assert ("output/latent" in newest(capture)) is (latent is not None)
    capture.detach()
    assert hooks(policy) == 0


@pytest.mark.parametrize("inference", [False, True])
def test_layers_are_seen_before_the_next_works_in_place(inference: bool) -> None:
    policy = Heads()
    capture = capture_of(policy, layers=["trunk.0", "trunk"])
    for number in range(3):
        with torch.inference_mode(inference):
            policy(X.clone())
        arrays = newest(capture)
        assert ("output/layer/trunk.0" in arrays) is (number > 0 or inference), "held at first, then copied"
    np.testing.assert_array_equal(arrays["output/layer/trunk.0"], policy.trunk[0](X)[0].detach().numpy())
    np.testing.assert_array_equal(arrays["output/layer/trunk"], policy.trunk(X)[0].detach().numpy())


def test_unknown_layers_are_named_with_the_nearest() -> None:
    with pytest.raises(UnknownLayerError, match=r"no layer 'heads.actr'; it has heads.actor"):
        PolicyCapture(Heads(), DISCRETE, layers=["heads.actr"])
    with pytest.raises(UnknownLayerError, match="it has no submodules, so leave layers= out"):
        PolicyCapture(nn.Linear(4, 2), DISCRETE, layers=["x"])


def test_the_newest_call_wins_and_is_taken_once() -> None:
    policy = nn.Linear(4, 2)
    capture = capture_of(policy)
    policy(X)
    policy(2 * X)
    policy(torch.ones(5, 4))
    call = capture.take()[-1]
    assert torch.equal(call.outputs[0][0], policy(2 * X))
    capture.take()
    assert capture.take() is None


@pytest.mark.parametrize(
    ("arguments", "batched"),
    [
        (((X,), {}), True),
        (((X[0],), {}), False),
        (((), {"input": X}), True),
        (((X.double().numpy(),), {}), True),
    ],
)
def test_calls_of_all_forms(arguments: Any, batched: bool) -> None:
    class Policy(nn.Linear):
        def forward(self, input: Any) -> torch.Tensor:
            return super().forward(torch.as_tensor(input, dtype=torch.float32))

    policy = Policy(4, 2)
    capture = capture_of(policy)
    policy(*arguments[0], **arguments[1])
    call = capture.choose(capture.take(), {"observation": X[0].numpy()})
    assert call is not None
    assert call.batched is batched
    arrays = capture.arrays(call)
    assert {name: array.shape for name, array in arrays.items()} == {"output/logits": (2,)}


def test_calls_in_inference_mode() -> None:
    policy = Heads()
    capture = capture_of(policy)
    with torch.inference_mode():
        policy(X.clone())
    assert set(newest(capture)) == {*("output/value", "output/logits", "output/latent")}


def test_a_pass_that_raises_is_not_captured_and_leaves_no_search_behind() -> None:
    class Fragile(Heads):
        def forward(self, x: torch.Tensor) -> Any:
            result = super().forward(x)
            raise ValueError("mine")
            return result

    policy = Fragile()
    capture = capture_of(policy)
    for _ in range(2):
        with pytest.raises(ValueError, match="mine"):
            policy(X)
        assert capture.take() is None
    capture.detach()
    assert hooks(policy) == 0


def test_copies_and_pickles_of_the_policy_have_no_hooks_of_ours() -> None:
    policy = Heads()
    expected = policy(X)["logits"]
    capture = capture_of(policy, layers=["trunk"])
    policy(X)
    capture.take()
    copied = copy.deepcopy(policy)
    saved = io.BytesIO()
    torch.save(policy, saved)
    loaded = torch.load(io.BytesIO(saved.getvalue()), weights_only=False)
    for other in (copied, loaded):
        assert torch.equal(other(X)["logits"], expected)
        assert capture.take() is None, "a target network is not the policy"
    assert capture.attached


def test_a_pickle_is_read_where_agentwrap_is_not_installed() -> None:
    policy = nn.Sequential(nn.Linear(4, 2))
    capture_of(policy)
    code = (
        "import pickle, sys; sys.modules['agentwrap'] = None; import torch; "
        "print(tuple(pickle.load(sys.stdin.buffer)(torch.ones(1, 4)).shape))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(policy), capture_output=True, check=True)
    assert done.stdout == b"(1, 2)\n"


def test_users_hooks_stay_and_keep_their_say() -> None:
    policy = nn.Linear(4, 2)
    policy.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    policy.register_forward_hook(lambda module, args, result: result * 2)
    expected = policy(X)
    capture = capture_of(policy)
    last = policy.register_forward_hook(lambda module, args, result: result + 1)
    assert torch.equal(policy(X), expected + 1)
    capture.detach()
    last.remove()
    assert torch.equal(policy(X), expected)


def test_a_policy_compiled_in_place_is_seen_from_outside() -> None:
    policy = Heads()
    expected = policy(X)["logits"]
    policy.compile(backend="eager")
    compiled = policy._compiled_call_impl
    capture = capture_of(policy, layers=["trunk"])
    for closely in (True, False):
        capture.look_closely(closely)
        assert torch.equal(policy(X)["logits"], expected)
        assert set(newest(capture)) == {"output/value", "output/logits"}
    assert torch.equal(copy.deepcopy(policy)(X)["logits"], expected)
    assert capture.take() is None, "a copy is not the policy"
    capture.detach()
    assert policy._compiled_call_impl is compiled
    assert hooks(policy) == 0
    capture.attach()
    policy.compile(backend="eager")
    again = policy._compiled_call_impl
    capture.detach()
    assert policy._compiled_call_impl is again


def test_a_compiled_policy_is_seen_from_outside() -> None:
    inner = Heads()
    policy = torch.compile(inner, backend="eager")
    capture = capture_of(policy)
    policy(X)
    arrays = newest(capture)
    assert set(arrays) == {"output/value", "output/logits"}


def test_calls_that_never_fit_are_told_once() -> None:
    policy = nn.Linear(4, 2)
    capture = PolicyCapture(policy, DISCRETE)
    capture.expect(np.zeros(4))
    capture.attach()
    for _ in range(PATIENCE - 1):
        policy(torch.zeros(3, 4))
    with pytest.warns(AgentwrapWarning, match=r"never with one observation .*\(4,\).* had \(3, 4\)"):
        policy(torch.zeros(3, 4))
    policy(torch.zeros(3, 4))


def test_outputs_lose_their_batch_axis() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"value": x[:, :1], "log_std": torch.zeros(3), "map": torch.zeros(1, 5, 5), "count": x.sum()}

    policy = Odd()
    capture = capture_of(policy)
    policy(X)
    arrays = newest(capture)
    assert {name: array.shape for name, array in arrays.items()} == {
        "output/value": (),
        "output/log_std": (3,),
        "output/map": (5, 5),
        "output/count": (),
    }


def test_calls_that_are_only_glanced_at_have_outputs_and_no_more() -> None:
    policy = Heads()
    capture = capture_of(policy, layers=["trunk"])
    policy(X)
    assert {"output/latent", "output/layer/trunk"} < set(newest(capture))
    capture.look_closely(False)
    assert not capture.closely
    assert hooks(policy) == 1
    with torch.no_grad():
        result = policy(2 * X)
    arrays = newest(capture, 2 * X[0].numpy())
    assert set(arrays) == {"output/value", "output/logits"}
    np.testing.assert_array_equal(arrays["output/logits"], result["logits"][0].numpy())
    result = policy(X)
    with torch.no_grad():
        result["logits"].fill_(0)
    assert "output/logits" not in newest(capture), "changed since"
    policy(X)
    policy(torch.ones(5, 4))
    assert newest(capture) == {}, "learning"
    with torch.inference_mode():
        policy(X.clone())
    assert newest(capture) == {}, "nothing tells whether these were changed"
    capture.look_closely(True)
    policy(X)
    assert {"output/latent", "output/layer/trunk"} < set(newest(capture))


def test_the_call_with_the_environments_observation_is_told_from_others() -> None:
    policy = nn.Linear(4, 2)
    capture = capture_of(policy)
    mine, other = torch.rand(1, 4), torch.rand(1, 4)
    expected = policy(mine)[0].detach().numpy()
    policy(other)
    np.testing.assert_array_equal(newest(capture, mine[0].numpy())["output/logits"], expected)
    policy(other)
    assert newest(capture, mine[0].numpy()) == {}, "so far all calls were made with the observation as it was"


def test_prepared_observations_are_the_environments_unless_there_are_several() -> None:
    policy = nn.Linear(4, 2)
    capture = PolicyCapture(policy, DISCRETE)
    capture.expect(np.zeros(4))
    capture.attach()
    policy(X / 10)
    policy(X / 10)
    np.testing.assert_array_equal(newest(capture)["input/observation"], X[0].numpy() / np.float32(10))
    policy(X / 10)
    policy(X / 5)
    with pytest.warns(AgentwrapWarning, match="several observations between two steps, and none is what the envir"):
        assert newest(capture) == {}
    policy(X / 10)
    assert "output/logits" in newest(capture)


def test_a_scaling_that_begins_as_none_is_taken_for_one_after_a_while() -> None:
    policy = nn.Linear(4, 2)
    capture = capture_of(policy)
    for _ in range(100):
        policy(X)
        assert newest(capture)
    missing = 0
    for _ in range(100):
        policy(X / 10)
        missing += not newest(capture)
    assert missing == TRUST
