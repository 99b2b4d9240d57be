"""What a tab over a recording obeys."""

from __future__ import annotations

from typing import Any

import pytest

from agentwrap_viewer.page.frames import Resume
from agentwrap_viewer.page.packet import EncodedCache
from agentwrap_viewer.page.receiver import Receiver
from agentwrap_viewer.replay.store import RecordedStore
from agentwrap_viewer.replay.tab import ReplayTab


@pytest.fixture
def tab(store: RecordedStore) -> ReplayTab:
    return ReplayTab(Receiver(store, None), EncodedCache())


def place(stream: str | None, **fields: Any) -> Resume:
    assert stream is not None
    return Resume(**{"stream": stream, "step": 60, "speed": 2.0, "playing": False, **fields})


def test_takes_the_place_that_it_had_before(tab: ReplayTab, store: RecordedStore) -> None:
    tab.obey(place(store.stream, loop=(50, 70)))
    cursor = tab.cursor
    assert (cursor.position, cursor.mode, cursor.speed, cursor.loop) == (60, "paused", 2.0, (50, 70))
    tab.obey(place(store.stream, playing=True))
    assert (cursor.mode, cursor.speed) == ("playing", 2.0)


def test_a_place_in_another_recording_is_none_in_this(tab: ReplayTab) -> None:
    with pytest.raises(ValueError, match="another recording"):
        tab.obey(place("f" * 32))
    assert tab.cursor.position == 0


def test_a_place_that_is_no_longer_there_is_the_nearest(tab: ReplayTab, store: RecordedStore) -> None:
    tab.obey(place(store.stream, step=10**9))
    assert tab.cursor.position == store.steps.last
    with pytest.raises(ValueError, match="speed"):
        tab.obey(place(store.stream, step=5, speed=3.0))
    assert tab.cursor.position == 5
