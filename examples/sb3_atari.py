"""Watch PPO of Stable-Baselines3 learn an Atari game in its own stack of environments: `agentwrap view` looks in.

Nothing of the stack changes: pictures of several games are shrunk, stacked and transposed by the library. Maps lie in
what the first game's environment returns. Needs `pip install "agentwrap-rl[sb3,atari]"`. The method is Schulman et al.
(2017), arXiv:1707.06347.
"""

from __future__ import annotations

import argparse

import ale_py
import gymnasium as gym
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecFrameStack

from agentwrap.callbacks import InterpretCallback


def main(game: str, games: int, rollout: int, steps: int) -> None:
    """Learn a game."""
    gym.register_envs(ale_py)
    envs = VecFrameStack(make_atari_env(f"ALE/{game}-v5", n_envs=games, seed=0), n_stack=4)
    model = PPO("CnnPolicy", envs, n_steps=rollout, batch_size=min(256, games * rollout), device="auto", seed=0)
    model.learn(steps, callback=InterpretCallback(name=f"{game}, learning"))  # the one line
    print(f"{model.num_timesteps} steps of learning")
    envs.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default="Enduro", help="name of the game, as in ALE/<game>-v5")
    parser.add_argument("--games", type=int, default=8, help="how many are played at once")
    parser.add_argument("--rollout", type=int, default=128, help="steps of each game between two updates")
    parser.add_argument("--steps", type=int, default=1_000_000, help="steps to learn from, of all games together")
    arguments = parser.parse_args()
    main(arguments.game, arguments.games, arguments.rollout, arguments.steps)
