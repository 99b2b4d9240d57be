from __future__ import annotations

import itertools
import json
import select
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import fakes
import msgspec
import numpy as np
import pytest
import torch
import zmq
from torch import nn

from agentwrap.heartbeat import Progress
from agentwrap.publisher import Publisher
from agentwrap_export.export import ExportedPolicy, export_policy
from agentwrap_protocol import decode, encode
from agentwrap_protocol.messages import (
    Configure,
    Explain,
    Explainer,
    Hello,
    Message,
    PolicyGraph,
    PolicyInfo,
    Reply,
    SaliencyMap,
    Step,
    Weights,
)

PATIENCE = 60  #: Seconds after which a test gives up; nothing is expected to take that long.


class Eye(nn.Module):
    """Sees uint8 pictures (1, 40, 40): the actor looks at the upper left, the critic at the lower right."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.actor, self.critic = nn.Conv2d(1, 4, 4, 4), nn.Linear(4, 3), nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.tanh(self.conv(x.float() / 255))
        return self.actor(x[:, :, 1:4, 1:4].mean((2, 3))), self.critic(x[:, :, 6:9, 6:9].mean((2, 3)))


class Touch(nn.Module):
    """Feels vectors (4,): feature 3 does not matter, feature 0 the most."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([4.0, 2.0, 1.0, 0.0]))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = x * self.scale
        return {"logits": torch.stack([x.sum(1), -x.sum(1)], 1), "value": x.sum(1)}


class EyeAndTouch(nn.Module):
    """Sees a picture, and feels a vector (2,) beside it, which both outputs depend on too."""

    def __init__(self) -> None:
        super().__init__()
        self.eye, self.touch = Eye(), nn.Linear(2, 1)

    def forward(self, x: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        logits, value = self.eye(x["eye"])
        felt = self.touch(x["touch"])
        return logits + torch.cat([felt, -felt, felt], 1), value + felt


@dataclass
class Trained:
    """A policy with what it is exported to, and observations for it."""

    module: nn.Module
    exported: ExportedPolicy
    observe: Callable[[int], Any]

    def graph(self) -> PolicyGraph:
        constants = {f"constant/{name}": array for name, array in self.exported.constants.items()}
        return PolicyGraph(stream="0" * 32, graph=self.exported.graph, arrays=constants)

    def weights(self, version: int = 1, factor: float = 1.0) -> Weights:
        arrays = {name: (factor * tensor.detach()).numpy() for name, tensor in self.exported.parameters.items()}
        return Weights(stream="0" * 32, policy_version=version, step=0, arrays=arrays)

    def step(self, number: int, **fields: Any) -> Step:
        observation = self.observe(number)
        with torch.no_grad():
            result = self.module(_row(observation))
        logits, value = result if isinstance(result, tuple) else (result["logits"], result["value"])
        entries = observation if isinstance(observation, dict) else {}
        arrays = {
            **({f"observation/{name}": array for name, array in entries.items()} or {"observation": observation}),
            "output/logits": logits[0].numpy(),
            "output/value": value.reshape(()).numpy(),
        }
        return fakes.step(number, arrays=arrays, **{"policy_version": 1, **fields})


def _row(observation: Any) -> Any:
    if isinstance(observation, dict):
        return {name: torch.from_numpy(array)[None] for name, array in observation.items()}
    return torch.from_numpy(observation)[None]


def train(module: nn.Module, names: tuple[str, ...], observe: Callable[[int], Any]) -> Trained:
    torch.manual_seed(0)
    for parameter in module.parameters() if isinstance(module, Eye) else ():
        nn.init.normal_(parameter, 0, 0.5)
    exported = export_policy(module, (_row(observe(0)),), {}, output_names=names, batched=True)
    return Trained(module.eval(), exported, observe)


@pytest.fixture(scope="session")
def eye() -> Trained:
    return train(
        Eye(), ("logits", "value"), lambda n: np.random.default_rng(n).integers(0, 256, (1, 40, 40)).astype(np.uint8)
    )


@pytest.fixture(scope="session")
def touch() -> Trained:
    return train(Touch(), ("logits", "value"), lambda n: np.random.default_rng(n).normal(size=4).astype(np.float32))


@pytest.fixture(scope="session")
def eye_and_touch() -> Trained:
    def observe(number: int) -> dict[str, np.ndarray[Any, Any]]:
        random = np.random.default_rng(number)
        picture = random.integers(0, 256, (1, 40, 40)).astype(np.uint8)
        return {"eye": picture, "touch": random.normal(size=2).astype(np.float32)}

    return train(EyeAndTouch(), ("logits", "value"), observe)


class Agent:
    """A real publisher that streams what a test tells it to."""

    def __init__(self, endpoint: str | None = None, **policy: Any) -> None:
        self.stream = uuid.uuid4().hex
        self.policy = PolicyInfo(**{"type": "Eye", "graph": "pending", **policy})
        self.steps = 0
        self.publisher = Publisher(self.stream, endpoint, hello=self.hello, progress=self.progress)

    def hello(self, control: str) -> Hello:
        return fakes.hello(self.stream, policy=self.policy, control=control)

    def progress(self) -> Progress:
        return Progress(self.steps, 0)

    def export(self, trained: Trained) -> Agent:
        self.policy = PolicyInfo(type="Eye", graph="exported")
        self.publisher.publish_hello()
        self.publish(trained.graph())
        self.publish(trained.weights())
        return self

    def publish(self, message: Message) -> Message:
        message = msgspec.structs.replace(message, stream=self.stream)
        self.publisher.publish(message)
        return message

    def step(self, trained: Trained, **fields: Any) -> Step:
        self.steps += 1
        return self.publish(trained.step(self.steps, **fields))

    def close(self) -> None:
        self.publisher.close()


@pytest.fixture
def agents() -> Iterator[Callable[..., Agent]]:
    """Makes agents and ends them after the test."""
    made: list[Agent] = []

    def make(*args: Any, **fields: Any) -> Agent:
        made.append(Agent(*args, **fields))
        return made[-1]

    yield make
    for agent in made:
        agent.close()


class ExplainerProcess:
    """A real explainer: its process, and sockets that receive what it publishes and send it requests."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "agentwrap_viewer.explainer", "--threads", "1", *arguments]
        self._context = zmq.Context()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def connect(self) -> ExplainerProcess:
        """Wait until it is ready and connect to it."""
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], PATIENCE)[0], "the explainer did not become ready"
        self.ready = json.loads(self.process.stdout.readline())
        self._sub, self.control = self._context.socket(zmq.SUB), self._context.socket(zmq.DEALER)
        self._sub.connect(self.ready["publish"])
        self.control.connect(self.ready["control"])
        for kind in ("saliency_map", "bye", "explainer"):
            self._sub.subscribe(kind)
        self._requests = itertools.count()
        self.received: list[Message] = []
        self.wait_for(lambda message: isinstance(message, Explainer))
        return self

    def wait_for(self, wanted: Callable[[Message], bool], what: str = "message") -> Message:
        """Return the next message that is wanted; what came before is in ``received``."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self._sub.poll(100):
                self.received.append(decode(self._sub.recv_multipart()))
                if wanted(self.received[-1]):
                    return self.received[-1]
        raise AssertionError(f"no such {what}; the last were {[message.kind for message in self.received[-9:]]}")

    def wait_for_map(self, step: int, *, refined: float = 0.0) -> SaliencyMap:
        found = self.wait_for(
            lambda m: isinstance(m, SaliencyMap) and m.step == step and m.refined >= refined, f"map of step {step}"
        )
        assert isinstance(found, SaliencyMap)
        return found

    def wait_for_state(self, state: str, problem: str = "") -> Explainer:
        found = self.wait_for(
            lambda m: isinstance(m, Explainer) and m.state == state and problem in (m.problem or ""), f"state {state}"
        )
        assert isinstance(found, Explainer)
        return found

    def maps(self) -> list[SaliencyMap]:
        return [message for message in self.received if isinstance(message, SaliencyMap)]

    def request(self, kind: type[Message], **fields: Any) -> Reply:
        number = next(self._requests)
        self.control.send_multipart(encode(kind(stream="a" * 32, seq=number, **fields)))
        assert self.control.poll(1000 * PATIENCE), "no reply"
        reply = decode(self.control.recv_multipart())
        assert isinstance(reply, Reply) and reply.request == number
        return reply

    def configure(self, **fields: Any) -> Reply:
        return self.request(Configure, **fields)

    def explain(self, step: Step) -> Reply:
        return self.request(
            Explain, source=step.stream, step=step.step, policy_version=step.policy_version, step_time=step.time,
            arrays={name: array for name, array in step.arrays.items() if name.startswith(("observation", "output"))},
        )  # fmt: skip

    def end(self) -> tuple[int, str]:
        """Close its standard input; return its exit code and what it wrote to standard error."""
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, errors.decode()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self._context.destroy(linger=0)


@pytest.fixture
def explainers() -> Iterator[Callable[..., ExplainerProcess]]:
    """Starts explainers and ends them after the test."""
    started: list[ExplainerProcess] = []

    def start(*arguments: str) -> ExplainerProcess:
        started.append(ExplainerProcess(*arguments))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture(scope="module")
def _running() -> Iterator[ExplainerProcess]:
    process = ExplainerProcess()
    yield process.connect()
    process.close()


@pytest.fixture
def explainer(_running: ExplainerProcess) -> ExplainerProcess:
    """An explainer that several tests share; each begins with the default settings and nothing received."""
    assert _running.configure(source="tcp://127.0.0.1:1", method="perturbation", options={}, budget_ms=20).ok
    _running.wait_for_state("waiting")
    _running.received.clear()
    return _running
