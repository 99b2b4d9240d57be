"""A recurrent model of sb3-contrib learns what it cannot see: run this, and `agentwrap view` in another terminal.

CartPole shows positions alone here, so speeds have to be remembered. Needs `pip install "agentwrap-rl[sb3]"`.
"""

from __future__ import annotations

import argparse

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import TransformObservation
from sb3_contrib import RecurrentPPO

from agentwrap import InterpretWrapper
from agentwrap.callbacks import InterpretCallback


def without_speeds() -> gym.Env[np.ndarray, int]:
    """CartPole whose observations are the cart's position and the pole's angle."""
    space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    return TransformObservation(gym.make("CartPole-v1"), lambda seen: seen[[0, 2]], space)


def main(steps: int) -> None:
    """Learn to hold a pole upright, then do it."""
    model = RecurrentPPO("MlpLstmPolicy", without_speeds(), n_steps=min(128, steps), device="cpu")
    model.learn(steps, callback=InterpretCallback(feature_names=("position", "angle")))  # one line: while it learns

    env = InterpretWrapper(without_speeds(), model, feature_names=("position", "angle"))  # one line: while it acts
    observation, _ = env.reset(seed=0)
    state, begins, score, over = None, True, 0.0, False
    while not over:
        action, state = model.predict(observation, state=state, episode_start=np.array([begins]), deterministic=True)
        observation, reward, terminated, truncated, _ = env.step(int(action))
        score, begins, over = score + float(reward), False, terminated or truncated
    print(f"return {score:.0f} after {steps} steps of learning")
    env.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50_000, help="steps to learn from")
    main(parser.parse_args().steps)
