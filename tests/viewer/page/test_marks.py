"""What is marked on a timeline."""

from __future__ import annotations

from agentwrap_viewer.page.marks import MOST, Mark, Marks


def test_each_source_renews_its_own_marks_and_all_are_in_order() -> None:
    marks = Marks()
    marks.put("moments", [Mark(9, "td_error", "x"), Mark(3, "terminated")])
    marks.put("bookmarks", [Mark(5, "bookmark", "here")])
    assert [mark.step for mark in marks.all] == [3, 5, 9] and marks.version == 2
    marks.put("moments", [Mark(7, "td_error")])
    assert [mark.step for mark in marks.all] == [5, 7] and marks.of("moments") == (Mark(7, "td_error"),)
    assert marks.of("nobody") == ()


def test_of_too_many_marks_as_many_are_kept_evenly_spread() -> None:
    marks = Marks()
    marks.put("everything", (Mark(step, "disagreement") for step in range(10 * MOST)))
    kept = [mark.step for mark in marks.all]
    assert kept == list(range(0, 10 * MOST, 10))
