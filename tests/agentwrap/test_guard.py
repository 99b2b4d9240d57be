import warnings

import gymnasium as gym
import pytest
import torch

from agentwrap import AgentwrapWarning, InterpretWrapper
from agentwrap.guard import Guard


def fail():
    raise OSError("broken")


def test_a_part_that_fails_is_switched_off_with_one_warning():
    guard = Guard()
    calls = []
    with pytest.warns(AgentwrapWarning, match="seeing failed and is switched off: OSError: broken") as caught:
        assert guard.run("seeing", fail) is None
        assert guard.run("seeing", calls.append, 1) is None
    assert len(caught) == 1
    assert caught[0].filename == __file__, "the warning points at who called"
    assert calls == []
    assert guard.run("hearing", lambda number: number, 2) == 2
    assert (guard.is_on("seeing"), guard.is_on("hearing")) == (False, True)


def test_a_warning_names_the_line_of_the_loop_that_led_to_it(tmp_path):
    class Silent(torch.nn.Module):
        def forward(self, observation):
            return "left"

    policy = Silent()
    env = InterpretWrapper(
        gym.make("CartPole-v1"), policy, endpoint="tcp://127.0.0.1:*", record=tmp_path / "run.mcap", quiet=True
    )
    observation, _ = env.reset(seed=0)
    with pytest.warns(AgentwrapWarning, match="returned str without any tensor") as caught:
        policy(torch.as_tensor(observation)[None])
        env.step(0)
        env.close()
    assert caught[0].filename == __file__


def test_strict_raises_and_switches_nothing_off():
    guard = Guard(strict=True)
    with pytest.raises(OSError, match="broken"):
        guard.run("seeing", fail)
    assert guard.is_on("seeing")


def test_interrupts_are_not_faults():
    def interrupt():
        raise KeyboardInterrupt

    guard = Guard()
    with pytest.raises(KeyboardInterrupt):
        guard.run("seeing", interrupt)
    assert guard.is_on("seeing")


def test_the_same_is_said_once():
    guard = Guard()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for text in ("a", "b"):
            guard.warn_once("same", text)
        guard.warn_once("other", "c")
    assert [str(warning.message) for warning in caught] == ["agentwrap: a", "agentwrap: c"]
