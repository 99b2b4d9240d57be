"""The demo: its agent alone, and the whole of it as a user starts it."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch
from fakes import hello, saliency_map, step

from agentwrap import demo as agent
from agentwrap_protocol.messages import Bye, Explainer
from agentwrap_viewer import cli, open_recording
from agentwrap_viewer.demo import has_ended, why_without_maps
from agentwrap_viewer.page.store import Store

FIGURES = {
    *("steps", "maps", "maps_per_s", "map_ms_p50"),
    *("step_to_map_ms_p50", "steps_per_s", "dropped", "replica_max_abs_diff"),
}


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[str]]:
    """Run Python with these arguments; it is ended, and its children with it, whatever happens."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, *command], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    try:
        yield process
    finally:
        for each in [*psutil.Process(process.pid).children(recursive=True), process] if process.poll() is None else []:
            each.kill()
        process.communicate()


def test_the_policies_are_found_and_loaded() -> None:
    for name in agent.POLICIES:
        policy = agent.load_policy(agent.models_directory() / f"enduro-{name}.safetensors")
        logits, value = policy(torch.zeros(2, 4, 84, 84, dtype=torch.uint8))
        assert logits.shape == (2, 9) and value.shape == (2, 1)
        assert {parameter.dtype for parameter in policy.parameters()} == {torch.float32}


def test_the_expert_overtakes_cars_and_a_seed_repeats_the_game() -> None:
    def total(policy_name: str, seed: int) -> float:
        torch.set_num_threads(1)
        policy = agent.load_policy(agent.models_directory() / f"enduro-{policy_name}.safetensors")
        env = Counting(agent.make_enduro())
        agent.play(env, policy, steps=250, speed=0, seed=seed)
        env.close()
        return env.total

    assert total("expert", 1) == total("expert", 1) > 5
    assert total("novice", 1) <= 0


class Counting(agent.gym.Wrapper):  # type: ignore[type-arg]
    total = 0.0

    def step(self, action):  # type: ignore[no-untyped-def]
        result = self.env.step(action)
        self.total += float(result[1])
        return result


def test_pace_waits_for_the_next_turn_and_makes_up_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [100.0], []
    monkeypatch.setattr(agent.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(agent.time, "sleep", lambda seconds: slept.append(round(seconds, 6)))
    pace = agent.Pace(10)
    now[0] = 100.03
    pace.wait()
    now[0] = 100.5  # this turn took five
    pace.wait()
    now[0] = 100.52
    pace.wait()
    assert slept == [0.07, 0.08]


def test_the_agent_plays_its_steps_and_ends() -> None:
    with started("-m", "agentwrap.demo", "--steps", "30", "--speed", "0") as process:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert "Enduro, expert" in errors


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_the_agent_ends_quietly_when_told(number: int, status: int) -> None:
    with started("-m", "agentwrap.demo") as process:
        assert process.stderr is not None and "streaming" in process.stderr.readline()
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (status, "")


def test_a_companion_ends_when_its_standard_input_closes() -> None:
    with started("-m", "agentwrap.demo", "--companion") as process:
        assert process.stderr is not None and "streaming" in process.stderr.readline()
        _, errors = process.communicate(timeout=60)  # closes standard input first
        assert (process.returncode, errors) == (0, "")


def test_what_is_missing_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ale_py" else found(name))
    assert cli.main(["demo"]) == 1
    assert 'needs ale_py: run `pip install "agentwrap-rl[viewer,atari]"`' in capsys.readouterr().err


def test_the_demo_explains_what_its_agent_does() -> None:
    command = ("-m", "agentwrap_viewer", "demo", "--steps", "150", "--no-browser", "--json")
    with started(*command) as process:
        output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    first, *_, last = output.splitlines()
    assert "http://127.0.0.1:" in first
    figures = json.loads(last)
    assert set(figures) == FIGURES
    assert figures["steps"] == 150
    assert figures["maps"] > 0 and figures["maps_per_s"] > 0
    assert 0 < figures["map_ms_p50"] and 0 < figures["step_to_map_ms_p50"]
    assert figures["replica_max_abs_diff"] < 1e-4


def test_the_demo_compares_both_agents() -> None:
    with started("-m", "agentwrap_viewer", "demo", "--compare", "--steps", "40", "--no-browser", "--json") as process:
        output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    recording, address, *_, last = output.splitlines()
    assert "40 steps" in recording and "http://127.0.0.1:" in address
    figures = json.loads(last)
    assert (figures["steps"], figures["known"]) == (40, 40)
    assert 0 < figures["disagreements"] <= 40 and 0 < figures["mean_distance"] < 1


def test_the_example_holds_what_both_agents_computed() -> None:
    path = Path(__file__).parents[1] / "examples" / "enduro.mcap"
    assert path.stat().st_size <= 2 * 2**20
    with open_recording(path) as recording:
        assert [recording.name_of(version) for version in recording.versions] == ["enduro-novice", "enduro-expert"]
        for index in (0, -1):
            step = recording.steps[index]
            replica = recording.policy(step.policy_version)
            logits = replica(replica.inputs_from_step(step.arrays))["logits"]
            torch.testing.assert_close(logits[0], torch.tensor(step.arrays["output/logits"]), rtol=1e-4, atol=1e-4)


def test_the_demo_ends_when_a_step_of_its_agent_is_explained_or_none_will_be() -> None:
    store = Store()
    store.add(hello())
    store.add(step(0))
    store.add(Bye(stream="0" * 32))
    assert not has_ended(store)
    unable = Store()
    for message in (hello(), Explainer(stream="e" * 32, state="unable", problem="no"), Bye(stream="0" * 32)):
        unable.add(message)
    assert has_ended(unable)
    store.add(saliency_map(step(0)))
    assert has_ended(store)


def test_without_maps_the_demo_says_why() -> None:
    store = Store()
    assert "too short" in why_without_maps(store)
    store.explainer_problem = "ended with exit code 1: out of memory"
    assert why_without_maps(store) == "explainer: ended with exit code 1: out of memory"


def test_ctrl_c_ends_the_demo_and_all_its_processes() -> None:
    with started("-m", "agentwrap_viewer", "demo", "--no-browser", "--policy", "novice") as process:
        assert process.stdout is not None and "http://127.0.0.1:" in process.stdout.readline()
        everyone = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode in (0, 130), errors
        assert "Traceback" not in errors
        assert not psutil.wait_procs(everyone, timeout=60)[1]


def test_models_are_part_of_the_checkout() -> None:
    assert agent.models_directory() == Path(__file__).parents[1] / "examples" / "models"
