"""What ``InterpretCallback`` costs a model of Stable-Baselines3 while it learns: PPO and DQN with their defaults.

CartPole is among the cheapest environments there are, so what looking on costs weighs most here. Each variant has a
model of its own, and they learn in turns: a fifth of a second, in an order that changes from round to round, from the
same random numbers, so that all do the same work and a ratio compares neighbours in time. A turn is measured from the
first rollout to the end of training: a stream's opening and closing, which a run has once, is not part of it.
``thread_ratio`` compares the time that the learning thread computed for. Printed are medians over the rounds, and in
which range their true value lies with 95 % confidence; what a second model without a callback shows is what is left of
the machine's noise, where a model's memory happens to lie included. New models are made ``fresh`` times for that.

What the callback does while nobody watches it does when environments step. ``learn/step`` measures that alone, where
the noise of learning does not hide it::

    python -m benchmarks.learn --algorithm PPO
    python -m benchmarks.learn --algorithm DQN
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv

from agentwrap.callbacks import InterpretCallback

from .processes import DRAIN, PATIENCE, free_endpoint, helper
from .report import Row, run
from .wrapper import quiet

TITLE = "What looking on costs a model that learns"

Model = PPO | DQN

#: Models as the library makes them, but for a rollout no longer than a turn. The environment draws no pictures:
#: CartPole's take pygame 4 ms each, which would be most of what looking on costs.
MODELS: dict[str, Callable[[], Model]] = {
    "PPO": lambda: PPO("MlpPolicy", gym.make("CartPole-v1"), n_steps=256, seed=0, device="cpu"),
    "DQN": lambda: DQN("MlpPolicy", gym.make("CartPole-v1"), learning_starts=100, seed=0, device="cpu"),
}


class Stopwatch(BaseCallback):
    """Measures from the first rollout to the end of training, in microseconds: passed, and computed by this thread."""

    def __init__(self, watched: InterpretCallback | None) -> None:
        super().__init__()
        self._watched = watched
        self._began: tuple[float, float] | None = None
        self.taken = (math.nan, math.nan)

    def _on_training_start(self) -> None:
        self._began = None

    def _on_rollout_start(self) -> None:
        if self._began is None:
            if self._watched is not None:
                _until_watched(self._watched)
            self._began = time.perf_counter(), time.thread_time()

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        assert self._began is not None
        passed, computed = time.perf_counter() - self._began[0], time.thread_time() - self._began[1]
        self.taken = passed * 1e6, computed * 1e6


def _until_watched(callback: InterpretCallback) -> None:
    """Wait until the subscriber of the turn before has found the new stream."""
    assert callback.env is not None
    publisher, deadline = callback.env._stream.publisher, time.monotonic() + PATIENCE
    while not publisher.watched:
        if time.monotonic() > deadline:
            raise RuntimeError(f"nobody subscribed to {callback.env.endpoint} within {PATIENCE} s")
        time.sleep(0.005)


@dataclass
class Learner:
    """One variant: a model of its own that learns in turns."""

    make: Callable[[], Model]
    callback: InterpretCallback | None = None
    watched: bool = False

    def renew(self) -> None:
        """Begin with a new model."""
        self._model = self.make()

    def learn(self, seed: int, steps: int) -> tuple[float, float]:
        """Learn on; returns microseconds per step: those that passed, and those that this thread computed for."""
        stopwatch = Stopwatch(self.callback if self.watched else None)
        # the stopwatch begins at a rollout, when the stream is open, and ends as the first to hear of the end
        callbacks: list[BaseCallback] = [stopwatch, *([] if self.callback is None else [self.callback])]
        set_random_seed(seed)
        self._model.learn(steps, callback=CallbackList(callbacks), reset_num_timesteps=False)
        passed, computed = stopwatch.taken
        return passed / steps, computed / steps


def measure_model(name: str, rounds: int, steps: int, fresh: int) -> list[Row]:
    """Measure one algorithm twice without a callback, with nobody watching, and with a subscriber that only drains."""
    endpoint, make = free_endpoint(), MODELS[name]
    learners = {
        "bare": Learner(make),
        "bare, once more": Learner(make),  # what differs from the first is noise
        "InterpretCallback, nobody watching": Learner(make, InterpretCallback(quiet=True)),
        "InterpretCallback, a subscriber that only drains": Learner(
            make, InterpretCallback(endpoint=endpoint, quiet=True), watched=True
        ),
    }
    times = np.zeros((rounds, len(learners), 2))
    turns = list(learners.values())
    with ExitStack() as stack, quiet():
        stack.enter_context(helper("-c", DRAIN, endpoint))  # comes back to each new stream within a tenth of a second
        for number in range(rounds):
            if number % math.ceil(rounds / fresh) == 0:
                for learner in turns:
                    learner.renew()
                    learner.learn(number, steps)  # warms up, and DQN's buffer has something to learn from
            for place in range(len(turns)):
                index = (number + place) % len(turns)
                times[number, index] = turns[index].learn(number, steps)
    return [
        {
            "benchmark": f"learn/{name}",
            "variant": variant,
            "us_per_step": round(float(np.median(times[:, i, 0])), 1),
            **_ratio("ratio", times[:, i, 0] / times[:, 0, 0]),
            "thread_us_per_step": round(float(np.median(times[:, i, 1])), 1),
            **_ratio("thread_ratio", times[:, i, 1] / times[:, 0, 1]),
        }
        for i, variant in enumerate(learners)
    ]


def measure_step(rounds: int = 25, steps: int = 2000) -> list[Row]:
    """Measure what a step of a model's environments takes with nobody watching, beside one without a callback."""
    model, callback = MODELS["PPO"](), InterpretCallback(quiet=True)
    environments = model.get_env()
    assert environments is not None
    environments.reset()
    callback.init_callback(model)
    times = np.zeros((rounds, 2))
    for number in range(-1, rounds):  # the first round warms up
        bare = _step(environments, steps)
        callback.on_training_start({}, {})
        times[number] = bare, _step(environments, steps)
        callback.on_training_end()
    added = times[:, 1] - times[:, 0]
    low, high = _confidence(added)
    return [
        {
            "benchmark": "learn/step",
            "variant": "InterpretCallback, nobody watching",
            "bare_thread_us_per_step": round(float(np.median(times[:, 0])), 1),
            "added_thread_us_per_step": round(float(np.median(added)), 1),
            "added_95": f"{low:.1f} to {high:.1f}",
        }
    ]


def _step(environments: VecEnv, steps: int) -> float:
    """Step to and fro; returns the microseconds per step that this thread computed for."""
    actions, began = np.zeros(1, np.int64), time.thread_time()
    for number in range(steps):
        actions[0] = number % 2
        environments.step(actions)
    return (time.thread_time() - began) / steps * 1e6


def _ratio(name: str, ratios: Any) -> Row:
    low, high = _confidence(ratios)
    return {name: round(float(np.median(ratios)), 4), f"{name}_95": f"{low:.3f} to {high:.3f}"}


def _confidence(values: Any) -> tuple[float, float]:
    """Return the order statistics between which the true median lies with 95 % confidence (sign test)."""
    ordered, count = np.sort(values), len(values)
    below = np.cumsum([math.comb(count, k) / 2.0**count for k in range(count)])
    first = max(0, int(np.searchsorted(below, 0.025, side="right")) - 1)
    return float(ordered[first]), float(ordered[count - 1 - first])


def measure(*, algorithm: str | None = None, rounds: int = 64, steps: int = 256, fresh: int = 4) -> list[Row]:
    """Measure both algorithms, or one."""
    torch.set_num_threads(1)
    names = list(MODELS) if algorithm is None else [algorithm]
    learning = [row for name in names for row in measure_model(name, rounds, steps, fresh)]
    return [*learning, *measure_step()]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--algorithm", choices=list(MODELS), help="one alone (default: both)")
    parser.add_argument("--rounds", type=int, default=64, help="turns of each variant")
    parser.add_argument("--steps", type=int, default=256, help="steps of learning in a turn")
    parser.add_argument("--fresh", type=int, default=4, help="how often to begin with new models")


if __name__ == "__main__":
    run(TITLE, add_arguments, measure)
