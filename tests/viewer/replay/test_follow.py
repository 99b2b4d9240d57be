"""A recording that is still being written, followed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fakes import EPISODE, hello
from listener import eventually
from recordings import known

from agentwrap_protocol.messages import EpisodeEnd
from agentwrap_viewer import open_recording
from agentwrap_viewer.recording import RecordingError
from agentwrap_viewer.recording.writer import RecordingWriter
from agentwrap_viewer.replay import marked
from agentwrap_viewer.replay.columns import Columns
from agentwrap_viewer.replay.cursor import ReplayCursor
from agentwrap_viewer.replay.marked import Wanted
from agentwrap_viewer.replay.store import RecordedStore


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[RecordingWriter]:
    with RecordingWriter(tmp_path / "run.mcap", hello()) as made:
        yield made


def write(writer: RecordingWriter, first: int, last: int) -> None:
    for number in range(first, last):
        writer.add(known(number))
        if (number + 1) % EPISODE == 0:
            writer.add(
                EpisodeEnd(
                    stream="0" * 32,
                    episode=number // EPISODE,
                    step=number,
                    length=EPISODE,
                    episode_return=10.0,
                    seconds=1.0,
                    reason="terminated",
                )
            )
    writer.flush()


def test_columns_grow_to_what_they_are_when_read_at_once(writer: RecordingWriter) -> None:
    write(writer, 0, 7)
    with open_recording(writer.path) as recording:
        grown = Columns.of(recording)
        for end in (8, 150, 9_000):
            write(writer, len(grown.step), end)
            recording.refresh()
            grown = Columns.of(recording, grown)
        whole = Columns.of(recording)
    for name in ("step", "episode"):
        np.testing.assert_array_equal(getattr(grown, name), getattr(whole, name))
    np.testing.assert_allclose(grown.clock, whole.clock, atol=1e-6)
    for name, column in whole.overview.columns.items():
        np.testing.assert_array_equal(grown.overview.columns[name], column)
    np.testing.assert_array_equal(grown.overview.borders, whole.overview.borders)


def test_what_is_written_is_shown_and_the_end_is_noticed(writer: RecordingWriter) -> None:
    write(writer, 0, 50)
    with open_recording(writer.path) as recording:
        store = RecordedStore(recording, follow=True)
        now = [0.0]
        cursor = ReplayCursor(store, clock=lambda: now[0])
        assert store.follows and store.notes == []
        cursor.live()
        assert (cursor.mode, cursor.position, cursor.wait()) == ("playing", 49, None)
        write(writer, 50, 2 * EPISODE)
        assert store.steps.last == 49
        store.advance()
        assert store.steps.last == 2 * EPISODE - 1 and store.newest.step == 2 * EPISODE - 1
        assert store.episodes.ended == 2
        now[0] = 3.05
        assert cursor.position == 79 and cursor.step().step == 79 and cursor.wait() is not None
        now[0] = 1000.0
        assert (cursor.mode, cursor.position) == ("playing", 2 * EPISODE - 1)
        writer.close()
        store.advance()
        assert not store.follows
        assert (cursor.position, cursor.mode) == (2 * EPISODE - 1, "paused"), "it was ended"


def test_moments_of_what_is_written_are_marked(writer: RecordingWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    write(writer, 0, 50)
    with open_recording(writer.path) as recording:
        store = RecordedStore(recording, follow=True)
        store.marks.find_moments(Wanted(["terminated"]))
        assert store.marks.all == []
        write(writer, 50, EPISODE + 1)
        eventually(lambda: store.advance() or [mark.step for mark in store.marks.all] == [EPISODE - 1])
        monkeypatch.setattr(marked, "SHARE", 1e-12)
        store.marks.find_moments(Wanted(["terminated"]))  # is due again in hours, but for the end
        write(writer, EPISODE + 1, 2 * EPISODE)
        store.advance()
        assert [mark.step for mark in store.marks.all] == [EPISODE - 1]
        writer.close()
        store.advance()
        assert [mark.step for mark in store.marks.all] == [EPISODE - 1, 2 * EPISODE - 1]


def test_one_that_is_not_followed_stays_as_it_was(writer: RecordingWriter) -> None:
    write(writer, 0, 50)
    with open_recording(writer.path) as recording:
        store = RecordedStore(recording)
        write(writer, 50, 60)
        store.advance()
        assert store.steps.last == 49 and any("was not ended" in note for note in store.notes)


def test_a_file_that_goes_bad_is_said_and_what_is_known_stays(
    writer: RecordingWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(writer, 0, 50)
    with open_recording(writer.path) as recording:
        store = RecordedStore(recording, follow=True)

        def refresh() -> int:
            raise RecordingError("the disk is gone")

        monkeypatch.setattr(recording, "refresh", refresh)
        store.advance()
        assert "what is written from now on is not shown: the disk is gone" in store.notes
        assert store.steps.at(49).step == 49
