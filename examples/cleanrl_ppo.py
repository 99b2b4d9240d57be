"""PPO as CleanRL's ppo.py has it, shortened, with the one line added. Run `agentwrap view` in another terminal."""

from __future__ import annotations

import argparse
from typing import Any

import gymnasium as gym
import torch
from torch import nn
from torch.distributions import Categorical

from agentwrap import InterpretWrapper

ENVS, ROLLOUT, EPOCHS, MINIBATCH = 4, 128, 4, 128
GAMMA, LAMBDA, CLIP = 0.99, 0.95, 0.2


class Agent(nn.Module):
    """Actor and critic, asked by the names that CleanRL's scripts use."""

    def __init__(self, features: int, actions: int) -> None:
        super().__init__()
        self.critic = nn.Sequential(nn.Linear(features, 64), nn.Tanh(), nn.Linear(64, 1))
        self.actor = nn.Sequential(nn.Linear(features, 64), nn.Tanh(), nn.Linear(64, actions))

    def get_value(self, x: torch.Tensor) -> Any:
        """Return values (B, 1) of observations (B, features)."""
        return self.critic(x)

    def get_action_and_value(self, x: torch.Tensor, action: torch.Tensor | None = None) -> Any:
        """Return actions, their log probabilities, entropies and values; a given action is only judged."""
        probs = Categorical(logits=self.actor(x))
        if action is None:
            action = probs.sample()
        return action, probs.log_prob(action), probs.entropy(), self.critic(x)


def main(steps: int) -> None:
    """Learn to hold a pole upright."""
    torch.manual_seed(1)
    envs = gym.vector.SyncVectorEnv(
        [lambda: gym.make("CartPole-v1")] * ENVS, autoreset_mode=gym.vector.AutoresetMode.SAME_STEP
    )
    agent = Agent(4, 2)
    envs.envs[0] = InterpretWrapper(envs.envs[0], agent)  # the line: the first environment is shown
    optimizer = torch.optim.Adam(agent.parameters(), lr=2.5e-4, eps=1e-5)
    observations, _ = envs.reset(seed=1)
    x = torch.Tensor(observations)
    for update in range(max(1, steps // (ENVS * ROLLOUT))):
        rows: list[tuple[torch.Tensor, ...]] = []
        for _ in range(ROLLOUT):
            with torch.no_grad():
                action, logprob, _, value = agent.get_action_and_value(x)
            observations, reward, terminated, truncated, _ = envs.step(action.numpy())
            ended = torch.Tensor(terminated | truncated)
            rows.append((x, action, logprob, value[:, 0], torch.Tensor(reward), ended))
            x = torch.Tensor(observations)
        seen, actions, logprobs, values, rewards, ends = (torch.stack(column) for column in zip(*rows, strict=True))
        with torch.no_grad():
            following, advantage, advantages = agent.get_value(x)[:, 0], torch.zeros(ENVS), torch.zeros(ROLLOUT, ENVS)
        for t in reversed(range(ROLLOUT)):
            delta = rewards[t] + GAMMA * following * (1 - ends[t]) - values[t]
            advantages[t] = advantage = delta + GAMMA * LAMBDA * (1 - ends[t]) * advantage
            following = values[t]
        learn(agent, optimizer, *(each.flatten(0, 1) for each in (seen, actions, logprobs, advantages, values)))
        print(f"update {update:4}: {float(rewards.sum() / (1 + ends.sum())):.0f} steps an episode")
    envs.close()


def learn(
    agent: Agent,
    optimizer: torch.optim.Optimizer,
    seen: torch.Tensor,
    actions: torch.Tensor,
    logprobs: torch.Tensor,
    advantages: torch.Tensor,
    values: torch.Tensor,
) -> None:
    """Improve the clipped objective of PPO (Schulman et al. 2017) on minibatches of a rollout."""
    returns = advantages + values
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(seen)).split(MINIBATCH):
            _, logprob, entropy, value = agent.get_action_and_value(seen[rows], actions[rows])
            ratio, advantage = (logprob - logprobs[rows]).exp(), advantages[rows]
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
            clipped = torch.min(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)
            loss = -clipped.mean() + 0.5 * (value[:, 0] - returns[rows]).pow(2).mean() - 0.01 * entropy.mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000, help="steps to learn from")
    main(parser.parse_args().steps)
