"""Recordings for tests: made by the recorder, read by the reference implementation of MCAP."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from fakes import hello, step
from mcap.stream_reader import StreamReader
from torch import nn

from agentwrap import InterpretWrapper
from agentwrap.recorder import Recorder
from agentwrap_protocol import decode
from agentwrap_protocol.messages import Message, Step
from agentwrap_protocol.packing import unpack


def messages_in(path: Path) -> list[Message]:
    """All messages of a recording, also of a torn one, as the reference implementation finds them."""
    topics, found = {}, []
    with contextlib.suppress(Exception):  # it raises where the file is cut
        for record in StreamReader(io.BytesIO(path.read_bytes()), validate_crcs=True).records:
            if type(record).__name__ == "Channel":
                topics[record.id] = record.topic
            if type(record).__name__ == "Message" and topics[record.channel_id] != "index":
                found.append(decode(unpack(record.data)))
    return found


def steps_in(path: Path) -> list[Step]:
    return [message for message in messages_in(path) if isinstance(message, Step)]


def begun(path: Path, **options: Any) -> Recorder:
    made = Recorder(path, **options)
    made.begin(hello(), record_every="1")
    return made


def large(number: int) -> Step:
    noise = np.random.default_rng(number).integers(0, 256, 2**20).astype(np.uint8)
    return step(number, arrays={"observation": noise})


def known(number: int, **fields: Any) -> Step:
    """A small step, 0.1 s after the one before; episodes have a hundred steps."""
    logits = np.zeros(9, np.float32)
    logits[0] = number / 50
    arrays = {"observation": np.full(4, number, np.float32), "output/logits": logits}
    return step(number, arrays={**arrays, "output/value": np.float32(number)}, time=1e9 + number / 10, **fields)


class Policy(nn.Module):
    """Logits and value of a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.actor, self.critic = nn.Linear(4, 8), nn.Linear(8, 2), nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        latent = torch.tanh(self.trunk(x))
        return self.actor(latent), self.critic(latent)


def record_cartpole(path: Path) -> Path:
    """Record two hundred steps of an agent that learns: its critic's bias grows by 1 every 50 steps."""
    torch.manual_seed(0)
    policy = Policy()
    env = InterpretWrapper(
        gym.make("CartPole-v1"),
        policy,
        record=path,
        quiet=True,
        strict=True,
        weights_every=1e-9,
        endpoint="tcp://127.0.0.1:*",
    )
    observation, _ = env.reset(seed=11)
    for number in range(200):
        with torch.no_grad():
            if number and number % 50 == 0:
                policy.critic.bias.add_(1.0)
            logits, _ = policy(torch.as_tensor(observation)[None])
        observation, _, terminated, truncated, _ = env.step(int(logits.argmax()))
        if terminated or truncated:
            observation, _ = env.reset()
    env.close()
    return path


class Pictures(gym.Env[Any, Any]):
    """Grey pictures (16, 16) in which a bright square wanders."""

    observation_space = gym.spaces.Box(0, 255, (16, 16), np.uint8)
    action_space = gym.spaces.Discrete(3)
    render_mode = None

    def _picture(self) -> Any:
        picture = np.zeros((16, 16), np.uint8)
        column = self._step % 12
        picture[4:8, column : column + 4] = 200
        return picture

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self._step = 0
        return self._picture(), {}

    def step(self, action: Any) -> Any:
        self._step += 1
        return self._picture(), 0.5, self._step == 15, False, {}


def record_pictures(path: Path) -> Path:
    """Record two episodes of fifteen steps with pictures, and the policy."""
    torch.manual_seed(0)
    policy = nn.Sequential(nn.Flatten(), nn.Linear(256, 3))
    env = InterpretWrapper(Pictures(), policy, record=path, quiet=True, strict=True, endpoint="tcp://127.0.0.1:*")
    observation, _ = env.reset(seed=5)
    for _ in range(30):
        with torch.no_grad():
            action = int(policy(torch.as_tensor(observation)[None].float()).argmax())
        observation, _, done, _, _ = env.step(action)
        if done:
            observation, _ = env.reset()
    env.close()
    return path
