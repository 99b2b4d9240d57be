"""A policy that sees a picture and a vector: a real wrapper, a real explainer and the page over them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from e2e.harness import Tab
from torch import nn

from agentwrap import InterpretWrapper

Open = Callable[..., Tab]


class Rover(gym.Env[Any, Any]):
    """Shows a picture of noise, three numbers of which the policy ignores the last, and one of three modes."""

    observation_space = gym.spaces.Dict(
        {
            "eye": gym.spaces.Box(0, 255, (1, 40, 40), np.uint8),
            "body": gym.spaces.Box(-1, 1, (3,), np.float32),
            "mode": gym.spaces.Discrete(3),
        }
    )
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._seen(), 0.0, False, False, {}

    def _seen(self) -> dict[str, Any]:
        picture = self.np_random.integers(0, 256, (1, 40, 40)).astype(np.uint8)
        body = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        return {"eye": picture, "body": body, "mode": self.np_random.integers(3)}


class Driver(nn.Module):
    """Looks at the upper left of the picture, and at the first number twice as much as at the second."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0, 1.0, 0.0]))

    def forward(self, observation: dict[str, torch.Tensor]) -> torch.Tensor:
        eye = observation["eye"].float()[:, 0, 4:12, 4:12].mean((1, 2)) / 255
        mode = nn.functional.one_hot(observation["mode"], 3)[:, 2]
        effect = eye + (observation["body"] * self.weight).sum(1) + mode
        return torch.stack([effect, -effect], 1)


@pytest.fixture
def running() -> Iterator[tuple[Any, Driver, str]]:
    """The environment, wrapped, its policy, and the address of a page over them in a process of its own."""
    policy = Driver()
    env = InterpretWrapper(Rover(), policy, endpoint="tcp://127.0.0.1:*", feature_names=("drive", "turn", "spare"))
    command = [sys.executable, "-m", "agentwrap_viewer", "view", env.endpoint, "--no-browser", "--port", "0"]
    viewer = subprocess.Popen(
        [*command, "--method", "rise"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )
    try:
        assert viewer.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/", viewer.stdout.readline())
        assert found is not None
        yield env, policy, found[0]
    finally:
        viewer.terminate()
        viewer.communicate(timeout=60)
        env.close()


def test_picture_and_vector_are_explained_at_once(running: tuple[Any, Driver, str], open_tab: Open) -> None:
    env, policy, page = running
    observation, _ = env.reset(seed=0)
    tab = open_tab(page)
    features = tab.find(".card.features")

    def drive(condition: Callable[[], Any]) -> Callable[[], Any]:
        def step_and_look() -> Any:
            nonlocal observation
            with torch.no_grad():
                logits = policy({name: torch.as_tensor(array)[None] for name, array in observation.items()})
            observation = env.step(int(logits.argmax()))[0]
            return condition()

        return step_and_look

    def widths() -> list[float]:
        return [float(fill.removesuffix("%") or 0) for fill in features.locator(".fill.actor").evaluate_all(
            "fills => fills.map(fill => fill.style.width)"
        )]  # fmt: skip

    tab.until(drive(lambda: tab.alpha() > 0), "heat over the picture")
    tab.until(drive(lambda: max(widths(), default=0.0) == 100), "bars beside it")
    assert features.locator(".name").all_inner_texts() == ["drive", "turn", "spare", "mode"]
    assert tab.find(".stage canvas.frame").is_visible() and features.is_visible()
    tab.until(drive(lambda: (found := widths())[2] == 0 < found[1]), "the number that is ignored has none")
    assert features.locator(".row.unscored .name").all_inner_texts() == ["mode"], "what has no score has no bar"
    assert not tab.errors


def test_target_that_is_chosen_is_explained_and_named(running: tuple[Any, Driver, str], open_tab: Open) -> None:
    env, policy, page = running
    observation, _ = env.reset(seed=0)
    tab = open_tab(page)

    def legend(card: str) -> list[str]:
        return tab.find(f".card.{card} .key").all_inner_texts()

    def stepped(condition: Callable[[], Any]) -> Callable[[], Any]:
        def step_and_look() -> Any:
            with torch.no_grad():
                policy({name: torch.as_tensor(array)[None] for name, array in observation.items()})
            env.step(0)
            return condition()

        return step_and_look

    tab.until(stepped(lambda: legend("features") == ["actor"]), "the vector by its own method, of the actor")
    tab.until(
        stepped(lambda: re.fullmatch(r"action \d \(preferred\)", "".join(legend("stage")[:1]))),
        "the picture of what rise is about",
    )
    assert tab.find(".card.features .caption").inner_text() == "by feature perturbation"
    tab.until(
        lambda: tab.find(".card.explanation .caption").inner_text() == "rise, feature_perturbation", "both methods"
    )
    tab.choose("Target", "action 1")
    tab.until(stepped(lambda: legend("stage") == legend("features") == ["action 1"]), "the action that was chosen")
    colours = tab.find(".card.features .fill").evaluate_all("fills => fills.map(each => each.className)")
    assert colours[0] == "fill actor part"
    assert not tab.errors
