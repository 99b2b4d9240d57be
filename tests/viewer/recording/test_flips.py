"""Actions flip where a policy's margin is below the perturbation, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from listener import eventually
from scipy.stats import norm
from torch import nn

from agentwrap import InterpretWrapper
from agentwrap_viewer import cli, open_recording
from agentwrap_viewer.recording import RecordingError, flips
from agentwrap_viewer.recording.moments import Criteria

MARGINS = np.linspace(-0.2, 0.8, 41, dtype=np.float32)


class Margins(gym.Env[Any, Any]):
    """The first element is a known margin, the second one is always alike; as floats, or as pictures of bytes."""

    render_mode = None

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        low, high, shape = (0, 255, (16, 16)) if dtype == "uint8" else (-1, 1, (2,))
        self.observation_space = gym.spaces.Box(low, high, shape, np.dtype(dtype).type)
        self.action_space = gym.spaces.Discrete(2)

    def _seen(self) -> Any:
        margin = MARGINS[min(self._step, len(MARGINS) - 1)]
        if self.dtype == "uint8":
            picture = np.full((16, 16), 100, np.uint8)
            picture[0, 0] = 100 + round(float(100 * margin))
            return picture
        return np.array([margin, 0.5], np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self._step = 0
        return self._seen(), {}

    def step(self, action: Any) -> Any:
        self._step += 1
        return self._seen(), 0.0, False, False, {}


def linear(inputs: int, bias: float) -> nn.Module:
    """Prefers action 1 where the first element is above −bias; nothing else counts."""
    policy = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 2))
    with torch.no_grad():
        policy[1].weight.zero_()
        policy[1].weight[1, 0] = 1
        policy[1].bias.copy_(torch.tensor([0.0, bias]))
    return policy


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Path]:
    """Records one step for each of ``MARGINS``."""

    def made(dtype: str, policy: nn.Module) -> Path:
        path = tmp_path / f"{dtype}.mcap"
        list(steps_of(dtype, policy, path))
        return path

    return made


def steps_of(dtype: str, policy: nn.Module, path: Path) -> Iterator[None]:
    """Record one step for each of ``MARGINS``, one at a time."""
    env = InterpretWrapper(Margins(dtype), policy, record=path, quiet=True, strict=True, endpoint="tcp://127.0.0.1:*")
    observation, _ = env.reset()
    for _ in MARGINS:
        with torch.no_grad():
            policy(torch.as_tensor(observation)[None].float())
        observation, *_ = env.step(0)
        yield
    env.close()


def count_of(path: Path) -> int:
    with open_recording(path) as recording:
        return len(recording.steps)


def test_actions_flip_as_often_as_noise_is_larger_than_the_margin(record: Callable[..., Path]) -> None:
    with open_recording(record("float32", linear(2, 0.0))) as recording:
        found = flips.shares(recording, range(len(MARGINS)), sigma=0.05, samples=1000)  # σ = 0.05 of a range of 1
        np.testing.assert_allclose(found, norm.cdf(-np.abs(MARGINS) / 0.05), atol=0.06)
        again = flips.shares(recording, range(5, 9), sigma=0.05 / np.ptp(MARGINS[5:9]), samples=1000)
        np.testing.assert_allclose(again, found[5:9], atol=1e-3)  # the range is that of what was looked at


def test_flips_of_pictures_are_measured_in_shares_of_255(record: Callable[..., Path]) -> None:
    with open_recording(record("uint8", linear(256, -120.5))) as recording:
        seen = recording.array("observation")[:, 0, 0].astype(float)
        found = flips.shares(recording, range(len(MARGINS)), sigma=0.02, samples=1000)
        np.testing.assert_allclose(found, norm.cdf(-np.abs(seen - 120.5) / (0.02 * 255)), atol=0.06)


def test_the_steps_that_flip_most_are_moments(record: Callable[..., Path], tmp_path: Path) -> None:
    path = record("float32", linear(2, 0.0))
    with open_recording(path) as recording:
        every = flips.find(recording, sigma=0.05, samples=2000, share=0.25, criteria=Criteria(apart=0))
        assert [each.index for each in every] == np.flatnonzero(np.abs(MARGINS) < 0.03).tolist()
        (most,) = flips.find(recording, sigma=0.05, samples=2000)
        assert most.kind == "action_flip" and most.score == max(each.score for each in every)
        assert f"{round(most.score * 2000)} of 2000" in most.text
        assert flips.find(recording, range(20, 41), sigma=1e-6) == []
        with pytest.raises(ValueError, match="sigma"):
            flips.find(recording, sigma=0)
        with pytest.raises(ValueError, match="share"):
            flips.find(recording, share=0)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_a_search_begins_where_the_policy_was_least_decided(record: Callable[..., Path], dtype: str) -> None:
    inputs, bias = (2, 0.0) if dtype == "float32" else (256, -100.5)
    with open_recording(record(dtype, linear(inputs, bias))) as recording:
        options: dict[str, Any] = {"sigma": 0.05, "criteria": Criteria(apart=0)}
        every = flips.find(recording, **options)
        (*_, whole) = flips.search(recording, **options)
        assert whole == every and len(every) >= 2
        ratings = recording.array("output/logits")
        nearest = np.argsort(np.abs(ratings[:, 1] - ratings[:, 0]), kind="stable")[:2]
        (first,) = flips.search(recording, looks=2, **options)
        assert [each.index for each in first] == sorted(nearest.tolist())


def test_a_search_goes_on_with_what_is_written(tmp_path: Path) -> None:
    options: dict[str, Any] = {"sigma": 0.05, "criteria": Criteria(apart=0)}
    path = tmp_path / "growing.mcap"
    writing = steps_of("uint8", linear(256, -100.5), path)
    first = 10
    for _ in range(first):
        next(writing)
    eventually(lambda: path.stat().st_size > 0 and count_of(path) == first)
    with open_recording(path) as recording:

        def more() -> bool:
            list(writing)  # to its end
            return recording.refresh() > 0

        *_, whole = flips.search(recording, more=more, **options)
        assert len(recording.steps) == len(MARGINS)
    with open_recording(path) as recording:
        every = flips.find(recording, **options)
        assert whole == every and every[0].index < first <= every[-1].index


def test_what_cannot_flip_is_said(record: Callable[..., Path], pictures: Path) -> None:
    with open_recording(pictures) as recording, pytest.raises(RecordingError, match="polic"):
        flips.find(recording)


def test_clips_of_flips_are_made_on_request(record: Callable[..., Path], tmp_path: Path) -> None:
    path = record("uint8", linear(256, -100.5))
    assert cli.main(["export", str(path), "--moments", "action_flip", "--out", str(tmp_path / "clips")]) == 0
    with open_recording(path) as recording:
        expected = {f"{each.step:06d}-action_flip.gif" for each in flips.find(recording)}
    assert expected and {each.name for each in (tmp_path / "clips").iterdir()} == expected
