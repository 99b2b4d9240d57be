"""The wrapper in processes that end, fork, are interrupted, or lack what is optional."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from children import alive, running
from listener import Listener, eventually
from torch import nn

from agentwrap import InterpretWrapper, MissingExtraError, viewer_process
from agentwrap_protocol import announcement
from agentwrap_protocol.messages import Bye, Step

PLAY = """
import sys, time
import gymnasium as gym, torch
from agentwrap import InterpretWrapper
policy = torch.nn.Linear(4, 2)
env = InterpretWrapper(gym.make("CartPole-v1"), policy, quiet=True)
print(env.endpoint, flush=True)
observation, _ = env.reset()
while True:
    action = policy(torch.as_tensor(observation)[None]).argmax().item()
    observation, _, terminated, truncated, _ = env.step(action)
    if terminated or truncated:
        observation, _ = env.reset()
"""


def run(code: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, **options)


def test_an_interrupted_agent_ends_at_once_and_says_bye(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", PLAY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        assert child.stdout is not None
        listener = Listener(child.stdout.readline().strip(), "hello", "step", "bye")
        listener.wait(Step)
        assert len(list(announcement.directory().iterdir())) == 1
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=60)
        listener.wait(Bye)
        listener.close()
    finally:
        child.kill()
        child.wait()
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "agentwrap-publisher" not in errors
    assert child.returncode in (1, -signal.SIGINT)
    assert list(announcement.directory().iterdir()) == []


def test_an_agent_that_renders_with_pygame_ends_on_sigterm_where_sdl_leaves_signals_alone(tmp_path: Path) -> None:
    code = PLAY.replace('"CartPole-v1"', '"CartPole-v1", render_mode="rgb_array"')
    environment = {**os.environ, "SDL_NO_SIGNAL_HANDLERS": "1"}
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    )
    try:
        assert child.stdout is not None
        listener = Listener(child.stdout.readline().strip(), "hello", "step")
        listener.wait(Step, lambda step: "frame" in step.arrays)
        child.terminate()
        assert child.wait(timeout=60) == -signal.SIGTERM
        listener.close()
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_an_agent_that_just_ends_says_bye() -> None:
    code = PLAY.split("while True")[0] + "sys.stdin.read()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        listener = Listener(child.stdout.readline().strip())
        eventually(listener.receive)
        child.communicate(timeout=60)
        listener.wait(Bye)
        listener.close()
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 0


def test_a_forked_child_is_silent(
    wrap: Callable[..., InterpretWrapper], listen: Callable[..., Listener], policy: nn.Module, agent: Any
) -> None:
    env = wrap(policy)
    listener = listen(env)
    loop = agent(env, policy)
    listener.wait(Step, between=loop.step)
    child = os.fork()
    if child == 0:  # the sockets and their thread belong to the parent
        status = 1
        try:
            for _ in range(50):
                loop.step()
            hooked = any(module._forward_hooks for module in policy.modules())
            env.close()
            status = 3 if hooked or env._stream.publisher.watched else 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    number = env._stream.steps
    listener.wait(Step, lambda step: step.step >= number, between=loop.step)
    assert not listener.of(Bye)
    assert len(list(announcement.directory().iterdir())) == 1
    seqs = [step.seq for step in listener.of(Step)]
    assert seqs == sorted(set(seqs)), "no step was sent twice"


def test_a_forked_child_ends_like_any_other() -> None:
    code = (
        PLAY.split("while True")[0]
        + """
import os
if os.fork() == 0:
    env.step(0)
    sys.exit(0)
_, status = os.wait()
env.step(0)
sys.exit(os.waitstatus_to_exitcode(status))
"""
    )
    done = run(code, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_bare_install_is_enough_to_import_and_to_be_told_what_a_policy_is() -> None:
    code = """
import sys
for name in ("torch", "panel", "bokeh", "scipy", "sklearn", "ale_py", "cv2", "agentwrap_viewer"):
    sys.modules[name] = None
import gymnasium as gym
from agentwrap import InterpretWrapper
try:
    InterpretWrapper(gym.make("CartPole-v1"), object())
except TypeError as error:
    print(error)
"""
    done = run(code, timeout=60)
    assert done.stdout.startswith("a policy of type object cannot be watched; accepted is a torch.nn")
    assert (done.returncode, done.stderr) == (0, "")


def test_view_without_the_viewer_says_how_to_get_it(policy: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    import gymnasium as gym

    monkeypatch.setattr(viewer_process, "NEEDED", ("panel", "not_installed_here"))
    with pytest.raises(
        MissingExtraError, match=r'needs not_installed_here: run `pip install "agentwrap-rl\[viewer\]"`'
    ):
        InterpretWrapper(gym.make("CartPole-v1"), policy, view=True, quiet=True)
    assert list(announcement.directory().iterdir()) == [], "nothing is left of the stream"


def test_the_viewer_starts_with_the_agent_and_ends_with_it(
    wrap: Callable[..., InterpretWrapper],
    policy: nn.Module,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = tmp_path / "told"
    stand_in = (
        f"import pathlib, sys, time; pathlib.Path({str(told)!r}).write_text(' '.join(sys.argv[1:])); time.sleep(600)"
    )
    (tmp_path / "agentwrap_viewer.py").write_text(stand_in)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    env = wrap(policy, view=True, quiet=False)
    eventually(lambda: told.exists() and told.read_text() == f"view {env.endpoint}")
    (viewer,) = running("agentwrap_viewer")
    assert os.getsid(viewer.pid) != os.getsid(0), "Ctrl-C in the terminal is the agent's"
    env.close()
    assert not alive([viewer])
    assert "over before its viewer had started" in capsys.readouterr().err


def test_a_viewer_that_will_not_end_is_made_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer_process, "PATIENCE", 0.1)
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(600)"
    )
    viewer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert viewer.stdout is not None
    assert viewer.stdout.readline() == b"on\n"
    viewer_process.end_viewer(viewer)
    viewer_process.end_viewer(viewer)
    assert viewer.returncode == -signal.SIGKILL
    viewer.stdout.close()
