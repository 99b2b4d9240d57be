"""A policy in plain NumPy: nothing is known of it but that it can be called, and still there are maps.

    pip install "agentwrap-rl[viewer]" "gymnasium[classic-control]"
    python examples/numpy_policy.py

and in another terminal ``agentwrap view``. The policy is asked in this process, a few milliseconds of each second; the
loop stays as it is. The method is the cross-entropy method: Szita and Lőrincz (2006), doi:10.1162/neco.2006.18.12.2936.
"""

import argparse

import gymnasium as gym
import numpy as np

from agentwrap import InterpretWrapper

parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
parser.add_argument("--generations", type=int, default=30, help="how long to search")
parser.add_argument("--candidates", type=int, default=24, help="policies tried in a generation")
args = parser.parse_args()

rng = np.random.default_rng(0)
weights = np.zeros((4, 2))


def policy(observation: np.ndarray) -> np.ndarray:
    """Logits of pushing left and right, for one observation (4,) or many (B, 4)."""
    return np.tanh(observation) @ weights


env = InterpretWrapper(gym.make("CartPole-v1", render_mode="rgb_array"), policy)

mean, deviation = np.zeros((4, 2)), np.ones((4, 2))
for generation in range(args.generations):
    candidates = mean + deviation * rng.normal(size=(args.candidates, 4, 2))
    returns = []
    for candidate in candidates:
        weights[:] = candidate
        env.policy_changed()
        observation, _ = env.reset(seed=generation)
        score, over = 0.0, False
        while not over:
            observation, reward, terminated, truncated, _ = env.step(int(policy(observation).argmax()))
            score, over = score + float(reward), terminated or truncated
        returns.append(score)
    best = candidates[np.argsort(returns)[-args.candidates // 4 :]]
    mean, deviation = best.mean(0), best.std(0) + 0.1 / (1 + generation)
    print(f"generation {generation:2}: return {np.mean(returns):3.0f}, of the best {max(returns):3.0f}")

env.close()
