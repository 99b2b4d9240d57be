"""``agentwrap demo``: a trained agent plays Enduro in a process of its own, and the viewer looks at it."""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from .commands.arguments import VIEWER_NEEDS, add_page, need
from .launch import LaunchError, run_viewer

if TYPE_CHECKING:
    from .page.store import Store
    from .replay.store import RecordedStore

POLICIES = ("expert", "novice")

#: What the agent imports beside what the viewer does.
AGENT_NEEDS = ("ale_py", "cv2", "safetensors", "mcap", "zstandard")

INSTALL = 'pip install "agentwrap-rl[viewer,atari]"'

#: Steps that are recorded for a comparison unless told otherwise.
COMPARED = 400

#: Seconds of silence after which an agent with ``--steps`` counts as gone although it did not say goodbye.
GONE = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``agentwrap demo``."""
    parser.add_argument(
        "--policy", choices=POLICIES, default="expert", help="the well trained or the barely trained agent"
    )
    parser.add_argument(
        "--compare", action="store_true", help="let both play, and explain each step with both, side by side"
    )
    parser.add_argument("--steps", type=positive, metavar="N", help="end by itself after so many steps of the agent")
    add_page(parser)
    parser.add_argument("--json", action="store_true", help="print the run's figures as JSON in the last line")


def positive(text: str) -> int:
    """Read a whole number of at least 1, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number


def run(arguments: argparse.Namespace) -> int:
    """Run the demo until Ctrl-C, SIGTERM or the end of ``--steps``; returns the exit status.

    Raises:
        LaunchError: A package is missing, the port is taken, the agent failed, or ``--steps`` went by without a map.
    """
    need((*VIEWER_NEEDS, *AGENT_NEEDS), INSTALL, who="the viewer")
    return run_comparison(arguments) if arguments.compare else run_live(arguments)


def run_comparison(arguments: argparse.Namespace) -> int:
    """Record both agents, one after the other, and serve the page that compares them; returns the exit status.

    With ``--steps`` it ends when both policies' outputs are known for all of them.

    Raises:
        LaunchError: The agents could not be recorded, or the port is taken.
    """
    from .replay.compare import compare

    steps = max(arguments.steps or COMPARED, 2)
    with tempfile.TemporaryDirectory(prefix="agentwrap-demo-") as folder:
        path = Path(folder) / "enduro.mcap"
        print(f"agentwrap demo: recording {steps:,} steps, half of them by the novice, half by the expert", flush=True)
        record_both(path, steps)
        store = compare(
            path,
            names=("novice", "expert"),
            port=arguments.port,
            open_browser=not arguments.no_browser,
            until=is_compared if arguments.steps is not None else None,
            on_ready=say_where,
        )
    assert store.contrast is not None
    if arguments.json:
        print(json.dumps(store.contrast.figures()), flush=True)
    return 0


def record_both(path: Path, steps: int) -> None:
    """Let the agent's process record both policies.

    Raises:
        LaunchError: It failed; the text has its last words.
    """
    command = [sys.executable, "-m", "agentwrap.demo", "--endpoint", "tcp://127.0.0.1:*", "--record", str(path)]
    command += ["--policy", "novice", "--takeover", "expert", "--steps", str(steps), "--speed", "0"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LaunchError(f"the agents could not be recorded: {done.stderr.strip()[-1000:]}")


def is_compared(store: RecordedStore) -> bool:
    """Whether both policies' outputs are known for all steps, or never will be."""
    contrast = store.contrast
    return contrast is not None and (contrast.complete or contrast.problem is not None)


def run_live(arguments: argparse.Namespace) -> int:
    """Run one agent and the viewer on it; returns the exit status.

    Raises:
        LaunchError: As ``run``.
    """
    endpoint = free_endpoint()
    store = run_viewer(
        endpoint,
        port=arguments.port,
        open_browser=not arguments.no_browser,
        companions=[agent_command(endpoint, policy=arguments.policy, steps=arguments.steps)],
        until=has_ended if arguments.steps is not None else None,
        on_ready=say_where,
    )
    figures = store.statistics()
    if arguments.json:
        print(json.dumps(figures), flush=True)
    if arguments.steps is not None and not figures["maps"]:
        raise LaunchError(f"no map was computed in {figures['steps']} steps: {why_without_maps(store)}")
    return 0


def why_without_maps(store: Store) -> str:
    """Say what is known of why there was no map."""
    if store.explainer_problem is not None:
        return f"explainer: {store.explainer_problem}"
    if store.explainer is not None and store.explainer.problem is not None:
        return store.explainer.problem
    return "the run was too short, or the machine too busy"


def free_endpoint() -> str:
    """Return an endpoint on the loopback interface that nothing listens on.

    The viewer is told where the demo's agent is: it must not show another stream that happens to run here. Ports that
    the system gives to whoever asks for any lie above these: nobody is given one before the agent has begun.

    Raises:
        LaunchError: There is none.
    """
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return f"tcp://127.0.0.1:{port}"
    raise LaunchError("no port is free between 20000 and 32000")


def agent_command(endpoint: str, *, policy: str, steps: int | None) -> list[str]:
    """Return the command line of the agent's process. It ends when its standard input closes."""
    command = [sys.executable, "-m", "agentwrap.demo", "--endpoint", endpoint, "--policy", policy, "--companion"]
    return command if steps is None else [*command, "--steps", str(steps)]


def has_ended(store: Store) -> bool:
    """Whether the agent has played its steps, and one of them is explained or none will be."""
    if store.silent_for > GONE:
        return True
    unable = store.explainer is not None and store.explainer.state == "unable"
    explained = unable or store.explainer_problem is not None or store.maps.newest is not None
    return store.connection == "ended" and explained


def say_where(address: str) -> None:
    """Tell the user where the page is."""
    print(f"agentwrap demo: {address}  (Ctrl-C ends it)", flush=True)
