"""A user's marks: what was added is read again, by hand as well, and what cannot be is said."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentwrap_viewer import open_recording
from agentwrap_viewer.recording import RecordingError
from agentwrap_viewer.recording.bookmarks import LONGEST_NOTE, MOST_BYTES, Bookmark, Bookmarks, parse

# What text and trees of JSON a file might hold.
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["step", "note", "bookmarks", "x"]), inner)
    ),
    max_leaves=12,
)


@pytest.fixture
def bookmarks(tmp_path: Path) -> Bookmarks:
    return Bookmarks(tmp_path / "run.mcap", stream="a" * 32)


def test_what_was_added_is_there_again_in_order(bookmarks: Bookmarks, tmp_path: Path) -> None:
    assert bookmarks.all == []
    bookmarks.add(88, " the crash ")
    bookmarks.add(3, "größer als 0\n“second” line")
    bookmarks.add(88, "another word for it")
    again = Bookmarks(tmp_path / "run.mcap", stream="a" * 32)
    assert again.all == [Bookmark(3, "größer als 0\n“second” line"), Bookmark(88, "another word for it")]
    again.remove(3)
    again.remove(1000)
    assert [each.step for each in bookmarks.all] == [88], "what somebody else wrote is not lost"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["run.mcap.bookmarks.json"]


def test_a_file_written_by_hand_needs_steps_alone(bookmarks: Bookmarks) -> None:
    bookmarks.path.write_text('{"bookmarks": [{"step": 7}, {"step": 2, "note": "x", "colour": "red"}]}')
    assert bookmarks.all == [Bookmark(2, "x"), Bookmark(7)]


def test_a_file_that_is_none_is_named_and_never_overwritten(bookmarks: Bookmarks) -> None:
    bookmarks.path.write_text("my notes on this run")
    with pytest.raises(RecordingError, match=r"run\.mcap\.bookmarks\.json holds no bookmarks: .*Mend it, or move"):
        bookmarks.add(1)
    assert bookmarks.path.read_text() == "my notes on this run"
    bookmarks.path.write_text(json.dumps({"stream": "b" * 32, "bookmarks": []}))
    with pytest.raises(RecordingError, match="bookmarks of another recording"):
        bookmarks.add(1)


def test_bounds_are_said(bookmarks: Bookmarks, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecordingError, match="501 characters"):
        bookmarks.add(1, "x" * (LONGEST_NOTE + 1))
    with pytest.raises(RecordingError, match="-1 is no number of a step"):
        bookmarks.add(-1)
    monkeypatch.setattr("agentwrap_viewer.recording.bookmarks.MOST", 2)
    bookmarks.add(1)
    bookmarks.add(2)
    bookmarks.add(2, "again")
    with pytest.raises(RecordingError, match="holds 2 bookmarks"):
        bookmarks.add(3)
    with pytest.raises(ValueError, match="more than"):
        parse(b" " * (MOST_BYTES + 1))


def test_where_nothing_can_be_written_is_said_and_the_old_file_stays(
    bookmarks: Bookmarks, monkeypatch: pytest.MonkeyPatch
) -> None:
    bookmarks.add(1, "kept")

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RecordingError, match=r"cannot be written: No space left on device"):
        bookmarks.add(2)
    assert bookmarks.all == [Bookmark(1, "kept")] and list(bookmarks.path.parent.glob(".*.part")) == []
    nowhere = Bookmarks(bookmarks.path.parent / "none" / "run.mcap")
    with pytest.raises(RecordingError, match="cannot be written: No such file or directory"):
        nowhere.add(1)


def test_a_recording_has_its_bookmarks_beside_it(cartpole: Path, tmp_path: Path) -> None:
    with open_recording(shutil.copy(cartpole, tmp_path / "run.mcap")) as recording:
        recording.bookmarks.add(5, "here")
        written = json.loads((tmp_path / "run.mcap.bookmarks.json").read_text())
        assert written == {"stream": recording.metadata["stream"], "bookmarks": [{"step": 5, "note": "here"}]}


@settings(deadline=None)
@given(st.binary(max_size=200) | TREES.map(lambda tree: json.dumps(tree).encode()))
def test_whatever_is_in_the_file_it_is_bookmarks_or_an_error_in_words(data: bytes) -> None:
    try:
        stream, found = parse(data)
    except ValueError as error:
        assert str(error)
    else:
        assert isinstance(stream, str) and all(0 <= each.step <= 2**62 for each in found)


@settings(deadline=None, max_examples=25)  # a file is written and synchronised each time
@given(st.dictionaries(st.integers(0, 2**62), st.text(max_size=LONGEST_NOTE), max_size=5))
def test_any_notes_come_back(tmp_path_factory: pytest.TempPathFactory, notes: dict[int, str]) -> None:
    kept = Bookmarks(tmp_path_factory.mktemp("notes") / "run.mcap")
    for step, note in notes.items():
        kept.add(step, note)
    assert kept.all == [Bookmark(step, note.strip()) for step, note in sorted(notes.items())]
