"""Q-learning with a table: what a hand of Blackjack is worth, and which of its three numbers that hangs on.

    pip install "agentwrap-rl[viewer]" "gymnasium[toy-text]"
    python examples/q_table.py

and in another terminal ``agentwrap view``. A table is a function of the observation like any other; that its values are
called ``q_values`` lets the page show them as what they are. Watkins and Dayan (1992), doi:10.1007/BF00992698.
"""

import argparse

import gymnasium as gym
import numpy as np

from agentwrap import InterpretWrapper

parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
parser.add_argument("--hands", type=int, default=100_000, help="how long to play")
args = parser.parse_args()

rng = np.random.default_rng(0)
table = np.zeros((32, 11, 2, 2))  # by the player's sum, the dealer's card, whether an ace counts 11, and the action

env = InterpretWrapper(gym.make("Blackjack-v1", render_mode="rgb_array"), lambda hand: {"q_values": table[hand]})

rewards = np.zeros(args.hands)
for number in range(args.hands):
    hand, _ = env.reset(seed=0 if number == 0 else None)
    over = False
    while not over:
        action = int(table[hand].argmax()) if rng.random() > 0.1 else int(rng.integers(2))
        after, reward, over, truncated, _ = env.step(action)
        best = 0.0 if over else table[after].max()
        table[hand][action] += 0.02 * (float(reward) + best - table[hand][action])
        hand = after
    rewards[number] = reward
    if number % 1000 == 999:
        env.policy_changed()
        print(f"hand {number + 1:6}: mean reward of the last thousand {rewards[number - 999 : number + 1].mean():+.3f}")

env.close()
