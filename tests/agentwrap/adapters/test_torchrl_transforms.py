"""Transforms between environment and policy: the graph makes of raw observations what TorchRL's own rollout made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from listener import eventually
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.envs import (
    CatFrames,
    CatTensors,
    CenterCrop,
    Compose,
    Crop,
    DoubleToFloat,
    FlattenObservation,
    GrayScale,
    GymEnv,
    GymWrapper,
    ObservationNorm,
    RenameTransform,
    Resize,
    RewardSum,
    SerialEnv,
    StepCounter,
    TimeMaxPool,
    ToTensorImage,
    Transform,
    TransformedEnv,
    UnsqueezeTransform,
    VecNorm,
    VecNormV2,
)
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import MLP, ConvNet, ProbabilisticActor, ValueOperator
from torchrl.modules.tensordict_module import ActorValueOperator

from agentwrap import PolicyTypeError
from agentwrap.policy import Preprocessed, view_policy
from agentwrap.testing import check_policy
from agentwrap.torchrl import interpret
from agentwrap_protocol.messages import Hello, PolicyGraph, Step, Weights
from agentwrap_viewer.replica import Replica

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")


class Pictures(gym.Env[Any, Any]):
    """Noise, brighter from step to step, and a vector."""

    observation_space = gym.spaces.Dict(
        {"pixels": gym.spaces.Box(0, 255, (12, 12, 3), np.uint8), "far": gym.spaces.Box(-1, 1, (2,), np.float64)}
    )
    action_space = gym.spaces.Discrete(3)
    steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return self._observe(), 1.0, self.steps == 7, False, {}

    def _observe(self) -> dict[str, Any]:
        picture = self.np_random.integers(0, 20 * self.steps + 20, (12, 12, 3))
        return {"pixels": picture.astype(np.uint8), "far": self.np_random.random(2)}


def cartpole() -> Any:
    return GymEnv("CartPole-v1", categorical_action_encoding=True)


def actor(key: str, features: int, *, actions: int = 2) -> Any:
    """Actor and critic on a vector."""
    common = TensorDictModule(nn.Sequential(nn.Linear(features, 8), nn.Tanh()), [key], ["hidden"])
    return operator(common, actions)


def seeing(key: str, channels: int) -> Any:
    network = nn.Sequential(
        ConvNet(in_features=channels, num_cells=[4], kernel_sizes=[3], strides=[2]), MLP(out_features=8)
    )
    return operator(TensorDictModule(network, [key], ["hidden"]), 3)


def operator(common: Any, actions: int) -> Any:
    head = TensorDictModule(nn.Linear(8, actions), ["hidden"], ["logits"])
    chance = ProbabilisticActor(head, in_keys=["logits"], distribution_class=torch.distributions.Categorical)
    return ActorValueOperator(common, chance, ValueOperator(nn.Linear(8, 1), in_keys=["hidden"]))


class Both(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.eye, self.ear = nn.Linear(4 * 12 * 12, 8), nn.Linear(2, 8)

    def forward(self, pixels: torch.Tensor, far: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.eye(pixels.flatten(-3)) + self.ear(far))


class Brighter(Transform):
    """One's own, which computes each entry alone."""

    def _apply_transform(self, obs: torch.Tensor) -> torch.Tensor:
        return obs * 2 + 1

    def _reset(self, tensordict: Any, tensordict_reset: Any) -> Any:
        return self._call(tensordict_reset)


PIXELS = ["pixels"]
VECTOR = ["observation"]
NORM = ObservationNorm


def stacked_pixels(*after: Any) -> list[Any]:
    """As people have it for Atari."""
    return [ToTensorImage(), GrayScale(), CatFrames(N=4, dim=-3), RewardSum(), StepCounter(), *after]


CASES: dict[str, tuple[Callable[[], Any], Callable[[], list[Any]], Callable[[], Any]]] = {
    "ObservationNorm": (
        cartpole,
        lambda: [NORM(torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([0.5, 1.0, 2.0, 3.0]), in_keys=VECTOR)],
        lambda: actor("observation", 4),
    ),
    "ObservationNorm, the other way": (
        cartpole,
        lambda: [NORM(0.3, 2.0, in_keys=VECTOR, out_keys=["seen"], standard_normal=True), StepCounter()],
        lambda: actor("seen", 4),
    ),
    "VecNorm": (
        cartpole,
        lambda: [VecNorm(in_keys=["observation", "reward"], decay=0.9)],
        lambda: actor("observation", 4),
    ),
    "VecNormV2": (
        cartpole,
        lambda: [VecNormV2(in_keys=VECTOR, out_keys=["seen"], decay=0.9)],
        lambda: actor("seen", 4),
    ),
    "CatFrames": (
        cartpole,
        lambda: [CatFrames(N=4, dim=-1, in_keys=VECTOR)],
        lambda: actor("observation", 16),
    ),
    "CatFrames, then VecNorm": (
        cartpole,
        lambda: [CatFrames(N=3, dim=-1, in_keys=VECTOR, padding="constant"), VecNorm(in_keys=VECTOR, decay=0.9)],
        lambda: actor("observation", 12),
    ),
    "VecNorm, then unsqueezed CatFrames": (
        cartpole,
        lambda: [
            VecNorm(in_keys=VECTOR, decay=0.9),
            UnsqueezeTransform(-2, in_keys=VECTOR),
            CatFrames(N=3, dim=-2, in_keys=VECTOR),
            FlattenObservation(-2, -1, in_keys=VECTOR),
        ],
        lambda: actor("observation", 12),
    ),
    "pixels": (
        lambda: GymWrapper(Pictures(), categorical_action_encoding=True),
        lambda: stacked_pixels(NORM(0.2, 0.5, in_keys=PIXELS, standard_normal=True)),
        lambda: seeing("pixels", 4),
    ),
    "resized": (
        lambda: GymWrapper(Pictures(), categorical_action_encoding=True),
        lambda: [ToTensorImage(), Resize(8, 10, in_keys=PIXELS)],
        lambda: seeing("pixels", 3),
    ),
    "cut out of the middle": (
        lambda: GymWrapper(Pictures(), categorical_action_encoding=True),
        lambda: [ToTensorImage(), CenterCrop(8, 10, in_keys=PIXELS)],
        lambda: seeing("pixels", 3),
    ),
    "cut out": (
        lambda: GymWrapper(Pictures(), categorical_action_encoding=True),
        lambda: [ToTensorImage(), Crop(8, 10, top=1, left=2, in_keys=PIXELS)],
        lambda: seeing("pixels", 3),
    ),
    "pixels and a vector": (
        lambda: GymWrapper(Pictures(), categorical_action_encoding=True),
        lambda: stacked_pixels(DoubleToFloat(in_keys=["far"]), RenameTransform(["far"], ["near"])),
        lambda: operator(TensorDictModule(Both(), ["pixels", "near"], ["hidden"]), 3),
    ),
    "entries joined": (
        lambda: GymWrapper(Pictures(), categorical_action_encoding=True),
        lambda: [
            DoubleToFloat(in_keys=["far"]),
            RenameTransform(["far"], ["near"], create_copy=True),
            Brighter(in_keys=["near"], out_keys=["near"]),
            CatTensors(["far", "near"], out_key="all", del_keys=False),
        ],
        lambda: actor("all", 4, actions=3),
    ),
}


#: TorchRL resizes and crops with torchvision, which is no dependency of ours.
NEEDS = {name: "torchvision" for name in ("resized", "cut out of the middle", "cut out")}


@pytest.fixture(autouse=True)
def what_it_needs(request: pytest.FixtureRequest) -> None:
    if "name" in request.fixturenames and (needed := NEEDS.get(request.getfixturevalue("name"))):
        pytest.importorskip(needed)


@pytest.mark.parametrize("name", CASES)
def test_the_graph_makes_of_raw_observations_what_transforms_and_policy_make(name: str, listen: Any) -> None:
    torch.manual_seed(0)
    make, transforms, policy_of = CASES[name]
    env, policy = TransformedEnv(make(), Compose(*transforms())), policy_of()
    env.set_seed(0)
    with torch.no_grad():
        env.rollout(4, policy)  # makes what is lazy
    wrapper = interpret(env, policy, endpoint="tcp://127.0.0.1:*", fps=1e6, quiet=True, strict=True, weights_every=1e-9)
    listener = listen(wrapper, "step", "policy_graph", "weights")
    with torch.no_grad():
        rollout = env.rollout(20, policy, break_when_any_done=False)
    steps = eventually(lambda: found if len(found := listener.of(Step)) == 20 else None)
    assert [set(step.arrays) >= {"output/logits", "output/value"} for step in steps] == [True] * 20
    raw = {"observation", *(f"observation/{key}" for key in ("pixels", "far"))} & set(steps[0].arrays)
    assert {steps[0].arrays[key].shape for key in raw} in ({(4,)}, {(12, 12, 3), (2,)})
    assert np.allclose([step.arrays["output/value"] for step in steps], rollout["state_value"][:, 0], atol=1e-5)
    graph, versions = listener.wait(PolicyGraph), {each.policy_version: each for each in listener.of(Weights)}
    known = [place for place, step in enumerate(steps) if step.policy_version in versions]
    assert len(known) >= 1
    for place in known:
        step = steps[place]
        replica = Replica.from_messages(graph, versions[step.policy_version])
        computed = replica(replica.inputs_from_step(step.arrays))
        assert torch.allclose(computed["logits"][0], rollout["logits"][place], atol=1e-5), name
    assert ("input/state/frames" in steps[0].arrays) == ("CatFrames" in name or "pixels" in name)
    env.close()


@pytest.mark.parametrize("name", CASES)
def test_a_policy_with_its_transforms_passes_the_contract(name: str) -> None:
    make, transforms, policy_of = CASES[name]
    env, policy = TransformedEnv(make(), Compose(*transforms())), policy_of()
    with torch.no_grad():
        env.rollout(4, policy)
    inner = Pictures() if isinstance(env.base_env.unwrapped, Pictures) else gym.make("CartPole-v1")
    report = check_policy(Preprocessed(policy, env), inner)
    assert report.passed, str(report)


def test_several_environments_at_once_are_streamed(listen: Any) -> None:
    mode = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}
    several = gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync", vector_kwargs=mode)
    inside = GymWrapper(several, categorical_action_encoding=True)
    env = TransformedEnv(inside, CatFrames(N=3, dim=-1, in_keys=VECTOR))
    policy = actor("observation", 12)
    wrapper: Any = interpret(env, policy, endpoint="tcp://127.0.0.1:*", fps=1e6, quiet=True, strict=True)
    wrapper._stream.wanted = 1  # as if a viewer had chosen it
    listener = listen(wrapper, "step", "policy_graph", "weights")
    with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
        rollout = env.rollout(8, policy)
    steps = eventually(lambda: found if len(found := listener.of(Step)) == 8 else None)
    assert np.allclose([step.arrays["output/value"] for step in steps], rollout["state_value"][1, :, 0], atol=1e-5)
    replica = Replica.from_messages(listener.wait(PolicyGraph), listener.wait(Weights))
    for place, step in enumerate(steps):
        computed = replica(replica.inputs_from_step(step.arrays))["logits"][0]
        assert torch.allclose(computed, rollout["logits"][1, place], atol=1e-5)
        assert computed.argmax() == rollout["action"][1, place] == step.arrays["action"]
    env.close()


def test_environments_that_torchrl_makes_in_processes_of_their_own_are_streamed(listen: Any) -> None:
    env = GymEnv("CartPole-v1", num_envs=2, categorical_action_encoding=True)
    policy = actor("observation", 4)
    try:
        wrapper: Any = interpret(env, policy, endpoint="tcp://127.0.0.1:*", fps=1e6, quiet=True, strict=True)
        listener = listen(wrapper, "hello", "step")
        with torch.no_grad():
            rollout = env.rollout(30, policy, break_when_any_done=False)
        steps = eventually(lambda: found if len(found := listener.of(Step)) > 20 else None)
        for step in steps:
            row = (rollout["observation"][0] == torch.as_tensor(step.arrays["observation"])).all(-1).nonzero()[0, 0]
            assert np.allclose(step.arrays["output/logits"], rollout["logits"][0, row], atol=1e-5)
        assert listener.of(Hello)[-1].name == "CartPole-v1" and any(step.terminated for step in steps)
    finally:
        env.close()


@pytest.mark.parametrize(
    ("transforms", "policy", "says"),
    [
        (lambda: [TimeMaxPool(in_keys=VECTOR, T=2)], lambda: actor("observation", 4), "the transform TimeMaxPool"),
        (lambda: [NORM(in_keys=VECTOR)], lambda: actor("observation", 4), "call its init_stats first"),
        (lambda: [StepCounter()], lambda: actor("step_count", 1), "depends on step_count.*there are observation"),
        (
            lambda: [UnsqueezeTransform(0, in_keys=VECTOR, allow_positive_dim=True)],
            lambda: actor("observation", 4),
            "count from the end",
        ),
    ],
)
def test_what_cannot_be_followed_is_refused_in_words(
    transforms: Callable[[], list[Any]], policy: Callable[[], Any], says: str
) -> None:
    env = TransformedEnv(GymEnv("CartPole-v1"), Compose(*transforms()))
    with pytest.raises(PolicyTypeError, match=says):
        view_policy(Preprocessed(policy(), env), gym.make("CartPole-v1"))


def test_environments_without_gymnasium_inside_are_refused() -> None:
    with pytest.raises(PolicyTypeError, match="inside of this environment is a SerialEnv"):
        interpret(SerialEnv(2, lambda: GymEnv("CartPole-v1")), actor("observation", 4))
