"""REINFORCE in TorchRL's own environment, with its transforms. Run `agentwrap view` in another terminal.

Maps are of what CartPole returns; that observations are scaled, and four of them stacked, is part of what is explained.
Needs `pip install torchrl`.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from tensordict.nn import InteractionType, TensorDictModule
from torch import nn
from torchrl.envs import CatFrames, Compose, GymEnv, ObservationNorm, TransformedEnv
from torchrl.modules import ProbabilisticActor

from agentwrap.torchrl import interpret

GAMMA = 0.99
KEYS = ["observation"]


def make_env(seed: int) -> TransformedEnv:
    """CartPole with its observations scaled and the last four of them together."""
    env = TransformedEnv(
        GymEnv("CartPole-v1", categorical_action_encoding=True),
        Compose(ObservationNorm(0.0, 2.0, in_keys=KEYS), CatFrames(N=4, dim=-1, in_keys=KEYS)),
    )
    env.set_seed(seed)
    return env


def make_policy(features: int, actions: int) -> ProbabilisticActor:
    """An actor that draws its action."""
    network = nn.Sequential(nn.Linear(features, 64), nn.Tanh(), nn.Linear(64, actions))
    head = TensorDictModule(network, KEYS, ["logits"])
    return ProbabilisticActor(
        head,
        in_keys=["logits"],
        distribution_class=torch.distributions.Categorical,
        default_interaction_type=InteractionType.RANDOM,
    )


def main(episodes: int) -> None:
    """Learn to hold a pole upright."""
    torch.manual_seed(1)
    env, policy = make_env(1), make_policy(16, 2)
    interpret(env, policy)  # the line
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
    for episode in range(episodes):
        with torch.no_grad():
            played: Any = env.rollout(500, policy)
        rewards = played["next", "reward"].flatten().tolist()
        returns, following = torch.zeros(len(rewards)), 0.0
        for t in reversed(range(len(rewards))):
            returns[t] = following = rewards[t] + GAMMA * following
        advantages = (returns - returns.mean()) / (returns.std() + 1e-6)
        chances = policy.get_dist(played.select(*KEYS))
        loss = -(advantages * chances.log_prob(played["action"])).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if episode % 20 == 0:
            print(f"episode {episode:4}: {len(rewards)} steps")
    env.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=500, help="episodes to learn from")
    main(parser.parse_args().episodes)
