"""The processes that the benchmarks look on with, each ended with the benchmark that started it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil

from .report import Row

#: Seconds that anything may take to start.
PATIENCE = 120.0

#: Subscribes to all but the weights and drops it, as cheaply as Python can; says so when the first message has come.
DRAIN = """
import sys, zmq
socket = zmq.Context().socket(zmq.SUB)
for topic in (b"hello", b"step", b"episode_end", b"heartbeat"):
    socket.subscribe(topic)
socket.connect(sys.argv[1])
socket.recv_multipart()
print("receiving", flush=True)
while True:
    socket.recv_multipart(copy=False)
"""

VIEW = """
import sys
from agentwrap_viewer.launch import run_viewer
run_viewer(sys.argv[1], open_browser=False, on_ready=lambda address: print(address, flush=True))
"""


class Helper:
    """A process whose lines of output are read as they come."""

    def __init__(self, command: Sequence[str], *, nice: int = 0) -> None:
        niced = ["nice", "-n", str(nice), *command] if nice else list(command)
        self._process = subprocess.Popen(niced, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self._process.pid  # nice replaces itself by the command
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.strip())
        self._lines.put("")

    def line(self, timeout: float = PATIENCE) -> str:
        """Return the next line.

        Raises:
            RuntimeError: None came in time, or the process ended.
        """
        with contextlib.suppress(queue.Empty):
            if line := self._lines.get(timeout=timeout):
                return line
        raise RuntimeError(f"{' '.join(self._process.args)[:200]}: no output within {timeout} s")  # type: ignore[arg-type]

    def has_line(self) -> bool:
        """Whether a line waits to be read."""
        return not self._lines.empty()

    def stop(self) -> None:
        """Ask it to end, and kill it if it does not."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Usage:
    """What processes and all their children take of the processors, from now on.

    Args:
        roots: Process ids by the name to report them under; children are told apart by what they run.
    """

    def __init__(self, roots: dict[str, int]) -> None:
        self._began = time.monotonic()
        self._processes = {
            child: name if child.pid == pid else f"{name}: {_kind(child)}"
            for name, pid in roots.items()
            for child in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))
        }
        self._before = {process: _cpu_seconds(process) for process in self._processes}

    def rows(self) -> list[Row]:
        """Return the share of one processor that each kind of process took, the largest first."""
        seconds = time.monotonic() - self._began
        shares: dict[str, float] = {}
        for process, kind in self._processes.items():
            with contextlib.suppress(psutil.NoSuchProcess):
                share = (_cpu_seconds(process) - self._before[process]) / seconds
                shares[kind] = shares.get(kind, 0.0) + share
        return [
            {"benchmark": "processors", "process": kind, "percent": round(100 * share, 1)}
            for kind, share in sorted(shares.items(), key=lambda item: -item[1])
        ]


def _kind(process: psutil.Process) -> str:
    """Say what a process is: the kind of Chromium's, else its program or Python module."""
    command: list[str] = process.cmdline()
    for argument, following in zip(command, [*command[1:], ""], strict=True):
        if argument.startswith("--type="):
            return argument.removeprefix("--type=")
        if argument == "-m":
            return following
    return str(process.name())


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def helper(*arguments: str, nice: int = 0) -> Iterator[Helper]:
    """Run Python with these arguments beside the benchmark."""
    process = Helper([sys.executable, *arguments], nice=nice)
    try:
        yield process
    finally:
        process.stop()


@contextmanager
def drain(endpoint: str, *, nice: int = 0, meanwhile: Callable[[], Any] = lambda: time.sleep(0.1)) -> Iterator[Helper]:
    """Subscribe to a stream from another process, and drop everything; ``meanwhile`` is called until something came."""
    with helper("-c", DRAIN, endpoint, nice=nice) as process:
        deadline = time.monotonic() + PATIENCE
        while not process.has_line() and time.monotonic() < deadline:
            meanwhile()
        process.line(timeout=0.1)
        yield process


@contextmanager
def viewer(endpoint: str, *, nice: int = 10) -> Iterator[tuple[Helper, str]]:
    """Run the page and the explainer on a stream; gives the process and the page's address."""
    with helper("-c", VIEW, endpoint, nice=nice) as process:
        yield process, process.line()


@contextmanager
def tab(address: str, *, nice: int = 10) -> Iterator[Helper]:
    """Open the page in a headless Chromium: see ``benchmarks.tab``."""
    with helper("-m", "benchmarks.tab", address, nice=nice) as process:
        yield process


def first_heat(process: Helper, meanwhile: Callable[[], Any] = lambda: time.sleep(0.1)) -> None:
    """Wait until a tab has painted heat, calling ``meanwhile`` all the time."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if process.has_line() and any(paint["newHeat"] for paint in json.loads(process.line())):
            return
        meanwhile()
    raise RuntimeError(f"no heat was painted within {PATIENCE} s")


def free_endpoint() -> str:
    """Return an endpoint that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def chromium_flags() -> list[str]:
    """Flags for a Chromium that draws without a screen; root has no sandbox to give it."""
    return ["--no-sandbox"] if hasattr(os, "getuid") and os.getuid() == 0 else []
