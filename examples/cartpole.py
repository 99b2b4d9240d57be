"""The smallest whole example: CartPole learned in a minute or two, with the one line that lets a viewer look in.

    pip install "agentwrap-rl[viewer]" "gymnasium[classic-control]"
    python examples/cartpole.py

and in another terminal ``agentwrap view``: bars show which of the four numbers the policy acts on while it learns.

The method is REINFORCE: Williams (1992), doi:10.1007/BF00992696.
"""

import argparse

import gymnasium as gym
import torch
from torch import nn

from agentwrap import InterpretWrapper

parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
parser.add_argument("--episodes", type=int, default=400, help="how long to train")
args = parser.parse_args()

torch.manual_seed(0)
torch.set_num_threads(1)
policy = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 2))
optimizer = torch.optim.Adam(policy.parameters(), lr=2e-3)

env = gym.make("CartPole-v1", render_mode="rgb_array")
env = InterpretWrapper(env, policy)

for episode in range(args.episodes):
    log_probs, rewards, done = [], [], False
    observation, _ = env.reset(seed=episode)
    while not done:
        action = torch.distributions.Categorical(logits=policy(torch.from_numpy(observation)[None])[0])
        choice = action.sample()
        observation, reward, terminated, truncated, _ = env.step(choice.item())
        log_probs.append(action.log_prob(choice))
        rewards.append(reward)
        done = terminated or truncated

    returns = torch.tensor(rewards).flip(0)
    for t in range(1, len(returns)):
        returns[t] += 0.99 * returns[t - 1]
    returns = returns.flip(0)
    loss = -(torch.stack(log_probs) * (returns - returns.mean()) / (returns.std() + 1e-6)).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if episode % 20 == 0:
        print(f"episode {episode:4}: {len(rewards):3} steps")

env.close()
