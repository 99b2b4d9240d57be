"""What tests of the agent's side share: wrapped environments and listeners that are closed whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import gymnasium as gym
import pytest
import torch
from listener import Listener, eventually
from torch import nn

from agentwrap import InterpretWrapper


class ActorCritic(nn.Module):
    """A small policy for vectors: ``(logits, value)``."""

    def __init__(self, features: int = 4, actions: int = 2) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(features, 16), nn.Tanh())
        self.actor, self.critic = nn.Linear(16, actions), nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        latent = self.trunk(x)
        return self.actor(latent), self.critic(latent)


class Agent:
    """A user's loop, one step at a time: calls the policy with a batch of one and samples nothing."""

    def __init__(
        self, env: gym.Env[Any, Any], policy: nn.Module, *, prepare: Callable[[Any], Any] | None = None
    ) -> None:
        self.env, self.policy = env, policy
        self.prepare = prepare or (lambda observation: torch.as_tensor(observation)[None])
        self.observation, _ = env.reset(seed=0)

    def step(self) -> None:
        with torch.no_grad():
            result = self.policy(self.prepare(self.observation))
        logits = result[0] if isinstance(result, tuple) else result
        self.observation, _, terminated, truncated, _ = self.env.step(int(logits.argmax()))
        if terminated or truncated:
            self.observation, _ = self.env.reset()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def wrap(stack: ExitStack) -> Callable[..., InterpretWrapper]:
    """Wrap an environment (CartPole by default), strictly and quietly, and close it in the end."""

    def wrap(policy: nn.Module, env: gym.Env[Any, Any] | str = "CartPole-v1", **options: Any) -> InterpretWrapper:
        made = gym.make(env) if isinstance(env, str) else env
        wrapped = InterpretWrapper(made, policy, **{"strict": True, "quiet": True, **options})
        stack.callback(wrapped.close)
        return wrapped

    return wrap


@pytest.fixture
def listen(stack: ExitStack) -> Callable[..., Listener]:
    """Listen to a wrapper's stream; returns when the wrapper knows of it, and acts accordingly."""

    def listen(env: InterpretWrapper, *kinds: str) -> Listener:
        listener = Listener(env.endpoint, *kinds)
        stack.callback(listener.close)
        publisher = env._stream.publisher
        eventually(lambda: all(publisher.wants(kind) for kind in kinds or ("step",)))
        eventually(lambda: publisher.watched is publisher.wants("step"))
        return listener

    return listen


@pytest.fixture
def policy() -> ActorCritic:
    torch.manual_seed(0)
    return ActorCritic()


@pytest.fixture
def agent() -> type[Agent]:
    return Agent
