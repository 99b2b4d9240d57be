"""The command as a process: how it starts, what it says, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import psutil
import pytest
import torch
from children import alive, running
from fakes import FakeAgent
from websockets.sync.client import ClientConnection, connect

from agentwrap import InterpretWrapper
from agentwrap_viewer import cli
from agentwrap_viewer.cli import main

STARTED = 60.0  #: Seconds that anything may take on a busy machine


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + STARTED
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return value


class Command:
    """``agentwrap view`` in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agentwrap_viewer", "view", "--no-browser", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def address(self) -> str:
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert found, line + self.process.stderr.read()
        return found[0]

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: int) -> tuple[int, str]:
        """Send a signal; return the exit status and what was written to standard error."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=STARTED)
        return self.process.returncode, errors

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def view() -> Iterator[Callable[..., Command]]:
    commands: list[Command] = []

    def start(*arguments: str) -> Command:
        commands.append(Command(*arguments))
        return commands[-1]

    yield start
    for command in commands:
        command.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ends_cleanly_and_takes_its_children_along(view: Callable[..., Command], number: int) -> None:
    agent = FakeAgent()
    command = view(agent.endpoint, "--port", "0")
    address = command.address()
    with urllib.request.urlopen(address, timeout=30) as page:
        assert page.status == 200
    until(lambda: agent.watched)
    agent.play(30)
    children = until(command.children)
    with connect(address.replace("http", "ws") + "frames", origin=address.rstrip("/")) as tab:
        tab.recv(STARTED)
        assert command.end(number) == (0, ""), "with a tab open"
    until(lambda: not alive(children))
    agent.close()


def test_children_end_with_a_viewer_that_is_killed(view: Callable[..., Command]) -> None:
    command = view("--port", "0")
    command.address()
    children = until(command.children)
    assert command.end(signal.SIGKILL)[0] == -signal.SIGKILL
    until(lambda: not alive(children))


def test_ctrl_c_while_it_starts_shows_no_traceback(view: Callable[..., Command]) -> None:
    command = view("--port", "0")
    maps = Path(f"/proc/{command.process.pid}/maps")
    until(lambda: "numpy" in maps.read_text())  # it imports what the page needs
    status, errors = command.end(signal.SIGINT)
    assert status in (0, 130) and errors == ""


def test_versions_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert re.fullmatch(r"agentwrap-rl \S+, protocol 1\.\d+\n", capsys.readouterr().out)


def test_an_explainer_that_crashes_is_started_again(view: Callable[..., Command]) -> None:
    command = view("--port", "0")
    command.address()
    first = until(command.children)[0]
    os.kill(first.pid, signal.SIGKILL)

    until(lambda: [each for each in running("agentwrap_viewer.explainer") if each.pid != first.pid])
    assert command.end(signal.SIGINT) == (0, "")


def test_a_taken_port_is_an_error_that_names_it(view: Callable[..., Command]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = view("--port", str(port))
        _, errors = command.process.communicate(timeout=STARTED)
    assert command.process.returncode == 1
    assert errors.startswith(f"agentwrap: port {port} is in use") and "--port" in errors


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--method", "gradcam"), "method 'gradcam' is not possible here; possible are perturbation"),
        (("--budget-ms", "-3"), "a budget of -3 ms is not possible; 1 to 60000 ms are"),
        (("--device", "nonsense"), "device 'nonsense' is not usable here"),
    ],
)
def test_what_the_explainer_refuses_is_an_error(
    view: Callable[..., Command], options: tuple[str, str], text: str
) -> None:
    command = view("--port", "0", *options)
    printed, errors = command.process.communicate(timeout=STARTED)
    assert (command.process.returncode, printed) == (1, ""), "nothing is served before"
    assert errors.startswith(f"agentwrap: {text}") and "Traceback" not in errors


@pytest.mark.parametrize("endpoint", ["nonsense", "localhost:9", "tcp://127.0.0.1:99999", "ipc://"])
def test_an_endpoint_that_is_none_is_an_error_that_names_it(capsys: pytest.CaptureFixture[str], endpoint: str) -> None:
    assert main(["view", endpoint, "--no-browser", "--port", "0"]) == 1
    printed, errors = capsys.readouterr()
    assert printed == "" and f"'{endpoint}' is not an endpoint" in errors


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "VIEWER_NEEDS", ("no_such_package",))
    assert main(["view", "--no-browser"]) == 1
    assert 'no_such_package: run `pip install "agentwrap-rl[viewer]"`' in capsys.readouterr().err


@pytest.fixture
def browser_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A browser that only notes which address it is told to open."""
    note, browser = tmp_path / "address", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{note}"\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(browser))
    return note


def sections(tab: ClientConnection) -> dict[str, Any]:
    """What the next message to a tab draws; acknowledges it."""
    message = tab.recv(STARTED)
    assert isinstance(message, bytes)
    tab.send('{"do": "painted"}')
    return json.loads(message[4 : 4 + int.from_bytes(message[:4], "little")])["sections"]


def test_view_opens_a_page_of_this_agent_and_ends_with_it(browser_note: Path) -> None:
    policy = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    others = set(psutil.Process().children())  # multiprocessing keeps a process of its own
    env = InterpretWrapper(
        gym.make("CartPole-v1", render_mode="rgb_array"), policy, endpoint="tcp://127.0.0.1:*", view=True
    )
    try:
        address = until(lambda: browser_note.exists() and browser_note.read_text().strip())
        viewer = list(set(psutil.Process().children()) - others)
        assert env.wait_for_viewer(STARTED)
        with connect(address.replace("http", "ws") + "frames", origin=address.rstrip("/")) as tab:
            observation, _ = env.reset(seed=0)

            def step_and_look() -> bool:
                nonlocal observation
                with torch.no_grad():
                    action = int(policy(torch.from_numpy(observation)[None]).argmax())
                observation, _, terminated, truncated, _ = env.step(action)
                if terminated or truncated:
                    observation, _ = env.reset()
                shown = sections(tab)
                assert shown["status"]["env"] in (None, "CartPole-v1")
                return [layer["target"] for layer in shown.get("features", {}).get("layers", ())] == [
                    "actor"
                ]  # a map by the explainer

            until(step_and_look)
    finally:
        env.close()
    gone, alive = psutil.wait_procs(viewer, STARTED)
    assert viewer and not alive
    with pytest.raises(OSError):
        urllib.request.urlopen(address, timeout=5)
