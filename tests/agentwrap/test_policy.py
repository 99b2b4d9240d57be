from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from listener import eventually
from torch import nn

from agentwrap import AgentwrapWarning, InterpretWrapper, PolicyTypeError, UnknownLayerError
from agentwrap.distributions import Categorical
from agentwrap.policy import PolicyView, State, Watch, register_adapter, unregister_adapter, view_policy
from agentwrap.testing import check_policy
from agentwrap_protocol.messages import Hello, Step


class Brain:
    """A library's policy: no module, and what it computes is hidden in a method."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.net = nn.ModuleDict({"body": nn.Linear(4, 8), "head": nn.Linear(8, 2)})

    def decide(self, observation: Any) -> int:
        with torch.no_grad():
            return int(think(self.net, torch.as_tensor(observation)[None]).argmax())


def think(net: Any, observation: torch.Tensor) -> torch.Tensor:
    return net["head"](net["body"](observation * 2).relu())


class BrainAdapter:
    name = "brains"
    watch = {"logits": Watch("head"), "latent": Watch("head", "input")}
    act = staticmethod(think)

    def matches(self, policy: Any) -> bool:
        return isinstance(policy, Brain)

    def view(self, policy: Any, env: gym.Env[Any, Any]) -> PolicyView:
        return PolicyView(
            agent=policy.net,
            entry="body",
            watch=self.watch,
            act=self.act,
            distribution=Categorical(),
            predict=policy.decide,
        )


@pytest.fixture
def adapter() -> Iterator[type[BrainAdapter]]:
    class Own(BrainAdapter):
        pass

    register_adapter(Own)
    yield Own
    unregister_adapter(Own)


@pytest.fixture
def env() -> gym.Env[Any, Any]:
    return gym.make("CartPole-v1")


def test_a_policy_without_an_adapter_is_refused_in_words(env: Any) -> None:
    with pytest.raises(
        PolicyTypeError, match=r"type Brain .*\(tried: cleanrl, rllib, stable_baselines3, torchrl\).*agentwrap\.policy"
    ):
        view_policy(Brain(), env)


def test_an_adapter_of_ones_own_is_found_and_right(adapter: Any, env: Any) -> None:
    report = check_policy(Brain(), env)
    assert report.passed, str(report)
    assert report.lines == ("seen when the library acts: logits, latent", "exported: logits, latent")


OFFERED = """
from agentwrap.policy import PolicyView, register_adapter

@register_adapter
class Thinkers:
    name = "thinkers"
    def matches(self, policy):
        return type(policy).__name__ == "Brain"
    def view(self, policy, env):
        return PolicyView(agent=policy.net)
"""


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package that offers an adapter, and one that is broken."""
    (tmp_path / "thinkers.py").write_text(OFFERED)
    for name, value in (("thinkers", "thinkers:Thinkers"), ("broken", "no_such_package:Adapter")):
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[agentwrap.adapters]\n{name} = {value}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    unregister_adapter(sys.modules.pop("thinkers").Thinkers)


def test_an_adapter_that_an_installed_package_offers_is_found_beside_a_broken_one(offered: None, env: Any) -> None:
    brain = Brain()
    for _ in range(2):  # it registers itself too: that is not another one
        with pytest.warns(AgentwrapWarning, match=r"'broken' \(no_such_package:Adapter\) cannot be loaded"):
            assert view_policy(brain, env).agent is brain.net


def test_two_that_match_are_both_named(adapter: Any, env: Any) -> None:
    other = register_adapter(type("Other", (BrainAdapter,), {"name": "minds"}))
    try:
        with pytest.raises(PolicyTypeError, match="brains and minds"):
            view_policy(Brain(), env)
    finally:
        unregister_adapter(other)


def test_an_adapter_that_lacks_something_is_refused() -> None:
    with pytest.raises(TypeError, match="name, view"):
        register_adapter(type("Half", (), {"matches": lambda self, policy: True}))  # type: ignore[type-var]


def other_thoughts(net: Any, observation: torch.Tensor) -> torch.Tensor:
    return net["head"](-net["body"](observation * 2).relu())


def unscaled(net: Any, observation: torch.Tensor) -> torch.Tensor:
    return net["head"](net["body"](observation).relu())


@pytest.mark.parametrize(
    "part, value, said",
    [
        ("act", staticmethod(other_thoughts), r"FAILED to reproduce logits: seen was \[.*\], the exported module has"),
        ("act", staticmethod(unscaled), "FAILED to recognise the observation: body was called with another"),
        (
            "watch",
            {"logits": Watch("body")},
            r"FAILED to reproduce the action: the library took \d, the outputs mean \d",
        ),
        ("watch", {"logits": Watch("spare")}, "FAILED to see logits: it was not computed after body"),
    ],
)
def test_an_adapter_that_is_wrong_is_told_how(adapter: Any, env: Any, part: str, value: Any, said: str) -> None:
    setattr(adapter, part, value)
    brain = Brain()
    brain.net["spare"] = nn.Linear(1, 1)
    report = check_policy(brain, env)
    assert not report.passed
    assert re.search(said, str(report)), str(report)


@pytest.mark.parametrize("policy", [nn.Linear(4, 1), lambda x: x @ np.ones((4, 1))])
def test_observations_that_the_policy_does_not_take_are_told(policy: Any) -> None:
    report = check_policy(policy, gym.make("Pendulum-v1"))
    assert not report.passed and re.search(r"FAILED: .*(1x3 and 4x1|size 4 is different from 3)", str(report))


def test_an_adapter_that_fails_is_named(adapter: Any, env: Any) -> None:
    brain = Brain()
    del brain.net
    with pytest.raises(PolicyTypeError, match="the adapter brains failed with a policy of type Brain: AttributeError"):
        view_policy(brain, env)


@pytest.mark.parametrize("kind", ["function", "module"])
def test_outputs_that_change_shape_are_told(kind: str, env: Any, listen: Any, recwarn: Any) -> None:
    actions = [2]

    class Growing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.repeat(1, 2)[:, : actions[0]]

    growing = Growing()
    policy = growing if kind == "module" else lambda x: np.resize(x, (*x.shape[:-1], actions[0]))
    with InterpretWrapper(env, policy, quiet=True, endpoint="tcp://127.0.0.1:*", probe_ms_per_s=1000) as wrapped:
        listener = listen(wrapped, "hello", "step")
        observation, _ = wrapped.reset(seed=0)

        def act() -> None:
            growing(torch.as_tensor(observation)[None])
            wrapped.step(0)
            if kind == "module":
                wrapped.reset(seed=0)

        listener.wait(Step, lambda step: "output/logits" in step.arrays, between=act)
        actions[0] = 3
        says = r"logits had shape \(2,\)" if kind == "module" else r"\(3,\), where \(2,\) was expected"
        eventually(lambda: act() or any(re.search(says, str(each.message)) for each in recwarn))
        listener.wait(Hello, lambda hello: re.search(says, hello.policy.problem or ""), between=act)


def test_a_submodule_that_is_not_there_is_named(adapter: Any, env: Any) -> None:
    adapter.watch = {"logits": Watch("haed")}
    with pytest.raises(UnknownLayerError, match="haed.*head"):
        InterpretWrapper(env, Brain(), quiet=True)


def test_the_example_in_the_documentation_runs() -> None:
    import doctest

    from agentwrap import testing

    results = doctest.testmod(testing)
    assert results.attempted > 0 and results.failed == 0


class Remembering(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.actor = torch.nn.GRUCell(4, 6), torch.nn.Linear(6, 2)

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> Any:
        state = self.cell(x, state)
        return self.actor(state), state


@dataclass
class Decision:
    distribution: torch.distributions.Categorical
    value: torch.Tensor


class Decider(nn.Module):
    """Returns an object of a class of its own, with a distribution in it."""

    def __init__(self) -> None:
        super().__init__()
        self.actor, self.critic = nn.Linear(4, 2), nn.Linear(4, 1)

    def forward(self, observation: torch.Tensor) -> Decision:
        distribution = torch.distributions.Categorical(logits=self.actor(observation))
        return Decision(distribution, self.critic(observation))


def test_a_dataclass_with_a_distribution_is_seen_and_exported(env: Any) -> None:
    report = check_policy(Decider(), env)
    assert report.passed and "exported: logits, value" in report.lines, str(report)


def test_a_recurrent_module_is_checked_with_the_state_that_it_begins_with() -> None:
    report = check_policy(Remembering(), gym.make("CartPole-v1"), state=torch.zeros(1, 6))
    assert report.passed and "recurrent: state becomes output_1" in str(report)


def test_a_module_that_does_not_return_its_new_state_is_told() -> None:
    class Forgetful(Remembering):
        def forward(self, x: torch.Tensor, state: torch.Tensor) -> Any:
            return super().forward(x, state)[0]

    report = check_policy(Forgetful(), gym.make("CartPole-v1"), state=torch.zeros(1, 6))
    assert not report.passed and "FAILED to carry on state" in str(report)


def test_a_state_that_an_adapter_sees_in_the_wrong_place_is_told() -> None:
    class Wrong:
        name = "wrong"

        def matches(self, policy: Any) -> bool:
            return isinstance(policy, Remembering)

        def view(self, policy: Any, env: Any) -> PolicyView:
            entering = Watch("actor", "input")  # that is the new state, not the one that entered
            return PolicyView(
                agent=policy,
                watch={"logits": Watch("actor")},
                act=lambda agent, x, state: agent(x, state["h"]),
                state={"h": State(entering, Watch("cell"), (1, 6))},
            )

    register_adapter(Wrong)
    try:
        report = check_policy(Remembering(), gym.make("CartPole-v1"))
    finally:
        unregister_adapter(Wrong)
    assert "FAILED to see the state h" in str(report)


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (torch.nn.Linear, r"pass an object of the class, Linear\(…\)"),
        ("policy.zip", "load the file, and pass the module"),
        (torch.nn.Linear(4, 2).state_dict(), "load weights into a module"),
    ],
)
def test_what_people_pass_by_mistake_is_answered_with_what_to_pass(policy: Any, says: str) -> None:
    with pytest.raises(PolicyTypeError, match=says):
        view_policy(policy, gym.make("CartPole-v1"))
