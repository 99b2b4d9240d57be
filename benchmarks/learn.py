"""What ``InterpretCallback`` costs a model of Stable-Baselines3 while it learns: PPO and DQN with their defaults.

CartPole is among the cheapest environments there are, so what looking on costs weighs most here. A turn is one
``learn`` of a new model from the same seed, so all variants do the same work; a ratio compares turns of one round.
``thread_ratio`` compares the time that the learning thread computed for; what a second model without a callback shows
is what the machine's noise amounts to. Printed are medians over the rounds::

    python -m benchmarks.learn --rounds 6 --steps 8192
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import DQN, PPO

from agentwrap.callbacks import InterpretCallback

from .processes import DRAIN, free_endpoint, helper
from .report import Row, run
from .wrapper import quiet

TITLE = "What looking on costs a model that learns"

Model = PPO | DQN

#: Models as the library makes them, but for a rollout no longer than a turn. The environment draws no pictures:
#: CartPole's take pygame 4 ms each, which would be most of what looking on costs.
MODELS: dict[str, Callable[[], Model]] = {
    "PPO": lambda: PPO("MlpPolicy", gym.make("CartPole-v1"), n_steps=1024, seed=0, device="cpu"),
    "DQN": lambda: DQN("MlpPolicy", gym.make("CartPole-v1"), learning_starts=100, seed=0, device="cpu"),
}


def turn(make: Callable[[], Model], steps: int, callback: InterpretCallback | None) -> tuple[float, float]:
    """Learn once; returns microseconds per step: those that passed, and those that this thread computed for."""
    model = make()
    start, computed = time.perf_counter(), time.thread_time()
    model.learn(steps, callback=callback)
    return (time.perf_counter() - start) / steps * 1e6, (time.thread_time() - computed) / steps * 1e6


def measure_model(name: str, rounds: int, steps: int) -> list[Row]:
    """Measure one algorithm twice without a callback, with nobody watching, and with a subscriber that only drains."""
    endpoint = free_endpoint()
    callbacks: dict[str, Callable[[], InterpretCallback | None]] = {
        "bare": lambda: None,
        "bare, once more": lambda: None,  # what differs from the first is noise
        "InterpretCallback, nobody watching": lambda: InterpretCallback(endpoint=free_endpoint(), quiet=True),
        "InterpretCallback, a subscriber that only drains": lambda: InterpretCallback(endpoint=endpoint, quiet=True),
    }
    times: Any = np.zeros((2, rounds, len(callbacks)))
    with ExitStack() as stack, quiet():
        stack.enter_context(helper("-c", DRAIN, endpoint))  # comes back to each new stream within a tenth of a second
        for number in range(-1, rounds):  # the first round warms up
            for place in range(len(callbacks)):
                index = (number + place) % len(callbacks)
                taken = turn(MODELS[name], steps, list(callbacks.values())[index]())
                times[:, max(number, 0), index] = taken
    return [
        {
            "benchmark": f"learn/{name}",
            "variant": variant,
            "us_per_step": round(float(np.median(times[0, :, i])), 1),
            "ratio": round(float(np.median(times[0, :, i] / times[0, :, 0])), 4),
            "thread_us_per_step": round(float(np.median(times[1, :, i])), 1),
            "thread_ratio": round(float(np.median(times[1, :, i] / times[1, :, 0])), 4),
        }
        for i, variant in enumerate(callbacks)
    ]


def measure(*, rounds: int = 6, steps: int = 8192) -> list[Row]:
    """Measure both algorithms."""
    torch.set_num_threads(1)
    return [row for name in MODELS for row in measure_model(name, rounds, steps)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--rounds", type=int, default=6, help="turns of each variant")
    parser.add_argument("--steps", type=int, default=8192, help="steps of learning in a turn")


if __name__ == "__main__":
    run(TITLE, add_arguments, measure)
