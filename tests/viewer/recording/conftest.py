"""Recordings to read: one of a real agent with its policy, one with pictures and many chunks."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import pytest
import torch
from fakes import EPISODE, hello, step
from torch import nn

from agentwrap import InterpretWrapper
from agentwrap_protocol.mcap_encoder import McapEncoder, describe
from agentwrap_protocol.messages import EpisodeEnd, Message

#: Steps of the recording with pictures.
STEPS = 1500


class Policy(nn.Module):
    """Logits and value of a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.actor, self.critic = nn.Linear(4, 8), nn.Linear(8, 2), nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        latent = torch.tanh(self.trunk(x))
        return self.actor(latent), self.critic(latent)


@pytest.fixture(scope="session")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hundred steps of an agent that learns: its critic's bias grows by 1 every 50 steps."""
    torch.manual_seed(0)
    path, policy = tmp_path_factory.mktemp("recordings") / "cartpole.mcap", Policy()
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


def messages(steps: int = STEPS) -> list[Message]:
    """A stream with pictures and episodes of a hundred steps."""
    found: list[Message] = [hello()]
    for number in range(steps):
        found.append(step(number))
        if number % EPISODE == EPISODE - 1:
            found.append(
                EpisodeEnd(
                    stream="0" * 32,
                    episode=number // EPISODE,
                    step=number,
                    length=EPISODE,
                    episode_return=9.0,
                    seconds=1.5,
                    reason="terminated",
                )
            )
    return found


def encoded(stream: list[Message], *, end: bool = True) -> bytes:
    """The bytes of a recording of these messages, in chunks of about three steps."""
    encoder = McapEncoder(library="test", chunk_bytes=400_000)
    parts = [encoder.begin(describe(hello()))] + [encoder.add(message) for message in stream]
    parts.append(encoder.finish({"steps": "0", "dropped": "0"}) if end else encoder.flush())
    return b"".join(parts)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of fifteen hundred steps with pictures, in some five hundred chunks and two indexes."""
    path = tmp_path_factory.mktemp("recordings") / "pictures.mcap"
    path.write_bytes(encoded(messages()))
    return path
