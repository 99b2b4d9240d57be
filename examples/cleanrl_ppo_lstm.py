"""PPO with an LSTM as CleanRL's ppo_atari_lstm.py has it, shortened, with the one line added.

CartPole shows positions alone here, so speeds have to be remembered. Run `agentwrap view` in another terminal.
"""

from __future__ import annotations

import argparse
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.wrappers import TransformObservation
from torch import nn
from torch.distributions import Categorical

from agentwrap import InterpretWrapper

ENVS, ROLLOUT, EPOCHS, ENVS_EACH = 8, 64, 4, 4
GAMMA, LAMBDA, CLIP = 0.99, 0.95, 0.2

State = tuple[torch.Tensor, torch.Tensor]


class Agent(nn.Module):
    """Actor and critic behind one LSTM, asked by the names that CleanRL's scripts use."""

    def __init__(self, features: int, actions: int) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(features, 64), nn.Tanh())
        self.lstm = nn.LSTM(64, 64)
        self.actor, self.critic = nn.Linear(64, actions), nn.Linear(64, 1)

    def get_states(self, x: torch.Tensor, state: State, done: torch.Tensor) -> tuple[torch.Tensor, State]:
        """Go through sequences (T · B, features), with the state emptied wherever an episode was done."""
        rows = state[0].shape[1]
        hidden, done = self.network(x).reshape((-1, rows, 64)), done.reshape((-1, rows))
        remembered = []
        for h, d in zip(hidden, done, strict=True):
            kept = (1.0 - d).view(1, -1, 1)
            h, state = self.lstm(h.unsqueeze(0), (kept * state[0], kept * state[1]))
            remembered.append(h)
        return torch.cat(remembered).flatten(0, 1), state

    def get_value(self, x: torch.Tensor, state: State, done: torch.Tensor) -> Any:
        """Return values (B, 1)."""
        return self.critic(self.get_states(x, state, done)[0])

    def get_action_and_value(
        self, x: torch.Tensor, state: State, done: torch.Tensor, action: torch.Tensor | None = None
    ) -> Any:
        """Return actions, their log probabilities, entropies, values and the new state; a given action is judged."""
        hidden, state = self.get_states(x, state, done)
        probs = Categorical(logits=self.actor(hidden))
        if action is None:
            action = probs.sample()
        return action, probs.log_prob(action), probs.entropy(), self.critic(hidden), state


def without_speeds() -> gym.Env[np.ndarray, int]:
    """CartPole whose observations are the cart's position and the pole's angle."""
    space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    return TransformObservation(gym.make("CartPole-v1"), lambda seen: seen[[0, 2]], space)


def main(steps: int) -> None:
    """Learn to hold a pole upright."""
    torch.manual_seed(1)
    envs = gym.vector.SyncVectorEnv([without_speeds] * ENVS, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP)
    agent = Agent(2, 2)
    envs.envs[0] = InterpretWrapper(envs.envs[0], agent)  # the line: the first environment is shown
    optimizer = torch.optim.Adam(agent.parameters(), lr=1e-3, eps=1e-5)
    x, done = torch.Tensor(envs.reset(seed=1)[0]), torch.zeros(ENVS)
    state = (torch.zeros(1, ENVS, 64), torch.zeros(1, ENVS, 64))
    for update in range(max(1, steps // (ENVS * ROLLOUT))):
        rows: list[tuple[torch.Tensor, ...]] = []
        first = state
        for _ in range(ROLLOUT):
            with torch.no_grad():
                action, logprob, _, value, state = agent.get_action_and_value(x, state, done)
            observations, reward, terminated, truncated, _ = envs.step(action.numpy())
            rows.append((x, done, action, logprob, value[:, 0], torch.Tensor(reward)))
            x, done = torch.Tensor(observations), torch.Tensor(terminated | truncated)
        seen, begins, actions, logprobs, values, rewards = (torch.stack(column) for column in zip(*rows, strict=True))
        ends = torch.cat([begins[1:], done[None]])
        with torch.no_grad():
            following, advantage = agent.get_value(x, state, done)[:, 0], torch.zeros(ENVS)
        advantages = torch.zeros(ROLLOUT, ENVS)
        for t in reversed(range(ROLLOUT)):
            delta = rewards[t] + GAMMA * following * (1 - ends[t]) - values[t]
            advantages[t] = advantage = delta + GAMMA * LAMBDA * (1 - ends[t]) * advantage
            following = values[t]
        learn(agent, optimizer, first, seen, begins, actions, logprobs, advantages, values)
        print(f"update {update:4}: {float(rewards.sum() / (1 + ends.sum())):.0f} steps an episode")
    envs.close()


def learn(agent: Agent, optimizer: torch.optim.Optimizer, first: State, *rollout: torch.Tensor) -> None:
    """Improve the clipped objective of PPO (Schulman et al. 2017) on whole sequences of some environments at a time."""
    for _ in range(EPOCHS):
        for chosen in torch.randperm(ENVS).split(ENVS_EACH):
            seen, begins, actions, logprobs, advantages, values = (each[:, chosen].flatten(0, 1) for each in rollout)
            state = (first[0][:, chosen], first[1][:, chosen])
            _, logprob, entropy, value, _ = agent.get_action_and_value(seen, state, begins, actions)
            ratio, returns = (logprob - logprobs).exp(), advantages + values
            advantage = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
            clipped = torch.min(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)
            loss = -clipped.mean() + 0.5 * (value[:, 0] - returns).pow(2).mean() - 0.01 * entropy.mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000, help="steps to learn from")
    main(parser.parse_args().steps)
