from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import FrameStackObservation
from listener import eventually
from sb3_contrib import QRDQN, TRPO, MaskablePPO, RecurrentPPO
from sb3_contrib.common.envs import InvalidActionEnvDiscrete, InvalidActionEnvMultiDiscrete
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from sb3_models import Mixed, Pictures, make
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from agentwrap import InterpretWrapper, PolicyTypeError, watching
from agentwrap.policy import PolicyView, view_policy
from agentwrap.testing import check_policy
from agentwrap_export.export import export_policy
from agentwrap_export.weights import WeightsWatch
from agentwrap_protocol.messages import PolicyGraph, Step, Weights
from agentwrap_viewer.replica import Replica

SMALL = {"buffer_size": 100}

MODELS: dict[str, Callable[[], tuple[Any, gym.Env[Any, Any]]]] = {
    "DQN": lambda: with_env(DQN, gym.make("CartPole-v1"), **SMALL),
    "DQN, pictures": lambda: with_env(DQN, Pictures(), "CnnPolicy", **SMALL),
    "QRDQN": lambda: with_env(QRDQN, gym.make("CartPole-v1"), policy_kwargs={"n_quantiles": 5}, **SMALL),
    "PPO": lambda: with_env(PPO, gym.make("CartPole-v1")),
    "PPO, continuous": lambda: with_env(PPO, gym.make("Pendulum-v1")),
    "PPO, numbered states": lambda: with_env(PPO, gym.make("FrozenLake-v1")),
    "PPO, two extractors": lambda: with_env(
        PPO, gym.make("CartPole-v1"), policy_kwargs={"share_features_extractor": False}
    ),
    "A2C, pictures": lambda: with_env(A2C, Pictures(), "CnnPolicy"),
    "A2C, dict": lambda: with_env(A2C, Mixed(), "MultiInputPolicy"),
    "MaskablePPO": lambda: with_env(MaskablePPO, gym.make("CartPole-v1")),
    "TRPO": lambda: with_env(TRPO, gym.make("CartPole-v1")),
    "SAC": lambda: with_env(SAC, gym.make("Pendulum-v1"), **SMALL),
    "TD3": lambda: with_env(TD3, gym.make("Pendulum-v1"), **SMALL),
    "DDPG": lambda: with_env(DDPG, gym.make("Pendulum-v1"), **SMALL),
}


def with_env(algorithm: Any, env: gym.Env[Any, Any], policy: str = "MlpPolicy", **options: Any) -> Any:
    return make(algorithm, env, policy, **options), env


@pytest.mark.parametrize("name", MODELS)
def test_what_is_seen_what_is_exported_and_what_the_library_does_agree(name: str) -> None:
    model, env = MODELS[name]()
    report = check_policy(model, env)
    assert report.passed, str(report)
    assert len(report.lines) <= 3, str(report)


@pytest.mark.parametrize(("name", "least"), [("SAC", True), ("TD3", True), ("DDPG", False)])
def test_critics_rate_the_action_that_the_actor_takes(name: str, least: bool) -> None:
    model, env = MODELS[name]()
    observation = torch.as_tensor(np.stack([env.observation_space.sample() for _ in range(3)]))
    view = view_policy(model, env)
    assert isinstance(view, PolicyView)
    module = view.module
    with torch.no_grad():
        action = model.policy._predict(observation, deterministic=True)
        estimates = torch.cat(model.critic(observation, action), dim=1)
        found = module(observation)["state_action_value"]
    assert estimates.shape[1] == (2 if least else 1)
    torch.testing.assert_close(found, estimates.min(dim=1).values)


def test_the_critics_weights_travel_with_the_actors() -> None:
    model, env = MODELS["SAC"]()
    view = view_policy(model, env)
    assert isinstance(view, PolicyView)
    observation = torch.as_tensor(env.observation_space.sample())[None]
    exported = export_policy(
        view.module, (observation,), {}, output_names=tuple(view.module(observation)), batched=True
    )
    replica = Replica(exported.graph, exported.constants, WeightsWatch(exported.parameters).snapshot())
    with torch.no_grad():
        for weight in model.critic.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    replica.load(WeightsWatch(exported.parameters).snapshot())
    wanted = view.module(observation)["state_action_value"].detach()
    torch.testing.assert_close(replica({"observation": observation})["state_action_value"], wanted)


def test_a_policy_alone_is_watched_too() -> None:
    model, env = MODELS["PPO"]()
    assert check_policy(model.policy, env).passed


@pytest.mark.parametrize("name", ["DQN, pictures", "PPO, continuous", "SAC"])
def test_a_users_loop_streams_what_predict_computes(name: str, wrap: Any, listen: Any) -> None:
    model, env = MODELS[name]()
    distribution = view_policy(model, env).distribution
    wrapped = wrap(model, env, fps=1e6)
    listener = listen(wrapped, "step", "policy_graph", "weights")
    observation, _ = wrapped.reset(seed=0)
    actions = []
    for _ in range(5):
        action, _ = model.predict(observation, deterministic=True)
        actions.append(action)
        observation, *_ = wrapped.step(action)
    steps = eventually(lambda: listener.of(Step) if len(listener.of(Step)) == 5 else None)
    replica = Replica.from_messages(listener.wait(PolicyGraph), listener.wait(Weights))
    for step, action in zip(steps, actions, strict=True):
        outputs = outputs_of(step)
        assert np.allclose(distribution.mode(outputs), action, atol=1e-4)
        assert_same(replica, step, outputs)


@pytest.mark.parametrize("seconds", [0.0, math.inf], ids=["steps are slow", "steps are fast"])
def test_hooks_are_there_where_a_step_may_be_sent_or_they_cost_nothing(
    seconds: float, wrap: Any, listen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "SLOW", seconds)
    model, env = MODELS["DQN"]()
    wrapped = wrap(model, env, fps=20)
    listener = listen(wrapped, "step")
    observation, _ = wrapped.reset(seed=0)
    hooked, ended = [], 0
    while ended < 20 or len(listener.of(Step)) < 10:
        action, _ = model.predict(observation)
        observation, _, *over, _ = wrapped.step(action)
        modules = list(model.policy.modules())
        hooked.append(sum(len(each._forward_hooks) + len(each._forward_pre_hooks) for each in modules))
        if any(over):
            ended += 1
            observation, _ = wrapped.reset()
    assert all("output/q_values" in step.arrays for step in listener.of(Step))
    if seconds:
        assert hooked.count(0) > len(hooked) / 2 and max(hooked) > 0
    else:
        assert min(hooked) == max(hooked) > 0
        assert any(step.terminated or step.truncated for step in listener.of(Step))


@pytest.mark.parametrize("env", [InvalidActionEnvDiscrete, InvalidActionEnvMultiDiscrete])
def test_masks_are_those_that_predict_was_given(env: Any, wrap: Any, listen: Any) -> None:
    bare = env()
    model = make(MaskablePPO, bare)
    wrapped = wrap(model, bare, fps=1e6)
    listener = listen(wrapped, "step")
    observation, _ = wrapped.reset(seed=0)
    given: list[Any] = []
    for index in range(6):
        mask = np.array(bare.action_masks()) if index != 2 else None
        action, _ = model.predict(observation, action_masks=mask)
        given.append(mask)
        observation, *_ = wrapped.step(action)
    steps = eventually(lambda: listener.of(Step) if len(listener.of(Step)) == 6 else None)
    for step, mask in zip(steps, given, strict=True):
        assert ("action_mask" in step.arrays) == (mask is not None), step.step
        if mask is not None:
            assert step.arrays["action_mask"].dtype == bool
            assert np.array_equal(step.arrays["action_mask"], np.ravel(mask))
            assert step.arrays["action_mask"].shape == step.arrays["output/logits"].shape


def test_a_mask_of_another_act_is_none_of_this_one(wrap: Any, listen: Any) -> None:
    model, env = MODELS["MaskablePPO"]()
    wrapped = wrap(model, env, fps=1e6)
    listener = listen(wrapped, "step")
    mask = np.array([True, False])
    for asked_again in (False, True):
        observation, _ = wrapped.reset(seed=0)
        action, _ = model.predict(observation, action_masks=mask)
        if asked_again:
            model.predict(observation + 1, action_masks=mask)
        wrapped.step(action)
        mask[:] = [False, True]  # the array is the user's to fill anew
    first, second = eventually(lambda: listener.of(Step) if len(listener.of(Step)) == 2 else None)
    assert first.arrays["action_mask"].tolist() == [True, False]
    assert "action_mask" not in second.arrays and "output/logits" in second.arrays


def test_masks_are_seen_in_learning_and_nobody_asks_the_environment_for_them(wrap: Any, listen: Any) -> None:
    asked = []

    class Counting(InvalidActionEnvDiscrete):
        def action_masks(self) -> Any:
            asked.append(super().action_masks())
            return asked[-1]

    stack = DummyVecEnv([lambda: Counting(dim=5, n_invalid_actions=2)])
    model = make(MaskablePPO, stack, n_steps=8, batch_size=4, n_epochs=1)
    wrapped = wrap(model, stack.envs[0], fps=1e6)
    stack.envs[0] = wrapped
    listener = listen(wrapped, "step")
    model.learn(16)
    listener.wait(Step, lambda step: step.step == 15)  # others may have given way to it
    assert len(asked) == 16, "once for each step, by the library alone"
    for step in listener.of(Step):
        assert list(step.arrays["action_mask"]) == list(asked[step.step])


def test_learning_streams_only_what_was_acted_on(wrap: Any, listen: Any) -> None:
    """The wrapper within the model's own environments, whose normalisation changes: learning calls the same modules."""
    stack = VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")]))
    model = make(PPO, stack, n_steps=8, batch_size=2, n_epochs=1)
    wrapped = wrap(model, gym.make("CartPole-v1"), fps=1e6, weights_every=1e-6)
    stack.venv.envs[0] = wrapped
    listener = listen(wrapped, "step", "policy_graph", "weights")
    model.learn(20, callback=lambda *_: eventually(lambda: not wrapped._stream.publisher._outbox))  # nothing gives way
    listener.wait(Step, lambda step: step.step == 23)
    graph, weights = listener.wait(PolicyGraph), {each.policy_version: each for each in listener.of(Weights)}
    assert len(weights) > 10  # the statistics change with nearly every step
    for step in listener.of(Step):
        outputs = outputs_of(step)
        assert outputs["logits"].shape == (2,) and outputs["value"].shape == ()
        if not step.policy_stale and step.policy_version in weights:  # newer ones may have taken their place
            assert_same(Replica.from_messages(graph, weights[step.policy_version]), step, outputs)


def outputs_of(step: Step) -> dict[str, Any]:
    return {name.removeprefix("output/"): a for name, a in step.arrays.items() if name.startswith("output/")}


def assert_same(replica: Replica, step: Step, outputs: dict[str, Any]) -> None:
    computed = replica(replica.inputs_from_step(step.arrays))
    for name, array in outputs.items():
        assert np.allclose(computed[name][0].numpy().reshape(array.shape), array, atol=1e-4), name


def test_running_statistics_are_part_of_what_is_exported() -> None:
    stack = VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")]))
    model = make(PPO, stack)
    stack.obs_rms.mean, stack.obs_rms.var = np.array([1.0, -1, 0, 2]), np.array([2.0, 3, 4, 5])
    assert check_policy(model, gym.make("CartPole-v1")).passed
    view = view_policy(model, gym.make("CartPole-v1"))
    before = view.module(torch.zeros(1, 4))["logits"]
    stack.obs_rms.mean = np.array([2.0, 2, 2, 2])
    assert view.refresh is not None
    view.refresh()
    assert not torch.allclose(view.module(torch.zeros(1, 4))["logits"], before)


def test_the_model_is_left_alone() -> None:
    model, env = MODELS["PPO"]()
    before = {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
    mode, random = model.policy.training, torch.get_rng_state()
    with InterpretWrapper(env, model, quiet=True, strict=True) as wrapped:
        wrapped.reset()
    assert model.policy.training is mode and torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.policy.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.policy.modules())


def test_an_environment_of_other_observations_is_refused() -> None:
    model, env = MODELS["DQN, pictures"]()
    with pytest.raises(PolicyTypeError, match="stacks frames"):
        view_policy(model, FrameStackObservation(env, 4))
    with pytest.raises(PolicyTypeError, match="observations are"):
        view_policy(model, Mixed())


RECURRENT: dict[str, Callable[[], tuple[Any, gym.Env[Any, Any]]]] = {
    "two memories": lambda: recurrent(gym.make("CartPole-v1")),
    "a shared memory": lambda: recurrent(
        gym.make("CartPole-v1"), shared_lstm=True, enable_critic_lstm=False, n_lstm_layers=2
    ),
    "a critic without memory": lambda: recurrent(gym.make("Pendulum-v1"), enable_critic_lstm=False),
    "pictures": lambda: recurrent(Pictures(), "CnnLstmPolicy"),
    "two extractors": lambda: recurrent(gym.make("CartPole-v1"), share_features_extractor=False),
}


def recurrent(env: gym.Env[Any, Any], policy: str = "MlpLstmPolicy", **options: Any) -> tuple[Any, gym.Env[Any, Any]]:
    return with_env(RecurrentPPO, env, policy, n_steps=16, policy_kwargs={"lstm_hidden_size": 8, **options})


@pytest.mark.parametrize("name", RECURRENT)
def test_the_state_of_a_recurrent_model_is_seen_and_carried_on(name: str) -> None:
    model, env = RECURRENT[name]()
    report = check_policy(model, env, steps=4)
    assert report.passed and "recurrent: state/actor/hidden becomes state/actor/hidden" in str(report), str(report)


@pytest.mark.parametrize("name", RECURRENT)
def test_a_recurrent_module_computes_what_the_librarys_forward_does(name: str) -> None:
    model, env = RECURRENT[name]()
    policy, view = model.policy, view_policy(model, env)
    state = {key: torch.randn_like(tensor) for key, tensor in view.module.initial().items()}
    pairs = {
        key: (state[f"{key}/hidden"], state[f"{key}/cell"]) for key in ("actor", "critic") if f"{key}/cell" in state
    }
    given = torch.as_tensor(env.reset(seed=0)[0])[None]
    with torch.no_grad():
        outputs = view.module(given, state)
        prepared = given if view.before is None else view.before(given)
        states = RNNStates(pairs["actor"], pairs.get("critic", pairs["actor"]))
        _, value, _, after = policy.forward(prepared, states, torch.zeros(1), deterministic=True)
    assert torch.allclose(outputs["value"], value, atol=1e-6)
    assert torch.allclose(outputs["state"]["actor/cell"], after.pi[1], atol=1e-6)
    if "critic" in pairs:
        assert torch.allclose(outputs["state"]["critic/hidden"], after.vf[0], atol=1e-6)


def test_outputs_are_named_by_the_adapter() -> None:
    model, env = MODELS["PPO"]()
    with pytest.raises(ValueError, match="logits, value, latent"):
        InterpretWrapper(env, model, outputs="pi", quiet=True)
