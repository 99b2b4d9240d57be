"""REINFORCE with TorchRL's actor in a loop of one's own. Run `agentwrap view` in another terminal.

Needs `pip install torchrl`.
"""

from __future__ import annotations

import argparse
from typing import Any

import gymnasium as gym
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.modules import ActorValueOperator, ProbabilisticActor, ValueOperator

from agentwrap import InterpretWrapper

GAMMA = 0.99


def make_policy(features: int, actions: int) -> ActorValueOperator:
    """Actor and critic that share a hidden layer."""
    common = TensorDictModule(nn.Sequential(nn.Linear(features, 64), nn.Tanh()), ["observation"], ["hidden"])
    head = TensorDictModule(nn.Linear(64, actions), ["hidden"], ["logits"])
    actor = ProbabilisticActor(
        head, in_keys=["logits"], distribution_class=torch.distributions.Categorical, return_log_prob=True
    )
    return ActorValueOperator(common, actor, ValueOperator(nn.Linear(64, 1), in_keys=["hidden"]))


def main(episodes: int) -> None:
    """Learn to hold a pole upright."""
    torch.manual_seed(1)
    policy = make_policy(4, 2)
    env = InterpretWrapper(gym.make("CartPole-v1"), policy)  # the line
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
    for episode in range(episodes):
        observation, _ = env.reset(seed=episode)
        acts, rewards, over = [], [], False
        while not over:
            acts.append(policy(TensorDict({"observation": torch.as_tensor(observation)}, batch_size=[])))
            observation, reward, terminated, truncated, _ = env.step(int(acts[-1]["action"]))
            rewards.append(float(reward))
            over = terminated or truncated
        returns, following = torch.zeros(len(rewards)), 0.0
        for t in reversed(range(len(rewards))):
            returns[t] = following = rewards[t] + GAMMA * following
        seen: Any = torch.stack(acts)
        advantages = returns - seen["state_value"][:, 0]
        loss = (advantages.pow(2) - advantages.detach() * seen["action_log_prob"]).mean()
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
