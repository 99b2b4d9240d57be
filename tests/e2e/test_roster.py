"""The list of all agents in Chromium, over agents as they are: search, choose, follow."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from e2e.harness import Tab, Viewer
from playwright.sync_api import Locator

from agentwrap import InterpretVectorWrapper, InterpretWrapper


class Agents:
    """A vector environment of twelve and two agents of their own, which act until they are closed."""

    def __init__(self) -> None:
        policy = torch.nn.Linear(4, 2)
        self.envs = InterpretVectorWrapper(gym.make_vec("CartPole-v1", num_envs=12), policy, name="many", quiet=True)
        self.alone = [InterpretWrapper(gym.make("CartPole-v1"), policy, name=f"one {i}", quiet=True) for i in range(2)]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._act, daemon=True)
        self._thread.start()

    def _act(self) -> None:
        random = np.random.default_rng(0)
        self.envs.reset(seed=0)
        for env in self.alone:
            env.reset(seed=0)
        while not self._over.wait(0.01):
            self.envs.step(random.integers(0, 2, 12))
            for env in self.alone:
                if env.step(random.integers(0, 2))[2]:
                    env.reset()

    def close(self) -> None:
        self._over.set()
        self._thread.join(30)
        for env in (self.envs, *self.alone):
            env.close()


@pytest.fixture
def agents() -> Iterator[Agents]:
    agents = Agents()
    yield agents
    agents.close()


@pytest.fixture
def address(agents: Agents) -> Iterator[str]:
    viewer = Viewer(None, None)
    yield viewer.server.address
    viewer.close()


def heard(agents: Agents) -> bool:
    return any(env._stream.publisher.wants("environments") for env in (agents.envs, *agents.alone))


def names(rows: Locator) -> list[str]:
    return [text.split("\n")[0] for text in rows.all_inner_texts()]


def test_one_is_found_chosen_and_followed_among_many(
    agents: Agents, address: str, open_tab: Callable[..., Tab]
) -> None:
    tab = open_tab(address)
    tab.until(lambda: tab.step() >= 0, "a first step")
    assert not heard(agents)
    rows, pill = tab.find(".roster .row"), tab.find("button.pill")
    tab.page.keyboard.press("a")
    tab.until(lambda: rows.count() == 14, "all environments")
    tab.until(lambda: "14 of 14" in tab.find(".roster .foot").inner_text(), "their number")

    def returns() -> list[Any]:
        return [row.split("\n")[1] for row in rows.all_inner_texts()]

    tab.until(lambda: "–" not in returns(), "returns of all")
    shown = [float(each) for each in returns()]
    assert shown == sorted(shown, reverse=True)

    eleven = tab.find(".roster").get_by_text("many · 11", exact=True)
    line, before = eleven.element_handle(), names(rows)
    tab.until(lambda: names(rows) != before, "another order, as episodes end")
    assert line.inner_text() == "many · 11", "a line became another environment's"
    eleven.hover()
    before, texts = names(rows), rows.all_inner_texts()
    tab.until(lambda: sum(map(str.__ne__, rows.all_inner_texts(), texts)) > 7, "other numbers")
    assert names(rows) == before, "what the pointer is on moved away"

    tab.find(".roster input").fill("many 1")
    tab.until(lambda: rows.count() == 3, "1, 10 and 11")
    eleven.click()
    tab.until(lambda: agents.envs._stream.shown == 11, "the agent to show another")
    tab.until(lambda: "many · 11" in pill.inner_text(), "the page to say so")
    tab.find(".roster input").fill("one 1")
    tab.until(lambda: rows.count() == 1, "that one alone")
    rows.first.click()
    tab.until(lambda: "one 1" in pill.inner_text(), "another agent")
    tab.until(lambda: rows.first.get_attribute("aria-selected") == "true", "its line to be marked")

    tab.find('.roster [data-rule="best"]').click()
    tab.until(lambda: agents.envs._stream.follow == "best" or "one" in pill.inner_text(), "the best")
    tab.find('.roster [data-rule="newest"]').click()
    newest = agents.alone[1]
    tab.until(lambda: "one 1" in pill.inner_text(), "the newest")
    tab.until(lambda: newest._stream.publisher.watched, "it to be watched")
    tab.find('.roster [data-rule="none"]').click()
    tab.page.keyboard.press("Escape")
    tab.until(lambda: not heard(agents), "nobody to want to know")
    for opened in (lambda: tab.page.keyboard.press("a"), pill.click):
        opened()
        tab.until(lambda: tab.find(".roster").is_visible(), "the list once more")
        tab.page.keyboard.press("Escape")
        tab.page.keyboard.press(" ")
        tab.until(
            lambda: tab.find(".transport[data-mode=paused]").count(), "the space bar to pause, not to open the list"
        )
        assert not tab.find(".roster").is_visible()
        tab.page.keyboard.press("End")
        tab.until(lambda: tab.find(".transport[data-mode=live]").count(), "live again")
    tab.page.set_viewport_size({"width": 390, "height": 844})
    name, views = tab.find(".pill .name").bounding_box(), tab.find(".views").bounding_box()
    assert name is not None and views is not None and name["width"] > 20, "a phone does not say who is shown"
    assert name["x"] + name["width"] <= views["x"] and views["x"] + views["width"] <= 390
    assert tab.errors == []
