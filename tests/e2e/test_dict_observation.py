"""A policy that sees a picture and a vector: a real wrapper, a real explainer and the page over them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from e2e.harness import Tab
from torch import nn

from agentwrap import InterpretWrapper

Open = Callable[..., Tab]


class Noise(gym.Env[Any, Any]):
    """Shows what is drawn at random, whatever is done, and never ends."""

    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._seen(), 0.0, False, False, {}

    def _seen(self) -> dict[str, Any]:
        raise NotImplementedError


class Rover(Noise):
    """Shows a picture of noise, three numbers of which the policy ignores the last, and one of three modes."""

    observation_space = gym.spaces.Dict(
        {
            "eye": gym.spaces.Box(0, 255, (1, 40, 40), np.uint8),
            "body": gym.spaces.Box(-1, 1, (3,), np.float32),
            "mode": gym.spaces.Discrete(3),
        }
    )

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


class TwoEyes(Noise):
    """Shows a picture in colour and how far away things are, both of noise."""

    observation_space = gym.spaces.Dict(
        {
            "colour": gym.spaces.Box(0, 255, (40, 40, 3), np.uint8),
            "depth": gym.spaces.Box(0, 1, (1, 32, 32), np.float32),
        }
    )

    def _seen(self) -> dict[str, Any]:
        colour = self.np_random.integers(0, 256, (40, 40, 3)).astype(np.uint8)
        return {"colour": colour, "depth": self.np_random.random((1, 32, 32), np.float32)}


class Corners(nn.Module):
    """Looks at the upper left of the picture in colour, and at the lower right of how far away things are."""

    def forward(self, observation: dict[str, torch.Tensor]) -> torch.Tensor:
        colour = observation["colour"].float()[:, 4:12, 4:12].mean((1, 2, 3)) / 255
        depth = observation["depth"][:, 0, 22:28, 22:28].mean((1, 2))
        return torch.stack([colour + depth, -colour - depth], 1)


@pytest.fixture
def running() -> Iterator[tuple[Any, Driver, str]]:
    """The environment, wrapped, its policy, and the address of a page over them in a process of its own."""
    policy = Driver()
    names = ("drive", "turn", "spare")
    env = InterpretWrapper(Rover(), policy, endpoint="tcp://127.0.0.1:*", feature_names=names, quiet=True)
    with page_over(env, "--method", "rise") as address:
        yield env, policy, address


@contextmanager
def page_over(env: Any, *options: str) -> Iterator[str]:
    """The address of a page over a wrapped environment, which is closed in the end."""
    command = [sys.executable, "-m", "agentwrap_viewer", "view", env.endpoint, "--no-browser", "--port", "0"]
    viewer = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    try:
        assert viewer.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/", viewer.stdout.readline())
        assert found is not None
        yield found[0]
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
    tab.until(drive(lambda: widths()[3] > 0), "what is looked up has one")
    assert not tab.errors


def test_what_the_policy_is_not_given_has_no_bar(open_tab: Open) -> None:
    class Half(Driver):
        def forward(self, observation: dict[str, torch.Tensor]) -> torch.Tensor:
            effect = (observation["body"] * self.weight).sum(1)
            return torch.stack([effect, -effect], 1)

    policy = Half()
    env = InterpretWrapper(Rover(), policy, endpoint="tcp://127.0.0.1:*", quiet=True)
    observation, _ = env.reset(seed=0)
    with page_over(env) as address:
        tab = open_tab(address)

        def step_and_look() -> bool:
            policy({"body": torch.as_tensor(observation["body"])[None]})
            observation.update(env.step(0)[0])
            return tab.find(".card.features .row.unscored .name").all_inner_texts() == ["mode"]

        tab.until(step_and_look, "the entry that is left out")
        assert not tab.errors


class Player(nn.Module):
    """Looks its hand up number by number: the player's sum counts, the dealer's card half as much, the ace does not."""

    def __init__(self) -> None:
        super().__init__()
        self.sum, self.card = nn.Embedding(32, 2), nn.Embedding(11, 2)
        with torch.no_grad():
            self.sum.weight[:] = torch.arange(32.0)[:, None] * torch.tensor([1.0, -1.0]) / 16
            self.card.weight[:] = torch.arange(11.0)[:, None] * torch.tensor([1.0, -1.0]) / 32

    def forward(self, hand: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return self.sum(hand[0]) + self.card(hand[1]) + 0 * hand[2][:, None]


@pytest.mark.parametrize("kind", ["module", "array", "dict"])
def test_a_hand_of_blackjack_is_looked_up(kind: str, open_tab: Open) -> None:
    module = Player()
    with torch.no_grad():
        array = (module.sum.weight[:, None, None] + module.card.weight[:, None]).expand(32, 11, 2, 2).numpy()
    known = {hand: array[hand] for hand in np.ndindex(32, 11, 2)}
    policy = {"module": module, "array": lambda hand: array[hand], "dict": lambda hand: known[hand]}[kind]
    env = InterpretWrapper(gym.make("Blackjack-v1"), policy, endpoint="tcp://127.0.0.1:*", quiet=True)
    observation, _ = env.reset(seed=0)
    with page_over(env) as address:
        tab = open_tab(address)
        features = tab.find(".card.features")

        def widths() -> list[float]:
            fills = features.locator(".fill.actor").evaluate_all("fills => fills.map(fill => fill.style.width)")
            return [float(fill.removesuffix("%") or 0) for fill in fills]

        def play() -> list[float]:
            nonlocal observation
            if kind == "module":
                with torch.no_grad():
                    module(tuple(torch.as_tensor(number)[None] for number in observation))
            observation, _, terminated, _, _ = env.step(env.np_random.integers(2))
            if terminated:
                observation, _ = env.reset()
            return widths()

        tab.until(lambda: len(found := play()) == 3 and found[0] == 100 and 0 < found[1] < 100 and not found[2], "bars")
        assert features.locator(".name").all_inner_texts() == ["player's sum", "dealer's card", "usable ace"]
        assert tab.find(".card.policy .name").all_inner_texts() == ["stick", "hit"]
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


def test_each_of_several_pictures_can_be_looked_at(open_tab: Open) -> None:
    policy = Corners()
    env = InterpretWrapper(TwoEyes(), policy, endpoint="tcp://127.0.0.1:*", quiet=True)
    observation, _ = env.reset(seed=0)
    with page_over(env) as address:
        tab = open_tab(address)

        def stepped(condition: Callable[[], Any]) -> Callable[[], Any]:
            def step_and_look() -> Any:
                nonlocal observation
                policy({name: torch.as_tensor(array)[None] for name, array in observation.items()})
                observation = env.step(0)[0]
                return condition()

            return step_and_look

        def peak() -> tuple[tuple[int, int], bool, bool]:
            """Size of the heat, and whether it is highest in the upper and in the left half."""
            heat = tab.canvas("heat")
            alpha = np.array(heat["data"]).reshape(heat["height"], heat["width"], 4)[..., 3]
            row, column = np.unravel_index(alpha.argmax(), alpha.shape)
            return alpha.shape, bool(row < alpha.shape[0] / 2), bool(column < alpha.shape[1] / 2)

        tab.until(stepped(lambda: tab.alpha() > 0 and peak() == ((40, 40), True, True)), "heat over the first picture")
        choice = tab.page.get_by_role("combobox", name="Picture of the observation")
        assert choice.locator("option").all_inner_texts() == ["colour", "depth"]
        choice.select_option("depth")
        tab.until(stepped(lambda: peak() == ((32, 32), False, False)), "heat where the other is looked at")
        shown = tab.picture()
        assert shown.shape == (32, 32, 3) and (shown == shown[..., :1]).all(), "it is the other picture, in grey"
        assert tab.find(".card.inputs .caption").inner_text() == "1 × 32 × 32"
        other = open_tab(address)
        other.until(stepped(lambda: other.find(".stage canvas.frame").evaluate("c => c.width") == 40), "its own choice")
        assert not tab.errors + other.errors
