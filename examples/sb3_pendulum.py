"""Watch SAC of Stable-Baselines3 learn to swing a pendulum up: run this, and `agentwrap view` in another terminal.

The action is continuous, so that maps say on what its mean depends, which SAC squashes to the action's range.
Needs `pip install "agentwrap-rl[sb3]" "gymnasium[classic-control]"`. The method is Haarnoja et al. (2018),
arXiv:1812.05905.
"""

from __future__ import annotations

import argparse

import gymnasium as gym
from stable_baselines3 import SAC

from agentwrap import InterpretWrapper
from agentwrap.callbacks import InterpretCallback


def main(steps: int) -> None:
    """Learn to swing a pendulum up, then do it."""
    model = SAC("MlpPolicy", gym.make("Pendulum-v1"), learning_starts=min(100, steps // 2), device="cpu", seed=0)
    model.learn(steps, callback=InterpretCallback())  # one line: while it learns

    env = InterpretWrapper(gym.make("Pendulum-v1", render_mode="rgb_array"), model)  # one line: while it acts
    observation, _ = env.reset(seed=0)
    score, over = 0.0, False
    while not over:
        action, _ = model.predict(observation, deterministic=True)
        observation, reward, terminated, truncated, _ = env.step(action)
        score, over = score + float(reward), terminated or truncated
    print(f"return {score:.0f} after {steps} steps of learning")
    env.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5_000, help="steps to learn from")
    main(parser.parse_args().steps)
