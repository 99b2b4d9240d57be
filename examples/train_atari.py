"""Train an Atari agent from scratch with PPO, and watch it learn.

    pip install "agentwrap-rl[viewer,atari]"
    python examples/train_atari.py --view
    python examples/train_atari.py --game breakout --steps 10_000_000 --save breakout.safetensors

PPO as in Schulman et al. (2017), arXiv:1707.06347, with the usual details for Atari: generalised advantage estimation,
clipped rewards, an annealed learning rate, orthogonal initialisation. With the defaults, Enduro takes two hours on two
cores; the return stays at 0 for the first million steps, then climbs to about 450.

With ``--view`` the network plays one more game while it learns, one step for each step of the training games: that
game's env is wrapped, the training loop is left as it is.
"""

import argparse
import time
from collections import deque

import ale_py
import gymnasium as gym
import numpy as np
import torch
from ale_py.vector_env import AtariVectorEnv
from safetensors.torch import save_file
from torch import nn
from torch.distributions import Categorical

from agentwrap import InterpretWrapper

GAMMA, LAMBDA = 0.99, 0.95
EPOCHS, MINIBATCHES = 2, 4
LEARNING_RATE, CLIP, ENTROPY, VALUE, MAX_GRADIENT = 4e-4, 0.1, 0.01, 0.5, 0.5


class ActorCritic(nn.Module):
    """Nature CNN with two heads: (B, 4, 84, 84) uint8 in, logits (B, actions) and value (B, 1) out."""

    def __init__(self, actions: int) -> None:
        super().__init__()
        root_two = 2**0.5
        self.features = nn.Sequential(
            orthogonal(nn.Conv2d(4, 32, 8, stride=4), root_two), nn.ReLU(),
            orthogonal(nn.Conv2d(32, 64, 4, stride=2), root_two), nn.ReLU(),
            orthogonal(nn.Conv2d(64, 64, 3, stride=1), root_two), nn.ReLU(),
            nn.Flatten(),
            orthogonal(nn.Linear(64 * 7 * 7, 512), root_two), nn.ReLU(),
        )  # fmt: skip
        self.actor = orthogonal(nn.Linear(512, actions), 0.01)
        self.critic = orthogonal(nn.Linear(512, 1), 1.0)

    def forward(self, observation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the actions' logits and the state's value."""
        latent = self.features(observation / 255)
        return self.actor(latent), self.critic(latent)


def orthogonal(layer: nn.Conv2d | nn.Linear, gain: float) -> nn.Module:
    """Initialise a layer's weights orthogonally and its biases with zero."""
    nn.init.orthogonal_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class WatchedGame:
    """One more game that the network plays while it learns, for people to look at."""

    def __init__(self, game: str, network: nn.Module, device: torch.device) -> None:
        gym.register_envs(ale_py)
        title = "".join(word.capitalize() for word in game.split("_"))
        env = gym.make(f"ALE/{title}-v5", frameskip=1, repeat_action_probability=0.0, render_mode="rgb_array")
        env = gym.wrappers.AtariPreprocessing(env, noop_max=30, frame_skip=4)
        env = gym.wrappers.FrameStackObservation(env, 4)
        self.env = InterpretWrapper(env, network, name=f"{title}, learning", view=True)  # the one line
        self.network, self.device = network, device
        self.observation, _ = self.env.reset()

    def step(self) -> None:
        """Let the network as it is now take one action."""
        with torch.no_grad():
            logits, _ = self.network(torch.as_tensor(np.asarray(self.observation), device=self.device)[None])
        action = Categorical(logits=logits).sample().item()
        self.observation, _, terminated, truncated, _ = self.env.step(action)
        if terminated or truncated:
            self.observation, _ = self.env.reset()


class Games:
    """The games that are trained on, side by side, and how their episodes went."""

    def __init__(self, game: str, count: int, seed: int) -> None:
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # no banner
        same_step = gym.vector.AutoresetMode.SAME_STEP  # the observation after an episode's end is the next one's first
        self.envs = AtariVectorEnv(game, count, autoreset_mode=same_step, reward_clipping=False)
        self.observation, _ = self.envs.reset(seed=seed)
        self.running_returns = np.zeros(count)
        self.finished_returns: deque[float] = deque(maxlen=30)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take one action in each game; returns the rewards and which episodes ended."""
        self.observation, reward, terminated, truncated, _ = self.envs.step(action)
        ended = terminated | truncated
        self.running_returns += reward
        self.finished_returns.extend(self.running_returns[ended])
        self.running_returns[ended] = 0
        return reward, ended


class Rollout:
    """What ``length`` steps of all games gave, and the advantages that follow from it."""

    def __init__(self, length: int, games: int, device: torch.device) -> None:
        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.zeros(length, games, *shape, dtype=dtype, device=device)

        self.device = device
        self.observations = zeros(4, 84, 84, dtype=torch.uint8)
        self.actions = zeros(dtype=torch.int64)
        self.log_probs, self.values, self.rewards, self.ends = zeros(), zeros(), zeros(), zeros()

    @torch.no_grad()
    def collect(self, games: Games, network: nn.Module, watched: WatchedGame | None) -> torch.Tensor:
        """Play on; returns the value of the state that the games are in afterwards."""
        for t in range(len(self.actions)):
            if watched:
                watched.step()
            self.observations[t] = torch.as_tensor(games.observation, device=self.device)
            logits, value = network(self.observations[t])
            policy = Categorical(logits=logits)
            self.actions[t] = policy.sample()
            self.log_probs[t], self.values[t] = policy.log_prob(self.actions[t]), value.squeeze(-1)
            reward, ended = games.step(self.actions[t].cpu().numpy())
            self.rewards[t] = torch.as_tensor(np.sign(reward), device=self.device)
            self.ends[t] = torch.as_tensor(ended, device=self.device)
        _, value = network(torch.as_tensor(games.observation, device=self.device))
        return value.squeeze(-1)

    def advantages(self, next_value: torch.Tensor) -> torch.Tensor:
        """Generalised advantage estimation (Schulman et al. 2015, arXiv:1506.02438); truncated counts as ended."""
        result = torch.zeros_like(self.rewards)
        advantage = torch.zeros_like(next_value)
        for t in reversed(range(len(self.rewards))):
            goes_on = 1 - self.ends[t]
            delta = self.rewards[t] + GAMMA * goes_on * next_value - self.values[t]
            result[t] = advantage = delta + GAMMA * LAMBDA * goes_on * advantage
            next_value = self.values[t]
        return result


def update(network: nn.Module, optimizer: torch.optim.Optimizer, rollout: Rollout, advantages: torch.Tensor) -> None:
    """Improve the network on the clipped surrogate objective."""
    observations, actions, log_probs = (
        tensor.flatten(0, 1) for tensor in (rollout.observations, rollout.actions, rollout.log_probs)
    )
    returns, advantages = (advantages + rollout.values).flatten(), advantages.flatten()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(actions), device=actions.device).chunk(MINIBATCHES):
            logits, value = network(observations[rows])
            policy = Categorical(logits=logits)
            ratio = (policy.log_prob(actions[rows]) - log_probs[rows]).exp()
            gain = advantages[rows]
            gain = (gain - gain.mean()) / (gain.std() + 1e-8)
            policy_loss = -torch.min(ratio * gain, ratio.clamp(1 - CLIP, 1 + CLIP) * gain).mean()
            value_loss = 0.5 * (value.squeeze(-1) - returns[rows]).square().mean()
            loss = policy_loss + VALUE * value_loss - ENTROPY * policy.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT)
            optimizer.step()


def train(args: argparse.Namespace) -> None:
    """Train, print progress, save: also when interrupted."""
    torch.manual_seed(args.seed)
    device = torch.device(args.device)
    games = Games(args.game, args.games, args.seed)
    network = ActorCritic(int(games.envs.single_action_space.n)).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, eps=1e-5)
    rollout = Rollout(args.rollout, args.games, device)
    watched = WatchedGame(args.game, network, device) if args.view else None
    batch = args.rollout * args.games
    updates, start = max(1, args.steps // batch), time.perf_counter()
    try:
        for number in range(updates):
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - number / updates)
            next_value = rollout.collect(games, network, watched)
            update(network, optimizer, rollout, rollout.advantages(next_value))
            print_progress(games, (number + 1) * batch, updates * batch, time.perf_counter() - start)
    except KeyboardInterrupt:
        print("stopped early")
    finally:
        if watched:
            watched.env.close()
    weights = {name: tensor.detach().cpu().half() for name, tensor in network.state_dict().items()}
    save_file(weights, args.save, metadata={"env": args.game, "architecture": "nature-cnn-4x84x84-512"})
    print(f"saved {args.save}")


def print_progress(games: Games, steps: int, all_steps: int, seconds: float) -> None:
    """Print one line."""
    returns = games.finished_returns
    mean = f"{np.mean(returns):.1f} over the last {len(returns)} episodes" if returns else "(no episode ended yet)"
    print(f"{steps:>10,} of {all_steps:,} steps  {steps / seconds:6.0f} a second  return {mean}", flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--game", default="enduro", help="an Atari game, in snake_case")
    parser.add_argument("--steps", type=int, default=4_000_000, help="decisions of all games together (4 frames each)")
    parser.add_argument("--games", type=int, default=16, help="games that are played side by side")
    parser.add_argument("--rollout", type=int, default=128, help="steps of each game between two updates")
    parser.add_argument("--view", action="store_true", help="watch the network play while it learns")
    parser.add_argument("--save", default="policy.safetensors", help="where the trained weights go")
    parser.add_argument("--device", default="cpu", help="where torch computes, e.g. cuda")
    parser.add_argument("--seed", type=int, default=1, help="seed of the games and the network")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
