"""Untrained models of Stable-Baselines3 on small environments, with weights that differ from zero in every head."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch


class Pictures(gym.Env[Any, Any]):
    """Random pictures, channels last as cameras give them, of an Atari game's kind."""

    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, channels: int = 4, actions: int = 3, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space = gym.spaces.Box(0, 255, (36, 36, channels), np.uint8)
        self.action_space = gym.spaces.Discrete(actions)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._shown = self._picture()
        return self._shown, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._shown = self._picture()
        return self._shown, 1.0, False, False, {}

    def render(self) -> Any:
        return np.repeat(self._shown[..., :1], 3, axis=2)

    def _picture(self) -> Any:
        return self.np_random.integers(0, 256, self.observation_space.shape, np.uint8)


class Mixed(Pictures):
    """A picture and a vector, and switches for actions."""

    def __init__(self) -> None:
        super().__init__()
        vector = gym.spaces.Box(-1, 1, (3,), np.float32)
        self.observation_space = gym.spaces.Dict({"camera": self.observation_space, "joints": vector})
        self.action_space = gym.spaces.MultiDiscrete([3, 2])

    def _picture(self) -> Any:
        camera = self.np_random.integers(0, 256, self.observation_space["camera"].shape, np.uint8)
        return {"camera": camera, "joints": self.np_random.uniform(-1, 1, 3).astype(np.float32)}


def make(algorithm: Any, env: gym.Env[Any, Any] | str, policy: str = "MlpPolicy", **options: Any) -> Any:
    """A model whose heads are far from zero, so that actions depend on observations."""
    model = algorithm(policy, env, device="cpu", seed=0, **options)
    with torch.no_grad():
        for name, parameter in model.policy.named_parameters():
            if name.startswith(("action_net", "value_net")):
                parameter.mul_(30).add_(0.1)
    return model
