"""What recording costs the agent's loop, what a step takes on disk, and how fast a long recording opens.

The loop is that of ``benchmarks.wrapper``, as are turns and ratios. Gymnasium's ``RecordVideo`` records frames,
Minari's ``DataCollector`` observations, agentwrap both and what the policy computed. What no recording of pictures
can do without, to render and to copy, is a variant of its own. A long recording is
made of a short one's steps, over and over, and opened by a process of its own::

    python -m benchmarks.recording --rounds 12 --steps 400 --long 100000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import msgspec
import numpy as np
import torch

from agentwrap import InterpretWrapper
from agentwrap_protocol import Message
from agentwrap_protocol.mcap_encoder import McapEncoder, describe
from agentwrap_viewer import open_recording

from .processes import free_endpoint
from .report import Row, run
from .wrapper import Bench, Env, Player, quiet, take_turns

TITLE = "What recording costs"

#: Steps between two turns that the writer is given to come to rest, in seconds.
SETTLE = 0.3

#: Measures a recording in a process of its own: opening, jumps to steps anywhere, and what all of it takes of memory.
OPENING = """
import json, random, sys, time
from agentwrap_viewer import recording as room
start = time.perf_counter()
recording = room.open_recording(sys.argv[1])
count = len(recording.steps)
opened = time.perf_counter() - start
jumps = []
for index in random.Random(0).sample(range(count), 300):
    start = time.perf_counter()
    assert recording.steps[index].step == index
    jumps.append(time.perf_counter() - start)
start = time.perf_counter()
recording.array("reward"), recording.array("value")
columns = time.perf_counter() - start
jumps.sort()
peak = int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])  # getrusage has the parent's
print(json.dumps({"steps": count, "open_s": round(opened, 4), "jump_ms_p50": round(1000 * jumps[150], 2),
                  "jump_ms_p99": round(1000 * jumps[297], 2), "two_columns_s": round(columns, 3),
                  "peak_mb": round(peak / 1000, 1)}))
"""


class Copying(gym.Wrapper[Any, Any, Any, Any]):
    """Renders before each step, and copies picture and observation."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset."""
        self.observation, info = self.env.reset(seed=seed, options=options)
        return self.observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step."""
        self.copies = np.array(self.env.render()), np.array(self.observation)
        result = self.env.step(action)
        self.observation = result[0]
        return result


class RecordingBench(Bench):
    """The variants of ``benchmarks.wrapper``, and those that record."""

    def copied(self) -> Player:
        """Render and copy, and write nothing."""
        return self._player("render and copies alone", lambda env, policy: Copying(env))

    def agentwrap(self, path: Path) -> Player:
        """Record every step with everything."""
        return self._player(
            "agentwrap record=",
            lambda env, policy: InterpretWrapper(env, policy, record=path, endpoint=free_endpoint(), quiet=True),
        )

    def minari(self) -> Player:
        """Record every step's observation."""

        def wrap(env: Env, policy: torch.nn.Module) -> Any:
            return minari.DataCollector(env)

        return self._player("Minari DataCollector", wrap)


def measure_loop(path: Path, rounds: int, steps: int) -> list[Row]:
    """Measure what the agent's loop pays, and what a step takes on disk."""
    with ExitStack() as stack, quiet():
        bench = RecordingBench(stack, steps)
        player = bench.agentwrap(path)
        recorder = player.env.recorder  # type: ignore[attr-defined]
        players = [bench.bare(), bench.copied(), player, bench.recorded(), bench.minari()]
        rows = take_turns(players, rounds, steps, settle=SETTLE)
        waited = recorder.waited_seconds
    for row in rows:
        row["benchmark"] = "recording/enduro"
    return [*rows, {"benchmark": "recording/disk", "waited_s": round(waited, 3), **bytes_per_step(path)}]


def bytes_per_step(path: Path) -> Row:
    """Bytes of a step as recorded, and with observation and frame alone; the policy left out."""
    with open_recording(path) as recording:
        steps = recording.steps[:1500]
        whole = _size(steps)
        pictures = _size(
            msgspec.structs.replace(step, arrays={name: step.arrays[name] for name in ("observation", "frame")})
            for step in steps
        )
        return {"bytes_per_step": round(whole / len(steps)), "observation_and_frame": round(pictures / len(steps))}


def _size(messages: Any) -> int:
    encoder = McapEncoder(library="benchmark")
    return sum(len(encoder.add(message)) for message in messages) + len(encoder.finish())


def measure_long(short: Path, path: Path, steps: int) -> list[Row]:
    """Measure a recording of so many steps, made of a short one's."""
    with open_recording(short) as recording, open(path, "wb") as file:
        encoder = McapEncoder(library="benchmark")
        first: list[Message] = list(recording.steps[:400])
        hello = recording.hello
        assert hello is not None
        file.write(encoder.begin(describe(hello)) + encoder.add(hello))
        for number in range(steps):
            step = msgspec.structs.replace(first[number % len(first)], seq=number, step=number)
            file.write(encoder.add(step))
        file.write(encoder.finish())
    result = subprocess.run([sys.executable, "-c", OPENING, str(path)], capture_output=True, text=True, check=True)
    return [
        {"benchmark": "recording/long", "file_mb": round(path.stat().st_size / 1e6, 1), **json.loads(result.stdout)}
    ]


def measure(*, rounds: int = 12, steps: int = 400, long: int = 100_000) -> list[Row]:
    """Measure the loop, the disk and a long recording."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        short = Path(folder) / "short.mcap"
        rows = measure_loop(short, rounds, steps)
        return rows + (measure_long(short, Path(folder) / "long.mcap", long) if long else [])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--rounds", type=int, default=12, help="turns of each variant")
    parser.add_argument("--steps", type=int, default=400, help="steps in a turn")
    parser.add_argument("--long", type=int, default=100_000, help="steps of the long recording, 0 for none")


if __name__ == "__main__":
    run(TITLE, add_arguments, measure)
