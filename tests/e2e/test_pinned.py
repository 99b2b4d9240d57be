"""A pinned frame in Chromium, while a small network really learns, and over a recording of it."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from e2e.harness import Served, Tab
from torch import nn

from agentwrap import InterpretWrapper

SIDE = 24


class Sides(gym.Env[Any, Any]):
    """Pictures (1, 24, 24) with a bright square on the left or the right; rewarded is the action of its side."""

    observation_space = gym.spaces.Box(0, 255, (1, SIDE, SIDE), np.uint8)
    action_space = gym.spaces.Discrete(2)
    render_mode = None

    def _picture(self) -> Any:
        self._right = int(self.np_random.integers(2))
        picture = self.np_random.integers(0, 60, (1, SIDE, SIDE)).astype(np.uint8)
        column = 3 + 12 * self._right
        picture[0, 9:15, column : column + 6] = 230
        return picture

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._step = 0
        return self._picture(), {}

    def step(self, action: Any) -> Any:
        reward = float(int(action) == self._right)
        self._step += 1
        return self._picture(), reward, self._step == 50, False, {}


class Network(nn.Module):
    """Logits and value of a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 8, 4, 4), nn.ReLU(), nn.Flatten())
        self.actor, self.critic = nn.Linear(288, 2), nn.Linear(288, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        latent = self.conv(x.float() / 255)
        return self.actor(latent), self.critic(latent)


class Learner:
    """Plays, and learns from each thirty-two steps by the policy gradient, as soon as it may."""

    def __init__(self, *, pause: float = 0.005, **options: Any) -> None:
        torch.manual_seed(3)
        torch.set_num_threads(1)
        self.network = Network()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-2)
        self.env = InterpretWrapper(Sides(), self.network, quiet=True, strict=True, **options)
        self.may_learn, self.over = threading.Event(), threading.Event()
        self._pause, self.rounds = pause, 0

    def play(self, steps: int) -> None:
        observation, _ = self.env.reset(seed=1)
        for _ in range(steps // 32):
            played = []
            for _ in range(32):
                with torch.no_grad():
                    logits, _ = self.network(torch.as_tensor(observation)[None])
                action = int(torch.distributions.Categorical(logits=logits).sample())
                before, (observation, reward, done, _, _) = observation, self.env.step(action)
                played.append((torch.as_tensor(before), action, float(reward)))
                if done:
                    observation, _ = self.env.reset()
                if self.over.wait(self._pause):
                    return
            if self.may_learn.is_set():
                self._learn(played)
            self.rounds += 1

    def _learn(self, played: list[tuple[torch.Tensor, int, float]]) -> None:
        observations, actions, rewards = zip(*played, strict=True)
        logits, value = self.network(torch.stack(observations))
        gain = torch.tensor(rewards) - value[:, 0]
        likely = torch.distributions.Categorical(logits=logits).log_prob(torch.tensor(actions))
        self.optimizer.zero_grad()
        (gain.square().mean() - (gain.detach() * likely).mean()).backward()
        self.optimizer.step()


@pytest.fixture
def learner() -> Iterator[Learner]:
    made = Learner(weights_every=0.2, endpoint="tcp://127.0.0.1:*")
    thread = threading.Thread(target=made.play, args=(10**9,))
    thread.start()
    yield made
    made.over.set()
    thread.join()
    made.env.close()


def versions(tab: Tab) -> list[int]:
    """The versions in the strip, from left to right."""
    return [int(name[1:]) for name in tab.find(".pinned .version b").all_inner_texts()]


def best(tab: Tab, index: int) -> tuple[str, float]:
    """The action that a version in the strip prefers, and its probability."""
    text = tab.find(".pinned .version .best").nth(index).inner_text()
    found = re.fullmatch(r"(.+) ([\d.]+) %", text)
    assert found, text
    return found[1], float(found[2])


def heat(tab: Tab, where: str) -> np.ndarray:
    """The opacity of a map's heat, 0…255, (24, 24)."""
    values = tab.find(f"{where} canvas.heat").evaluate(
        "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).filter((_, k) => k % 4 === 3)"
    )
    return np.array(values, float).reshape(SIDE, SIDE)


def test_a_pinned_frame_shows_how_its_map_changes_while_the_policy_learns(
    learner: Learner, open_tab: Callable[..., Tab]
) -> None:
    with contextlib.closing(Served("view", learner.env.endpoint)) as viewer:
        tab = open_tab(viewer.address)
        tab.until(lambda: tab.step() > 10 and tab.alpha() > 0, "steps and heat")
        assert not tab.find(".card.pinned").is_visible()
        tab.press("v")
        tab.until(lambda: len(versions(tab)) == 1, "the map of the version that acts")
        assert "step" in tab.find(".card.pinned h2").inner_text()
        learner.may_learn.set()
        tab.until(lambda: len(versions(tab)) >= 5, "a map by each of five versions")
        tab.until(lambda: best(tab, len(versions(tab)) - 1)[1] > 80, "a policy that has learnt")
        learner.may_learn.clear()
        shown = tab.until(lambda: len(set(now := versions(tab))) > 4 and now, "the versions")
        assert shown == sorted(shown) and len(shown) <= 24, "newest at the right"
        assert best(tab, 0)[1] < best(tab, len(shown) - 1)[1]

        rounds, feed = learner.rounds, learner.env._stream._feed
        tab.until(lambda: learner.rounds > rounds + 2, "play with what was learnt last")
        tab.until(lambda: not feed.stale and versions(tab)[-1] == feed.version, "the last version")
        newest = feed.version
        tab.find(".pinned .version").last.click()
        large = tab.find(".pinned .large")
        tab.until(large.is_visible, "the map at large")
        tab.until(lambda: large.locator("strong").inner_text() == f"v{newest}", "its version")
        assert large.locator(".row").count() == 2
        square = np.zeros((SIDE, SIDE), bool)
        right = best(tab, len(versions(tab)) - 1)[0] == "action 1"
        square[8:16, 14:22] = right
        square[8:16, 2:10] = not right
        tab.until(
            lambda: (drawn := heat(tab, ".pinned .large"))[square].mean() > 3 * drawn[~square].mean() > 0,
            "a map that looks at the square",
        )
        large.get_by_label("The version before").click()
        tab.until(lambda: large.locator("strong").inner_text() != f"v{newest}", "the version before")
        tab.page.keyboard.press("Escape")
        tab.until(lambda: not large.is_visible(), "its end")

        tab.page.get_by_role("toolbar", name="Playback").get_by_label("Unpin the frame").click()
        tab.until(lambda: not tab.find(".card.pinned").is_visible(), "the end of the pin")
        assert tab.errors == []


def test_over_a_recording_the_strip_has_all_its_versions(tmp_path: Path, open_tab: Callable[..., Tab]) -> None:
    path = tmp_path / "run.mcap"
    learner = Learner(pause=0, record=path, weights_every=1e-9, endpoint="tcp://127.0.0.1:*")
    learner.may_learn.set()
    learner.play(8 * 32)
    learner.env.close()
    with contextlib.closing(Served("replay", path)) as replay:
        tab = open_tab(replay.address)
        tab.until(lambda: tab.step() == 0 and tab.alpha() > 0, "the first step and its heat")
        tab.press("v")
        tab.until(lambda: versions(tab) == list(range(1, 9)), f"all versions; there are {versions(tab)}")
        tab.until(lambda: tab.find(".pinned .version .share").count() == 8 and not visible_shares(tab), "final maps")
        large, top = tab.find(".pinned .large"), tab.find(".deck .column").first.bounding_box()["y"]
        tab.find(".pinned .version").last.click()
        tab.page.set_viewport_size({"width": 1280, "height": 700})
        tab.until(lambda: large.is_visible() and large.bounding_box()["y"] >= top - 8, "all of a map, on a low screen")
        tab.page.keyboard.press("Escape")
        tab.press("ArrowRight")
        tab.until(lambda: tab.step() == 1, "the next step")
        assert tab.find(".card.pinned h2").inner_text().endswith("step 0"), "the pin stays"
        assert tab.errors == []


def visible_shares(tab: Tab) -> int:
    return sum(share.is_visible() for share in tab.find(".pinned .version .share").all())
