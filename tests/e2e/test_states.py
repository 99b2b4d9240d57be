"""The state map in Chromium: points of a running agent and of a recording, and what the pointer does on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import fakes
import numpy as np
import pytest
from children import running
from e2e.harness import Served, Tab, World
from playwright.sync_api import Locator
from states import states

from agentwrap_viewer.recording.writer import RecordingWriter

#: Steps of the recording: three episodes, four groups of states.
STEPS = 260


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path: Path = tmp_path_factory.mktemp("states") / "run.mcap"
    with RecordingWriter(path, fakes.hello()) as writer:
        for step in states(STEPS):
            writer.add(step)
    replay = Served("replay", path)
    yield replay.address
    replay.close()


def shown(tab: Tab) -> Tab:
    """Wait until the map is at rest, laid out by t-SNE."""
    tab.until(lambda: tab.find(f".card.states[data-method=tsne][data-count='{STEPS}']").count(), "the t-SNE")
    drawn: list[int] = []

    def rests() -> bool:  # for a while: on a busy machine the next drawing can be late
        drawn.append(int(tab.find(".card.states").get_attribute("data-drawn") or 0))
        tab.page.wait_for_timeout(200)
        return len(drawn) > 4 and len(set(drawn[-4:])) == 1

    tab.until(rests, "points at rest")
    return tab


def painted(tab: Tab) -> np.ndarray:
    """Where there are pixels of points, bool (H, W)."""
    text = tab.find("canvas.points").evaluate(
        "c => { const {data} = c.getContext('2d').getImageData(0, 0, c.width, c.height);"
        " return JSON.stringify([c.height, c.width, Array.from(data.filter((_, k) => k % 4 === 3), a => +(a > 0))]) }"
    )
    height, width, alpha = json.loads(text)
    return np.array(alpha, bool).reshape(height, width)


def pixels_of(canvas: Locator) -> np.ndarray:
    """What a canvas shows, uint8 (height, width, RGB)."""
    width, height, data = canvas.evaluate(
        "c => [c.width, c.height, Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)]"
    )
    return np.array(data, np.uint8).reshape(height, width, 4)[..., :3]


def a_point(tab: Tab) -> tuple[float, float]:
    """Where on the page a point is drawn."""
    rows, columns = np.nonzero(painted(tab))
    box = tab.find("canvas.overlay").bounding_box()
    assert box is not None
    middle = len(rows) // 2
    return box["x"] + float(columns[middle]), box["y"] + float(rows[middle])


def test_points_of_a_running_agent_appear_while_it_runs(world: World, open_tab: Callable[..., Tab]) -> None:
    world.agent.make_step = lambda number: states(1, first=number)[0]
    world.agent.play(60)
    tab = open_tab(world.address)
    tab.until(lambda: tab.step() > 5, "steps")
    assert tab.find(".slot.states").is_hidden()
    tab.button("State map").click()
    count = tab.find(".card.states")
    tab.until(lambda: int(count.get_attribute("data-count") or 0) >= 20 and painted(tab).sum() > 50, "points")
    before = int(count.get_attribute("data-count") or 0)
    tab.until(lambda: int(count.get_attribute("data-count") or 0) > before + 20, "further points")
    assert "steps" in tab.find(".card.states .caption").inner_text()
    tab.button("Agent").click()
    tab.until(lambda: tab.find(".slot.value").is_visible() and tab.find(".slot.states").is_hidden(), "the agent's view")
    assert tab.errors == []


def test_a_map_whose_process_is_killed_says_so_and_comes_back(world: World, open_tab: Callable[..., Tab]) -> None:
    world.agent.make_step = lambda number: states(1, first=number)[0]
    world.agent.play(60)
    tab = open_tab(world.address + "#states")
    card, note = tab.find(".card.states"), tab.find(".card.states .note")
    tab.until(lambda: int(card.get_attribute("data-count") or 0) >= 20 and painted(tab).sum() > 50, "points")
    tab.select("Layout").select_option("pca")
    tab.until(lambda: card.get_attribute("data-method") == "pca", "principal components")
    world.agent.pause()
    (process,) = running("agentwrap_viewer.states")
    process.kill()
    tab.until(lambda: "ended by signal 9" in note.inner_text(), "what happened")
    again = tab.find(".card.states[data-method=pca]")
    every = world.viewer.store.steps
    tab.until(
        lambda: again.count() and again.get_attribute("data-count") == str(world.viewer.do(lambda: len(every))),
        "all steps again, laid out as they were",
    )
    tab.until(lambda: not note.is_visible() and painted(tab).sum() > 50, "points, and no note any more")
    assert tab.errors == []


def test_without_latents_the_page_says_how_to_get_them(world: World, open_tab: Callable[..., Tab]) -> None:
    world.agent.play(60)
    tab = open_tab(world.address + "#states")
    told = tab.find(".card.states .plane .empty")
    tab.until(lambda: "layers=" in told.inner_text(), "what to do")
    assert tab.errors == []


def test_hover_click_lasso_and_neighbours(address: str, open_tab: Callable[..., Tab]) -> None:
    tab = shown(open_tab(address + "#states"))
    tab.until(lambda: tab.find(".alike .grid button").count() == 8, "frames like the first one")

    x, y = a_point(tab)
    tab.page.mouse.move(x, y)
    tip = tab.find(".states .tip")
    tab.until(lambda: tip.is_visible() and tip.locator("canvas").is_visible(), "the frame under the pointer")
    step = int(tip.get_attribute("data-step") or -1)
    expected = fakes.frame_of(step)
    tab.until(lambda: np.array_equal(pixels_of(tip.locator("canvas")), expected), "the frame of its step")
    tab.page.mouse.down()
    tab.page.mouse.up()
    tab.until(lambda: tab.step() == step, "the step that was clicked")

    box = tab.find("canvas.overlay").bounding_box()
    assert box is not None
    left, top, right, bottom = box["x"] + 3, box["y"] + 3, box["x"] + box["width"] - 3, box["y"] + box["height"] - 3
    tab.page.keyboard.down("Shift")
    tab.page.mouse.move(left, top)
    tab.page.mouse.down()
    for corner in [(right, top), (right, bottom), (left, bottom), (left, top)]:
        tab.page.mouse.move(*corner, steps=3)
    tab.page.mouse.up()
    tab.page.keyboard.up("Shift")
    chosen = tab.find(f".card.selection[data-count='{STEPS}']")
    tab.until(chosen.count, "all steps chosen")
    tab.until(lambda: tab.find(".card.selection[data-frames='64']").count(), "their mean frame")
    sample = [index * STEPS // 64 for index in range(64)]
    mean = np.rint(np.mean([fakes.frame_of(number) for number in sample], axis=0))
    drawn = tab.find(".selection canvas.frame")
    tab.until(lambda: np.allclose(pixels_of(drawn), mean, atol=1), "the mean of their frames")
    tab.until(lambda: "FIRE" in tab.find(".selection .bars").inner_text(), "its actions")
    tab.button("Clear").click()
    tab.until(lambda: not chosen.count(), "no selection")
    assert tab.errors == []


def test_points_of_a_policy_without_a_value_are_coloured_by_its_actions(
    tmp_path: Path, open_tab: Callable[..., Tab]
) -> None:
    path = tmp_path / "run.mcap"
    with RecordingWriter(path, fakes.hello()) as writer:
        for step in states(STEPS):
            step.arrays.pop("output/value")
            writer.add(step)
    replay = Served("replay", path)
    tab = shown(open_tab(replay.address + "#states"))
    assert tab.select("Colour by").input_value() == "action" and "NOOP" in tab.find(".states .legend").inner_text()
    tab.select("Colour by").select_option("value")
    tab.until(lambda: "the policy gave none" in tab.find(".states .legend").inner_text(), "why it has no colours")
    assert tab.errors == []
    replay.close()


def test_colours_and_layout_can_be_chosen(address: str, open_tab: Callable[..., Tab]) -> None:
    tab = shown(open_tab(address + "#states"))
    before = tab.find("canvas.points").evaluate("c => c.toDataURL()")
    tab.select("Colour by").select_option("action")
    tab.until(lambda: "NOOP" in tab.find(".states .legend").inner_text(), "the actions' colours")
    tab.until(lambda: tab.find("canvas.points").evaluate("c => c.toDataURL()") != before, "other colours")
    tab.select("Layout").select_option("pca")
    tab.until(lambda: tab.find(".card.states[data-method=pca]").count(), "principal components")
    tab.select("Layout").select_option("tsne")
    shown(tab)
    assert tab.errors == []
