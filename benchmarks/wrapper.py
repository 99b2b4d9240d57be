"""What the wrapper costs the agent's loop: every way of looking on plays the same game in turns, within one run.

The game is Enduro, the loop is an env step and a forward pass of the policy on one thread, actions are greedy: all
variants do the same work. A turn of each variant makes a round; a ratio compares two turns of one round, so that what
else the machine does falls on both. Where things lie in memory makes a loop a few percent faster or slower for as
long as it lives, and what is made first lies best: so all variants are made anew several times, each in another order,
and the bare loop is there twice, to show what that leaves. What no sending of pictures can do without, to render, to
copy and to hand over, is a variant of its own. ``thread_ratio`` compares the time that the agent's own thread computed
for: what is in ``ratio`` beyond it, the agent waited, for a core or for the interpreter. Printed are medians over the
rounds::

    python -m benchmarks.wrapper --rounds 24 --steps 400
"""

from __future__ import annotations

import argparse
import copy
import functools
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import msgspec
import numpy as np
import torch
import zmq
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from agentwrap import InterpretVectorWrapper, InterpretWrapper
from agentwrap.demo import load_policy, make_enduro, models_directory

from .processes import drain, first_heat, free_endpoint, tab, viewer
from .report import Row, run

TITLE = "What looking on costs the agent's loop"
Env = gym.Env[Any, Any]
Times = NDArray[np.float64]

#: How often the variants are made anew: each of them is the first to be made once.
BUILDS = 8


@dataclass
class Player:
    """One variant: an env, a policy of its own, and where it is in the game."""

    name: str
    env: Env
    policy: torch.nn.Module
    after_step: Callable[[Env], None] | None = None

    def __post_init__(self) -> None:
        self.observation, _ = self.env.reset(seed=1)

    def play(self, steps: int) -> tuple[float, float]:
        """Play on; returns microseconds per step: those that passed, and those that this thread computed for."""
        start, computed = time.perf_counter(), time.thread_time()
        for _ in range(steps):
            with torch.no_grad():
                logits, _ = self.policy(torch.from_numpy(np.asarray(self.observation)).unsqueeze(0))
            self.observation, _, terminated, truncated, _ = self.env.step(logits.argmax().item())
            if self.after_step is not None:
                self.after_step(self.env)
            if terminated or truncated:
                self.observation, _ = self.env.reset(seed=1)
        passed, computed = time.perf_counter() - start, time.thread_time() - computed
        return passed / steps * 1e6, computed / steps * 1e6


class Sending(gym.Wrapper[Any, Any, Any, Any]):
    """Renders, copies and sends picture and observation 60 times a second, in straight lines, and nothing else."""

    def __init__(self, env: Env, policy: torch.nn.Module, *, endpoint: str) -> None:
        super().__init__(env)
        self._due, self._steps = 0.0, 0
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(endpoint)
        self._encode = msgspec.msgpack.Encoder().encode

    def say_hello(self) -> None:
        """Send a first message."""
        self._socket.send_multipart([b"hello", b""])

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Reset."""
        self._observation, info = self.env.reset(**options)
        return self._observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step."""
        now = time.perf_counter()
        arrays: list[Any] = []
        if now >= self._due:
            self._due = max(self._due + 1 / 60, now - 1 / 60)
            arrays = [np.array(self._observation), np.array(self.env.render())]
        result = self.env.step(action)
        self._observation = result[0]
        self._steps += 1
        if arrays:
            header = self._encode((self._steps, int(action), float(result[1]), result[2], result[3]))
            self._socket.send_multipart([b"step", header, *arrays], copy=False)
        return result

    def close(self) -> None:
        """End."""
        self._socket.close()
        self.env.close()


class Bench:
    """Makes the variants, and ends what they started."""

    def __init__(self, stack: ExitStack, steps: int) -> None:
        self._stack, self._steps = stack, steps
        self._folder = stack.enter_context(tempfile.TemporaryDirectory())
        self._trained = load_policy(models_directory() / "enduro-expert.safetensors")

    def _player(self, name: str, wrap: Callable[[Env, torch.nn.Module], Env], **more: Any) -> Player:
        # modules of their own, for hooks; but the same weights, for where those lie in memory makes a difference too
        policy = copy.deepcopy(self._trained, {id(weight): weight for weight in self._trained.parameters()})
        env = wrap(make_enduro(), policy)
        self._stack.callback(env.close)
        return Player(name, env, policy, **more)

    def bare(self) -> Player:
        """Play without anyone looking on."""
        return self._player("bare", lambda env, policy: env)

    def again(self) -> Player:
        """Play so once more: what this differs by, others may differ by for nothing."""
        return self._player("bare, once more", lambda env, policy: env)

    def unwatched(self) -> Player:
        """Wrap, with no viewer."""
        return self._player("agentwrap, nobody watching", functools.partial(InterpretWrapper, quiet=True))

    def drained(self, *, nice: int = 0) -> Player:
        """Wrap, with a subscriber in another process that takes everything at 60 frames/s and drops it."""
        endpoint = free_endpoint()
        wrap = functools.partial(InterpretWrapper, endpoint=endpoint, quiet=True)
        name = "agentwrap, a subscriber that only drains"
        player = self._player(f"{name}, niced" if nice else name, wrap)
        self._stack.enter_context(drain(endpoint, nice=nice))
        return player

    def niced(self) -> Player:
        """Wrap, with such a subscriber that leaves the cores to the agent: what its process takes shows in between."""
        return self.drained(nice=10)

    def sent(self) -> Player:
        """Send picture and observation to such a subscriber, and nothing of the policy."""
        endpoint = free_endpoint()
        player = self._player("render, copy and send alone", functools.partial(Sending, endpoint=endpoint))
        assert isinstance(player.env, Sending)
        self._stack.enter_context(drain(endpoint, meanwhile=player.env.say_hello))
        return player

    def viewed(self) -> Player:
        """Wrap, with explainer, page and browser on the same cores, niced."""
        endpoint = free_endpoint()
        wrap = functools.partial(InterpretWrapper, endpoint=endpoint, quiet=True)
        player = self._player("agentwrap, explainer + page + browser", wrap)
        _, address = self._stack.enter_context(viewer(endpoint))
        first_heat(self._stack.enter_context(tab(address)), meanwhile=lambda: player.play(1))
        return player

    def recorded(self) -> Player:
        """Record every step as video, encoding included: one film a turn."""

        def wrap(env: Env, policy: torch.nn.Module) -> Env:
            return gym.wrappers.RecordVideo(
                env,
                self._folder,
                step_trigger=lambda step: step % self._steps == 0,
                video_length=self._steps,
                disable_logger=True,
            )

        return self._player("gymnasium RecordVideo", wrap)

    def logged(self) -> Player:
        """Log every step's picture for TensorBoard."""
        writer = SummaryWriter(self._folder)
        self._stack.callback(writer.close)
        return self._player(
            "TensorBoard add_image per step",
            lambda env, policy: env,
            after_step=lambda env: writer.add_image("frame", np.asarray(env.render()), dataformats="HWC"),
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the peers' warnings out of the table."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def take_turns(players: Sequence[Player], rounds: int, steps: int, settle: float = 0.0) -> list[Row]:
    """Let each play a turn in every round; rows for all. Who goes first changes from round to round.

    Args:
        players: The variants; the first is what the others are compared with.
        rounds: Turns of each.
        steps: Steps in a turn.
        settle: Seconds to wait after each turn, for those who look on to finish what they are at.
    """
    return make_rows([player.name for player in players], play_rounds(players, rounds, steps, settle))


def play_rounds(players: Sequence[Player], rounds: int, steps: int, settle: float = 0.0) -> Times:
    """Play as ``take_turns`` says; returns microseconds per step (passed or computed, round, player)."""
    for player in players:  # warms up: export, allocations, caches
        player.play(steps)
    times = np.zeros((2, rounds, len(players)))
    for number in range(rounds):
        for place in range(len(players)):
            index = (number + place) % len(players)
            times[:, number, index] = players[index].play(steps)
            time.sleep(settle)
    return times


def make_rows(names: Sequence[str], times: Times) -> list[Row]:
    """Make rows of what ``play_rounds`` returned."""
    ratios = np.median(times / times[:, :, :1], axis=1)
    return [
        {
            "benchmark": "wrapper/enduro",
            "variant": name,
            "us_per_step": round(float(np.median(times[0, :, index])), 1),
            "ratio": round(float(ratios[0, index]), 4),
            "thread_ratio": round(float(ratios[1, index]), 4),
        }
        for index, name in enumerate(names)
    ]


def measure_enduro(rounds: int, steps: int, view: bool) -> list[Row]:
    """Measure all variants on Enduro; the whole viewer apart from the others, for it would disturb their turns."""
    builds, names = [], list[str]()
    for build in range(BUILDS):
        with ExitStack() as stack, quiet():
            bench = Bench(stack, steps)
            makers = (
                bench.bare,
                bench.unwatched,
                bench.drained,
                bench.niced,
                bench.sent,
                bench.recorded,
                bench.logged,
                bench.again,
            )
            turned = [(build + place) % len(makers) for place in range(len(makers))]
            made = {index: makers[index]() for index in turned}
            players = [made[index] for index in range(len(makers))]
            names = [player.name for player in players]
            builds.append(play_rounds(players, max(rounds // BUILDS, 1), steps))
    rows = make_rows(names, np.concatenate(builds, axis=1))
    if view:
        with ExitStack() as stack:
            bench = Bench(stack, steps)
            rows += take_turns([bench.bare(), bench.viewed()], rounds, steps, settle=1.0)[1:]
    return rows


def measure_cartpole(rounds: int, steps: int) -> list[Row]:
    """Measure what the wrapper adds to an env step of a few microseconds, with nobody watching."""
    policy = torch.nn.Linear(4, 2)
    bare, wrapped = gym.make("CartPole-v1"), InterpretWrapper(gym.make("CartPole-v1"), policy, quiet=True)
    times = {"bare": [], "agentwrap, nobody watching": []}  # type: dict[str, list[float]]
    for number in range(rounds + 1):
        for name, env in zip(times, (bare, wrapped), strict=True):
            taken = balance(env, steps)
            if number:  # the first round warms up
                times[name].append(taken)
    wrapped.close()
    first = times["bare"]
    return [
        {
            "benchmark": "wrapper/cartpole",
            "variant": name,
            "us_per_step": round(statistics.median(each), 3),
            "added_us": round(statistics.median(a - b for a, b in zip(each, first, strict=True)), 3),
        }
        for name, each in times.items()
    ]


def balance(env: Env, steps: int) -> float:
    """Step CartPole from side to side; returns microseconds per step, resets left out."""
    seconds, done = 0.0, 0
    while done < steps:
        env.reset(seed=1)
        terminated = False
        start = time.perf_counter()
        while not terminated and done < steps:
            _, _, terminated, _, _ = env.step(done % 2)
            done += 1
        seconds += time.perf_counter() - start
    return seconds / steps * 1e6


def measure_vector(rounds: int, steps: int, count: int = 8) -> list[Row]:
    """Measure what the wrapper adds to a step of several CartPoles, nobody watching: time of the agent's thread."""
    bare, inner = (gym.make_vec("CartPole-v1", num_envs=count, vectorization_mode="sync") for _ in range(2))
    wrapped = InterpretVectorWrapper(inner, torch.nn.Linear(4, 2), quiet=True)
    actions = np.random.default_rng(0).integers(0, 2, (steps, count))
    taken = np.zeros((rounds + 1, 2))
    for number in range(rounds + 1):
        for index, envs in enumerate((bare, wrapped)):
            envs.reset(seed=1)
            start = time.thread_time()
            for chosen in actions:
                envs.step(chosen)
            taken[number, index] = (time.thread_time() - start) / steps * 1e6
    wrapped.close()
    bare.close()
    taken = taken[1:]  # the first round warms up
    names = ("bare", "agentwrap, nobody watching")
    return [
        {
            "benchmark": f"wrapper/{count} cartpoles",
            "variant": name,
            "thread_us_per_step": round(float(np.median(taken[:, index])), 2),
            "added_us": round(float(np.median(taken[:, index] - taken[:, 0])), 2),
        }
        for index, name in enumerate(names)
    ]


def measure(*, rounds: int = 24, steps: int = 400, view: bool = True) -> list[Row]:
    """Measure Enduro, CartPole, and several CartPoles."""
    torch.set_num_threads(1)
    enduro = measure_enduro(rounds, steps, view)
    return enduro + measure_cartpole(rounds, 50 * steps) + measure_vector(rounds, 5 * steps)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--rounds", type=int, default=24, help="turns of each variant")
    parser.add_argument("--steps", type=int, default=400, help="steps in a turn")
    parser.add_argument("--no-view", dest="view", action="store_false", help="leave out explainer, page and browser")


if __name__ == "__main__":
    run(TITLE, add_arguments, measure)
