"""Going back in a running agent's session beyond what memory holds, and recording it from the page."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from e2e.harness import Tab, World
from fakes import frame_of, step
from recordings import steps_in

from agentwrap_viewer.page.components import charts
from agentwrap_viewer.page.ring import size_of
from agentwrap_viewer.page.spool import Spool
from agentwrap_viewer.page.store import Store
from agentwrap_viewer.recording import open_recording

Open = Callable[..., Tab]


def shows(tab: Tab, number: int) -> bool:
    return np.array_equal(tab.picture(), frame_of(number))


@pytest.fixture
def world(make_world: Callable[..., World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(charts, "NEWEST", 60)
    monkeypatch.setattr(charts, "PART", 16)
    spool = partial(Spool, tmp_path / "spool")
    store = partial(Store, ring_bytes=5 * size_of(step(0)), older=spool)
    (tmp_path / "recorded").mkdir()
    return make_world(make_store=store, records_to=tmp_path / "recorded")


def test_the_first_step_of_a_session_can_be_looked_at_again(world: World, open_tab: Open) -> None:
    tab = open_tab(world.address)
    world.agent.play(60)
    tab.until(lambda: tab.step() > 150, "a session longer than memory")
    tab.press("Home")
    tab.until(lambda: tab.step() == 0, "its first step")
    tab.until(lambda: "gone" not in tab.find(".transport .where").inner_text(), "that it is kept")
    tab.until(lambda: shows(tab, 0), "its picture")
    for expected in (1, 2, 3):
        tab.press("ArrowRight")
        tab.until(lambda expected=expected: tab.step() == expected, "the next step")
    tab.until(lambda: shows(tab, 3), "its picture")
    tab.until(lambda: tab.find(".chart.value .aside").inner_text() == "0.15", "the value of then")
    tab.until(lambda: tab.alpha() > 0, "heat")
    tab.press("End")
    tab.until(lambda: tab.step() > 150 and tab.find(".transport[data-mode=live]").count(), "the newest step")
    assert not tab.errors


def test_the_record_button_writes_a_recording_that_opens(world: World, open_tab: Open, tmp_path: Path) -> None:
    tab = open_tab(world.address)
    world.agent.play(60)
    button = tab.find(".transport .record")
    tab.until(lambda: tab.alpha() > 0, "heat")
    button.click()
    tab.until(lambda: button.get_attribute("aria-pressed") == "true", "that it records")
    tab.until(lambda: "Recording to" in button.get_attribute("title"), "where to")
    second = open_tab(world.address)
    second.until(lambda: second.find(".transport .record[aria-pressed=true]").count(), "the other tab's button")
    second.until(lambda: second.find(".transport .record .text").inner_text() >= "0:02", "for how long")
    (path,) = tab.until(lambda: list((tmp_path / "recorded").glob("*.mcap")), "its file")
    tab.until(lambda: len(steps_in(path)) > 5, "some steps")
    second.find(".transport .record").click()
    tab.until(lambda: "saved" in button.inner_text(), "that it was saved")
    assert path.name in button.inner_text() and path.name in button.get_attribute("title")
    with open_recording(path) as recording:
        assert recording.complete and len(recording.steps) > 5
        steps = recording.array("step")
        assert (np.diff(steps) == 1).all(), "what was sent is whole"
    assert not tab.errors
