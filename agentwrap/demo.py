"""The agent of ``agentwrap demo``: a trained network plays Enduro, and one line lets a viewer look in.

Run alone, it is an agent like any other, which ``agentwrap view`` finds from another terminal::

    python -m agentwrap.demo --policy expert
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from .wrapper import InterpretWrapper

try:
    import ale_py
    import cv2  # noqa: F401  gymnasium's AtariPreprocessing resizes with it
    import torch
    from safetensors.torch import load_file
    from torch import Tensor, nn
except ImportError as error:
    message = f'the demo needs {error.name}: run `pip install "agentwrap-rl[atari]"`'
    raise ImportError(message, name=error.name) from error

POLICIES = ("expert", "novice")


class NatureCNN(nn.Module):
    """The network of Mnih et al. (2015), doi:10.1038/nature14236, with an actor's and a critic's head.

    ``forward`` takes uint8 observations (B, 4, 84, 84) and returns ``(logits, value)``: (B, actions) and (B, 1).
    """

    def __init__(self, actions: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(4, 32, 8, stride=4), nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2), nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=1), nn.ReLU(),
            nn.Flatten(),
            nn.Linear(3136, 512), nn.ReLU(),
        )  # fmt: skip
        self.actor = nn.Linear(512, actions)
        self.critic = nn.Linear(512, 1)

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of the actions and the value of the state."""
        latent = self.features(observation / 255)
        return self.actor(latent), self.critic(latent)


def models_directory() -> Path:
    """Return the directory of the trained policies: inside an installed package, ``examples/models`` in a checkout."""
    package = Path(__file__).resolve().parent
    for directory in (package / "models", package.parent / "examples" / "models"):
        if directory.is_dir():
            return directory
    raise FileNotFoundError("the trained policies are missing: neither agentwrap/models nor examples/models is there")


def load_policy(path: Path) -> NatureCNN:
    """Read a policy that ``examples/train_atari.py`` saved. Weights stored as float16 are computed with as float32."""
    weights = {name: tensor.float() for name, tensor in load_file(path).items()}
    policy = NatureCNN(actions=len(weights["actor.bias"]))
    policy.load_state_dict(weights)
    return policy.eval()


def make_enduro() -> gym.Env[Any, Any]:
    """Make the game as the policies were trained on it: every 4th frame, four of them stacked, 84 × 84, grey."""
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # no banner
    gym.register_envs(ale_py)
    env = gym.make("ALE/Enduro-v5", frameskip=1, repeat_action_probability=0.0, render_mode="rgb_array")
    env = gym.wrappers.AtariPreprocessing(env, noop_max=30, frame_skip=4)
    return gym.wrappers.FrameStackObservation(env, 4)


def play(env: gym.Env[Any, Any], policy: nn.Module, *, steps: int | None, speed: float, seed: int | None) -> None:
    """Play ``steps`` steps, sampling the actions.

    Args:
        env: The game, as ``make_enduro`` returns it.
        policy: Gives ``(logits, value)`` for a batch of observations.
        steps: How many; None for without end.
        speed: Most steps per second; 0 for as fast as it goes.
        seed: Makes the game and the sampled actions repeatable.
    """
    rng = torch.Generator()
    rng.manual_seed(seed) if seed is not None else rng.seed()
    observation, _ = env.reset(seed=seed)
    pace = Pace(speed)
    for _ in itertools.count() if steps is None else range(steps):
        with torch.no_grad():
            logits, _ = policy(torch.from_numpy(np.asarray(observation)).unsqueeze(0))
        action = torch.multinomial(logits.softmax(dim=-1), 1, generator=rng).item()
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            observation, _ = env.reset()
        pace.wait()


class Pace:
    """Holds a loop to ``rate`` turns a second; a turn that took too long is not made up for."""

    def __init__(self, rate: float) -> None:
        self._interval = 1 / rate if rate > 0 else 0.0
        self._next = time.perf_counter()

    def wait(self) -> None:
        """Sleep until the next turn is due."""
        now = time.perf_counter()
        self._next = max(self._next + self._interval, now)
        if self._next > now:
            time.sleep(self._next - now)


def stop_with_standard_input() -> None:
    """Interrupt this process when its standard input closes: a child started so never outlives its parent."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="watch-stdin", daemon=True).start()


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = argparse.ArgumentParser(prog="python -m agentwrap.demo", description=__doc__.partition("\n")[0])
    options.add_argument("--policy", choices=POLICIES, default="expert", help="which of the two trained policies plays")
    options.add_argument("--steps", type=int, help="end after so many steps (default: play on)")
    options.add_argument("--speed", type=float, default=30.0, help="steps per second, 0 for as fast as it goes")
    options.add_argument("--seed", type=int, help="make the game and the sampled actions repeatable")
    options.add_argument("--record", metavar="FILE", help="record to this file")
    options.add_argument("--takeover", choices=POLICIES, help="the policy that takes over after half of the steps")
    options.add_argument("--endpoint", help="where to stream (default: the first free port from 5590)")
    options.add_argument(
        "--companion", action="store_true", help="begin when an explainer listens, end when standard input closes"
    )
    return options


def main(argv: list[str] | None = None) -> int:
    """Play until told to stop (Ctrl-C, SIGTERM, ``--steps``). Returns the exit status."""
    options = parser()
    arguments = options.parse_args(argv)
    if arguments.takeover is not None and arguments.steps is None:
        options.error("--takeover needs --steps: it happens after half of them")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if arguments.companion:
        stop_with_standard_input()
    try:
        run(arguments)
    except KeyboardInterrupt:
        return 130
    return 0


def run(arguments: argparse.Namespace) -> None:
    """Play as the command line says."""
    torch.set_num_threads(1)
    policy = load_policy(models_directory() / f"enduro-{arguments.policy}.safetensors")
    env = InterpretWrapper(
        make_enduro(),
        policy,
        endpoint=arguments.endpoint,
        name=f"Enduro, {arguments.policy}",
        record=arguments.record,
        weights_every=1e-9,  # seconds: the step after the takeover is one of the other policy
    )
    with contextlib.closing(env):
        if arguments.companion:
            env.wait_for_viewer()
        steps = arguments.steps
        if arguments.takeover is not None:
            steps = steps - steps // 2
            play(env, policy, steps=arguments.steps // 2, speed=arguments.speed, seed=arguments.seed)
            other = load_policy(models_directory() / f"enduro-{arguments.takeover}.safetensors")
            policy.load_state_dict(other.state_dict())
        play(env, policy, steps=steps, speed=arguments.speed, seed=arguments.seed)


if __name__ == "__main__":
    sys.exit(main())
