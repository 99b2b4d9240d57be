"""A policy that sees a picture and a vector, in MiniGrid. Run `agentwrap view` in another terminal.

Needs `pip install minigrid torch`; where `pygame` is installed, `pip uninstall pygame` before that, for MiniGrid brings
`pygame-ce`, which takes its place. The page shows which cells of the picture matter, and beside it, as bars, how much
each direction does. The method is REINFORCE with a learned baseline: Williams (1992), doi:10.1007/BF00992696.
"""

from __future__ import annotations

import argparse
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.wrappers import TransformAction, TransformObservation
from minigrid.wrappers import RGBImgPartialObsWrapper
from torch import nn
from torch.distributions import Categorical

from agentwrap import InterpretWrapper

GAMMA, BATCH = 0.97, 8  # episodes in a batch
DIRECTIONS = ("east", "south", "west", "north")
ACTIONS = ("turn left", "turn right", "go forward")


def make_env() -> gym.Env[Any, Any]:
    """An empty room with a green square to walk to.

    The picture is what the agent sees from where it stands, and `agent_pov` renders just that: so the map of the one
    lies truly over the other. MiniGrid says where the agent looks as a number, which becomes one switch for each
    direction, and what it is to do as a text, which is always the same here and is left out. (Where it is not, a policy
    wants numbers too: a switch for each word, say, would be shown as bars like the directions.)
    """
    env: Any = gym.make("MiniGrid-Empty-5x5-v0", render_mode="rgb_array", agent_pov=True)
    env = RGBImgPartialObsWrapper(env, tile_size=8)
    space = gym.spaces.Dict(
        {"image": env.observation_space["image"], "direction": gym.spaces.Box(0, 1, (len(DIRECTIONS),), np.float32)}
    )
    env = TransformObservation(env, as_arrays, space)
    return TransformAction(env, lambda action: action, gym.spaces.Discrete(len(ACTIONS)))  # no other does anything here


def as_arrays(seen: dict[str, Any]) -> dict[str, Any]:
    """Return what MiniGrid observed as a policy can read it."""
    return {"image": seen["image"], "direction": np.eye(len(DIRECTIONS), dtype=np.float32)[seen["direction"]]}


class Policy(nn.Module):
    """Looks at each cell (8 x 8 pixels), then at all of them and at the direction."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.Sequential(nn.Conv2d(3, 8, 8, stride=8), nn.ReLU(), nn.Flatten())
        self.body = nn.Sequential(nn.Linear(8 * 7 * 7 + len(DIRECTIONS), 64), nn.Tanh())
        self.actor, self.critic = nn.Linear(64, len(ACTIONS)), nn.Linear(64, 1)

    def forward(self, observation: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return logits (B, actions) and values (B, 1) of `image` (B, 56, 56, 3) and `direction` (B, 4)."""
        cells = self.cells(observation["image"].permute(0, 3, 1, 2).float() / 255)
        hidden = self.body(torch.cat([cells, observation["direction"]], 1))
        return {"logits": self.actor(hidden), "value": self.critic(hidden)}


def main(episodes: int) -> None:
    """Learn to walk to the green square."""
    torch.manual_seed(1)
    policy = Policy()
    env = InterpretWrapper(make_env(), policy, action_meanings=ACTIONS, feature_names=DIRECTIONS)  # the line
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-3)
    losses: list[torch.Tensor] = []
    scores: list[float] = []
    for episode in range(episodes):
        observation, _ = env.reset(seed=episode)
        logprobs, values, entropies, rewards, over = [], [], [], [], False
        while not over:
            outputs = policy({key: torch.as_tensor(entry)[None] for key, entry in observation.items()})
            distribution = Categorical(logits=outputs["logits"][0])
            action = distribution.sample()
            observation, reward, terminated, truncated, _ = env.step(int(action))
            logprobs.append(distribution.log_prob(action))
            values.append(outputs["value"][0, 0])
            entropies.append(distribution.entropy())
            rewards.append(float(reward))
            over = terminated or truncated
        losses.append(loss_of(torch.stack(logprobs), torch.stack(values), torch.stack(entropies), rewards))
        scores.append(sum(rewards))
        if len(losses) == BATCH:
            optimizer.zero_grad()
            torch.stack(losses).mean().backward()
            optimizer.step()
            print(f"episode {episode:4}: return {sum(scores) / BATCH:.2f}")
            losses, scores = [], []
    env.close()


def loss_of(
    logprobs: torch.Tensor, values: torch.Tensor, entropies: torch.Tensor, rewards: list[float]
) -> torch.Tensor:
    """Compare what an episode's rewards came to from each step on with what the critic expected."""
    returns, following = torch.zeros(len(rewards)), 0.0
    for t in reversed(range(len(rewards))):
        returns[t] = following = rewards[t] + GAMMA * following
    advantages = returns - values
    return (0.5 * advantages.pow(2) - advantages.detach() * logprobs - 0.01 * entropies).mean()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=800, help="episodes to learn from")
    main(parser.parse_args().episodes)
