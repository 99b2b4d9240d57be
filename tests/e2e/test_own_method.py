"""A method of another package, on the page that the command serves."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from e2e.harness import Served, Tab
from fakes import FakeAgent, own_method_package


def test_a_method_registered_by_an_entry_point_is_in_the_pages_menu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_tab: Callable[..., Tab]
) -> None:
    own_method_package(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    agent = FakeAgent()
    served = Served("view", agent.endpoint)
    try:
        tab = open_tab(served.address)
        agent.play(20)
        tab.until(tab.select("Method").count, "the menu")
        tab.choose("Method", "Erase")
        tab.page.get_by_text("How much the value falls when a square is painted black.").wait_for()
        tab.page.locator("label", has_text="side").wait_for()
        assert tab.errors == []
    finally:
        served.close()
        agent.close()
