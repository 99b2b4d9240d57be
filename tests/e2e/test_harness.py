"""What the tests of the page wait with."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from e2e import harness
from e2e.harness import Tab

#: Two of one name at first, as while one part of a page takes another's place.
TWINS = """<button>name</button><button>name</button>
<script>setTimeout(() => document.querySelector("button").remove(), {})</script>"""


def test_waits_while_a_part_of_the_page_takes_anothers_place(open_tab: Callable[..., Tab]) -> None:
    tab = open_tab("about:blank", shown=False)
    tab.page.set_content(TWINS.format(300))
    assert tab.until(lambda: tab.button("name").text_content(), "the only one") == "name"


def test_names_what_stood_in_the_way_until_the_end(
    open_tab: Callable[..., Tab], monkeypatch: pytest.MonkeyPatch
) -> None:
    tab = open_tab("about:blank", shown=False)
    tab.page.set_content(TWINS.format(10**9))
    monkeypatch.setattr(harness, "PATIENCE", 500)
    with pytest.raises(AssertionError, match="in vain for the only one; the condition itself failed: .*2 elements"):
        tab.until(lambda: tab.button("name").text_content(), "the only one")
