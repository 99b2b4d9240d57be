"""Eight CartPoles at once, learned by an actor-critic, with the one line that lets a viewer look into any of them.

    pip install "agentwrap-rl[viewer]" "gymnasium[classic-control]"
    python examples/vector.py

and in another terminal ``agentwrap view``: the page shows one of the environments, and lists all of them with their
returns to choose from.

The method is the synchronous form of Mnih et al. (2016), arXiv:1602.01783.
"""

import argparse

import gymnasium as gym
import torch
from torch import nn

from agentwrap import InterpretVectorWrapper

parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
parser.add_argument("--steps", type=int, default=200_000, help="how many steps to train, of all environments together")
parser.add_argument("--environments", type=int, default=8, help="how many there are")
args = parser.parse_args()


class Agent(nn.Module):
    """Logits and value."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 64), nn.Tanh())
        self.actor, self.critic = nn.Linear(64, 2), nn.Linear(64, 1)

    def forward(self, observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits (n, 2) and values (n, 1)."""
        latent = self.body(observations)
        return self.actor(latent), self.critic(latent)


torch.manual_seed(0)
torch.set_num_threads(1)
agent = Agent()
optimizer = torch.optim.Adam(agent.parameters(), lr=1e-3)

envs = gym.make_vec("CartPole-v1", num_envs=args.environments, render_mode="rgb_array")
envs = InterpretVectorWrapper(envs, agent)

ROLLOUT = 16
observations, info = envs.reset(seed=0)
over = torch.zeros(args.environments)  # these are reset by the next step, which is not one of the game
for update in range(max(1, args.steps // (ROLLOUT * args.environments))):
    log_probs, entropies, values, rewards, dones, counts = [], [], [], [], [], []
    for _ in range(ROLLOUT):
        logits, value = agent(torch.from_numpy(observations))
        policy = torch.distributions.Categorical(logits=logits)
        actions = policy.sample()
        observations, reward, terminated, truncated, info = envs.step(actions.numpy())
        log_probs.append(policy.log_prob(actions))
        entropies.append(policy.entropy())
        values.append(value[:, 0])
        rewards.append(torch.as_tensor(reward, dtype=torch.float32))
        counts.append(1 - over)
        over = torch.as_tensor(terminated | truncated, dtype=torch.float32)
        dones.append(over)

    with torch.no_grad():
        ahead = agent(torch.from_numpy(observations))[1][:, 0]
    targets: list[torch.Tensor] = []
    for reward, done in zip(reversed(rewards), reversed(dones), strict=True):
        ahead = reward + 0.99 * ahead * (1 - done)
        targets.insert(0, ahead)
    value, count = torch.stack(values), torch.stack(counts)
    advantage = torch.stack(targets) - value
    gain = torch.stack(log_probs) * advantage.detach() + 0.01 * torch.stack(entropies) - 0.5 * advantage**2
    loss = -(gain * count).sum() / count.sum()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
    optimizer.step()
    if update % 100 == 0:
        print(f"update {update:5}: V(s) {value.mean().item():6.2f}")

envs.close()
