"""A Gaussian policy learns to balance a pole in MuJoCo. Run `agentwrap view` in another terminal.

    pip install "agentwrap-rl[viewer]" "gymnasium[mujoco]"
    python examples/mujoco_pendulum.py

The wheel carries the simulator. The policy returns a mean and a logarithm of a standard deviation for the force; maps
say on which of the four numbers its mean depends. With `--pictures` MuJoCo draws what it simulates; without a screen
that wants `MUJOCO_GL=egl` (or `osmesa`) in the environment, and the library behind it. The method is REINFORCE:
Williams (1992), doi:10.1007/BF00992696.
"""

from __future__ import annotations

import argparse

import gymnasium as gym
import torch
from torch import nn
from torch.distributions import Normal

from agentwrap import InterpretWrapper

GAMMA, BATCH = 0.98, 8  # episodes in a batch
NAMES = ["cart position", "pole angle", "cart velocity", "pole angular velocity"]


class Policy(nn.Module):
    """Mean and logarithm of the standard deviation of the force on the cart."""

    def __init__(self, features: int, actions: int) -> None:
        super().__init__()
        self.mean = nn.Sequential(nn.Linear(features, 64), nn.Tanh(), nn.Linear(64, actions))
        self.log_std = nn.Parameter(torch.zeros(actions))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and log_std, both (B, actions), of observations (B, features)."""
        mean = self.mean(x)
        return mean, self.log_std.expand_as(mean)


def main(episodes: int, pictures: bool) -> None:
    """Learn to hold a pole upright by pushing its cart."""
    torch.manual_seed(1)
    env = gym.make("InvertedPendulum-v5", render_mode="rgb_array" if pictures else None)
    policy = Policy(4, 1)
    env = InterpretWrapper(env, policy, outputs=("mean", "log_std"), feature_names=NAMES)  # the line
    optimizer = torch.optim.Adam(policy.parameters(), lr=5e-3)
    logprobs: list[torch.Tensor] = []
    returns: list[float] = []
    lengths: list[int] = []
    for episode in range(episodes):
        observation, _ = env.reset(seed=episode)
        rewards, over = [], False
        while not over:
            mean, log_std = policy(torch.as_tensor(observation, dtype=torch.float32)[None])
            distribution = Normal(mean[0], log_std[0].exp())
            action = distribution.sample()
            observation, reward, terminated, truncated, _ = env.step(action.clamp(-3, 3).numpy())
            logprobs.append(distribution.log_prob(action).sum())
            rewards.append(float(reward))
            over = terminated or truncated
        returns.extend(discounted(rewards))
        lengths.append(len(rewards))
        if len(lengths) == BATCH:
            scores = torch.tensor(returns)
            advantages = (scores - scores.mean()) / (scores.std() + 1e-6)
            optimizer.zero_grad()
            (-(torch.stack(logprobs) * advantages).mean()).backward()
            optimizer.step()
            print(f"episode {episode:4}: {sum(lengths) / BATCH:.0f} steps upright")
            logprobs, returns, lengths = [], [], []
    env.close()


def discounted(rewards: list[float]) -> list[float]:
    """Return what the rewards came to from each step on."""
    returns, following = [], 0.0
    for reward in reversed(rewards):
        following = reward + GAMMA * following
        returns.append(following)
    return returns[::-1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=800, help="episodes to learn from")
    parser.add_argument("--pictures", action="store_true", help="let MuJoCo draw, where it can")
    arguments = parser.parse_args()
    main(arguments.episodes, arguments.pictures)
