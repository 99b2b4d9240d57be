"""What the frames before weigh: found by an engine from the steps that it has seen."""

from __future__ import annotations

import dataclasses
from typing import Any

import fakes
import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from agentwrap_export.export import export_policy
from agentwrap_protocol.messages import Explain, Hello, PolicyGraph, PolicyInfo, SaliencyMap, Step, Weights
from agentwrap_viewer.explainer.engine import Engine
from agentwrap_viewer.explainer.job import Moment
from agentwrap_viewer.explainer.past import FRAMES, MAX_STEPS, Past, consecutive

STREAM = "a" * 32


class Remembers(nn.Module):
    """Chooses by the vector of two steps ago; its value is that of now."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> Any:
        return state[:, 3:] * self.scale, x.sum(1), torch.cat([x, state[:, :3]], 1)


class Agent:
    """An engine, and a recurrent policy whose steps it is sent."""

    def __init__(self) -> None:
        self.module, self.engine = Remembers(), Engine("e" * 32, lambda: 0.0)
        given = (torch.rand(1, 3), torch.rand(1, 6))
        policy = export_policy(self.module, given, {}, output_names=("logits", "value", "after"), batched=True)
        weights = {name: tensor.detach().numpy() for name, tensor in policy.parameters.items()}
        self.state, self.number, self.sent = torch.zeros(1, 6), 0, 0
        self._put(fakes.hello(policy=PolicyInfo(type="Remembers", graph="exported")), Hello)
        self._put(PolicyGraph(stream=STREAM, graph=policy.graph), PolicyGraph)
        self._put(Weights(stream=STREAM, policy_version=1, step=0, arrays=weights), Weights)

    def _put(self, message: Any, kind: Any, seq: int = 0) -> None:
        self.engine.receive(msgspec.structs.replace(message, stream=STREAM, seq=seq))

    def step(self, *, sent: bool = True, episode: int = 0, episode_step: int | None = None) -> Step:
        x = torch.from_numpy(np.random.default_rng(self.number).normal(size=(1, 3)).astype(np.float32))
        with torch.no_grad():
            logits, value, after = self.module(x, self.state)
        arrays = {
            "observation": x[0].numpy(),
            "input/state": self.state.numpy(),
            "output/logits": logits[0].numpy(),
            "output/value": value.reshape(()).numpy(),
        }
        number, self.state, self.number = self.number, after, self.number + 1
        place = {"episode": episode, "episode_step": number if episode_step is None else episode_step}
        step = fakes.step(number, arrays=arrays, policy_version=1, **place)
        if sent:
            self._put(step, Step, self.sent)
            self.sent += 1
        return step

    def look(self) -> SaliencyMap:
        """Work until nothing is left; return the last map."""
        found = []
        while self.engine.busy:
            found.append(self.engine.work())
        return [each for each in found if isinstance(each, SaliencyMap)][-1]


@pytest.fixture
def agent() -> Agent:
    return Agent()


def test_the_frame_that_is_remembered_has_all_the_weight(agent: Agent) -> None:
    for _ in range(12):
        agent.step()
    found = agent.look()
    assert (found.past, found.past_problem, found.refined) == ("steps", None, 1.0)
    actor, critic = found.arrays["past/actor"], found.arrays["past/critic"]
    assert actor.shape == (FRAMES,) and np.flatnonzero(actor).tolist() == [FRAMES - 3]
    assert np.flatnonzero(critic > 1e-9).tolist() == [FRAMES - 1]


def test_frames_of_the_episode_before_are_not_looked_at(agent: Agent) -> None:
    for _ in range(5):
        agent.step()
    agent.state = torch.zeros(1, 6)
    for count in range(3):
        agent.step(episode=1, episode_step=count)
    found = agent.look()
    assert found.past_problem is None and found.arrays["past/actor"].shape == (3,)


def test_steps_that_were_not_sent_are_told(agent: Agent) -> None:
    for _ in range(4):
        agent.step()
    for _ in range(2):
        agent.step(sent=False)
    for _ in range(3):
        agent.step()
    found = agent.look()
    assert found.past_problem == "2 steps before step 6 were not sent"
    assert found.arrays["past/actor"].shape == (3,)
    agent.step(sent=False)
    agent.step()
    found = agent.look()
    assert found.past_problem == "the step before step 10 was not sent" and "past/actor" not in found.arrays


def test_a_state_that_came_from_elsewhere_is_told(agent: Agent) -> None:
    for _ in range(4):
        agent.step()
    agent.state = agent.state + 1
    agent.step()
    problem = agent.look().past_problem
    assert problem is not None and "another than the steps before lead to" in problem


def test_an_earlier_step_that_is_asked_for_has_its_own_past(agent: Agent) -> None:
    steps = [agent.step() for _ in range(12)]
    agent.look()
    asked = steps[5]
    agent.engine.explain(Explain(stream="b" * 32, source=STREAM, step=5, arrays=asked.arrays))
    found = agent.look()
    assert found.step == 5 and found.arrays["past/actor"].shape == (6,)
    assert np.flatnonzero(found.arrays["past/actor"]).tolist() == [3]


def test_a_single_frame_is_no_stack(eye: Any) -> None:
    engine = Engine("e" * 32, lambda: 0.0)
    for message in (
        fakes.hello(policy=PolicyInfo(type="Eye", graph="exported")),
        eye.graph(),
        eye.weights(),
        eye.step(0),
    ):
        engine.receive(msgspec.structs.replace(message, stream=STREAM, seq=0))
    maps = []
    while engine.busy:
        maps.append(engine.work())
    assert all(found.past is None for found in maps if isinstance(found, SaliencyMap))


def moment(number: int, episode: int = 0, episode_step: int | None = None) -> Moment:
    return Moment(STREAM, number, episode, 1, False, 0.0, {"observation": np.zeros(3, np.float32)}, episode_step)


def test_what_is_kept_is_bounded() -> None:
    past = Past()
    for number in range(MAX_STEPS + 10):
        past.remember(moment(number))
    assert len(past.before(moment(10**6))) == MAX_STEPS
    large = dataclasses.replace(moment(10**5), arrays={"observation": np.zeros(70 * 2**20, np.uint8)})
    past.remember(large)
    assert past.before(moment(10**6)) == [large]


def test_an_episode_of_which_the_beginning_is_unknown_is_told() -> None:
    steps, problem = consecutive(moment(9), [moment(8, episode_step=3)])
    assert len(steps) == 2 and problem == "what was before step 8 is not known"
    assert consecutive(moment(9), [moment(8, episode_step=0)])[1] is None
