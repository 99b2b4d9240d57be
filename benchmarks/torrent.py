"""An agent that streams messages of Enduro's sizes faster than a game: ``python -m benchmarks.torrent ENDPOINT SPEED``.

The demo's policy acts, on pictures of noise. Begins when an explainer listens, ends when its standard input closes.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from agentwrap import InterpretWrapper
from agentwrap.demo import Pace, load_policy, models_directory, stop_with_standard_input

#: Pictures that are shown in turn, and steps of an episode.
PICTURES, EPISODE = 64, 1000


class Noise(gym.Env[Any, Any]):
    """Costs next to nothing. Observations are uint8 (4, 84, 84), frames uint8 (210, 160, 3)."""

    metadata = {"render_modes": ["rgb_array"]}
    render_mode = "rgb_array"

    def __init__(self, actions: int) -> None:
        rng = np.random.default_rng(0)
        self.observation_space = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)
        self.action_space = gym.spaces.Discrete(actions)
        self._observations = rng.integers(0, 256, (PICTURES, 4, 84, 84), dtype=np.uint8)
        # blocks of one colour: pictures deflate about as well as a game's
        self._frames = rng.integers(0, 256, (PICTURES, 21, 16, 3), dtype=np.uint8).repeat(10, axis=1).repeat(10, axis=2)
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        return self._observations[self._steps % PICTURES], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Show the next picture."""
        self._steps += 1
        over = self._steps % EPISODE == 0
        return self._observations[self._steps % PICTURES], float(over), over, False, {}

    def render(self) -> Any:
        """Return the frame."""
        return self._frames[self._steps % PICTURES]


def main(endpoint: str, speed: float) -> None:
    """Stream without end."""
    stop_with_standard_input()
    torch.set_num_threads(1)
    policy = load_policy(models_directory() / "enduro-expert.safetensors")
    env = InterpretWrapper(Noise(policy.actor.out_features), policy, endpoint=endpoint, name="Noise", fps=speed)
    env.wait_for_viewer()
    observation, _ = env.reset(seed=0)
    pace = Pace(speed)
    for _ in itertools.count():
        with torch.no_grad():
            logits, _ = policy(torch.from_numpy(observation)[None])
        observation, _, terminated, _, _ = env.step(int(logits.argmax()))
        if terminated:
            observation, _ = env.reset()
        pace.wait()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
