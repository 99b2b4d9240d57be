"""DQN as CleanRL's dqn.py has it, shortened, with the one line added. Run `agentwrap view` in another terminal.

Needs `pip install "gymnasium[classic-control]" torch`. Its class is called `QNetwork`, as in CleanRL's scripts, which
says that its outputs are Q-values. Steps that epsilon leaves to chance do not ask it, and show no Q-values.
The method is Mnih et al. (2015), doi:10.1038/nature14236.
"""

from __future__ import annotations

import argparse
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from agentwrap import InterpretWrapper

CAPACITY, BATCH, GAMMA = 10_000, 128, 0.99
TRAIN_EVERY, TARGET_EVERY = 10, 500  # steps
EPSILON_LAST, EXPLORATION = 0.05, 0.5  # epsilon falls from 1 to the first in this share of all steps


class QNetwork(nn.Module):
    """One Q-value for each action."""

    def __init__(self, features: int, actions: int) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(features, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, actions)
        )

    def forward(self, x: torch.Tensor) -> Any:
        """Return Q-values (B, actions) of observations (B, features)."""
        return self.network(x)


class ReplayBuffer:
    """The last transitions; when it is full, the oldest gives way."""

    def __init__(self, capacity: int, features: int) -> None:
        self.observations = np.zeros((capacity, features), np.float32)
        self.following = np.zeros((capacity, features), np.float32)
        self.actions = np.zeros(capacity, np.int64)
        self.rewards = np.zeros(capacity, np.float32)
        self.terminations = np.zeros(capacity, np.float32)
        self.added = 0

    def add(self, observation: np.ndarray, following: np.ndarray, action: int, reward: float, terminated: bool) -> None:
        """Keep a transition; one that a time limit cut off is none that terminated."""
        row = self.added % len(self.actions)
        self.observations[row], self.following[row] = observation, following
        self.actions[row], self.rewards[row], self.terminations[row] = action, reward, terminated
        self.added += 1

    def sample(self, size: int, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """Return observations, following observations, actions, rewards and terminations of a batch."""
        rows = rng.integers(min(self.added, len(self.actions)), size=size)
        columns = (self.observations, self.following, self.actions, self.rewards, self.terminations)
        return tuple(torch.from_numpy(column[rows]) for column in columns)


def main(steps: int) -> None:
    """Learn to hold a pole upright."""
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    env = gym.make("CartPole-v1", render_mode="rgb_array")
    q_network, target_network = QNetwork(4, 2), QNetwork(4, 2)
    target_network.load_state_dict(q_network.state_dict())
    env = InterpretWrapper(env, q_network)  # the line
    optimizer = torch.optim.Adam(q_network.parameters(), lr=2.5e-4)
    buffer, learning_starts = ReplayBuffer(CAPACITY, 4), steps // 50
    returns = [0.0]
    observation, _ = env.reset(seed=1)
    for step in range(steps):
        epsilon = max(EPSILON_LAST, 1 - (1 - EPSILON_LAST) * step / (EXPLORATION * steps))
        if rng.random() < epsilon:
            action = int(rng.integers(2))
        else:
            with torch.no_grad():
                action = int(q_network(torch.Tensor(observation)[None]).argmax())
        following, reward, terminated, truncated, _ = env.step(action)
        buffer.add(observation, following, action, float(reward), terminated)
        observation, returns[-1] = following, returns[-1] + float(reward)
        if terminated or truncated:
            returns.append(0.0)
            observation, _ = env.reset()
            if len(returns) % 20 == 0:
                print(f"step {step:6}: epsilon {epsilon:.2f}, return {np.mean(returns[-21:-1]):.0f}", flush=True)
        if step > learning_starts and step % TRAIN_EVERY == 0:
            learn(q_network, target_network, optimizer, buffer.sample(BATCH, rng))
        if step % TARGET_EVERY == 0:
            target_network.load_state_dict(q_network.state_dict())
    env.close()


def learn(
    q_network: QNetwork, target_network: QNetwork, optimizer: torch.optim.Optimizer, batch: tuple[torch.Tensor, ...]
) -> None:
    """Go one step towards what the reward and the target network say of a batch."""
    observations, following, actions, rewards, terminations = batch
    with torch.no_grad():
        targets = rewards + GAMMA * target_network(following).amax(1) * (1 - terminations)
    chosen = q_network(observations).gather(1, actions[:, None])[:, 0]
    loss = nn.functional.mse_loss(chosen, targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50_000, help="steps to learn from")
    main(parser.parse_args().steps)
