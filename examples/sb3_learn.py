"""Watch a model of Stable-Baselines3 learn, then watch it act: run this, and `agentwrap view` in another terminal.

Needs `pip install "agentwrap-rl[sb3]"`.
"""

from __future__ import annotations

import argparse

import gymnasium as gym
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from agentwrap import InterpretWrapper
from agentwrap.callbacks import InterpretCallback


def main(steps: int) -> None:
    """Learn to hold a pole upright, then do it."""
    envs = VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")] * 4))
    model = PPO("MlpPolicy", envs, n_steps=min(256, steps), device="cpu")
    model.learn(steps, callback=InterpretCallback())  # one line: while it learns

    env = InterpretWrapper(gym.make("CartPole-v1"), model)  # one line: while it acts
    observation, _ = env.reset(seed=0)
    score, over = 0.0, False
    while not over:
        action, _ = model.predict(envs.normalize_obs(observation), deterministic=True)
        observation, reward, terminated, truncated, _ = env.step(int(action))
        score, over = score + float(reward), terminated or truncated
    print(f"return {score:.0f} after {steps} steps of learning")
    env.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50_000, help="steps to learn from")
    main(parser.parse_args().steps)
