"""Where a tab is in a recording, and how it moves."""

from __future__ import annotations

import pytest
from fakes import saliency_map
from recordings import known

from agentwrap_viewer.page.cursor import MAP_LIFE
from agentwrap_viewer.replay.cursor import ReplayCursor
from agentwrap_viewer.replay.store import RecordedStore


class World:
    """A cursor over steps that are 0.1 s apart, and a clock that a test turns."""

    def __init__(self, store: RecordedStore) -> None:
        self.now = 0.0
        self.store = store
        self.cursor = ReplayCursor(store, clock=lambda: self.now)

    def shown_after(self, seconds: float) -> int:
        self.now += seconds
        step = self.cursor.step()
        assert step is not None and step.step == self.cursor.position
        return step.step


@pytest.fixture
def world(store: RecordedStore) -> World:
    return World(store)


def test_begins_paused_at_the_first_step(world: World) -> None:
    assert world.cursor.mode == "paused" and world.shown_after(10) == 0 and world.cursor.wait() is None


def test_moves_within_the_recording(world: World) -> None:
    cursor = world.cursor
    for move, shown in (
        (lambda: cursor.move(10), 10),
        (lambda: cursor.move(-1), 9),
        (lambda: cursor.move(-100), 0),
        (lambda: cursor.go(10**12), 249),
        (cursor.live, 249),
        (lambda: cursor.go(123), 123),
    ):
        move()
        assert world.shown_after(5) == shown and cursor.mode == "paused"


@pytest.mark.parametrize("speed", ReplayCursor.speeds)
def test_plays_at_each_speed(world: World, speed: float) -> None:
    world.cursor.go(20)
    world.cursor.play(speed)
    assert world.shown_after(0.0) == 20
    assert world.shown_after(1.05 / speed) == 30
    assert world.cursor.wait() == pytest.approx(max(0.002, 0.05 / speed), abs=1e-6)
    world.cursor.set_speed(1.0)
    assert world.shown_after(0.25) == 32, "from the step that was shown when the speed was changed"


def test_speeds_are_those_there_are(world: World) -> None:
    with pytest.raises(ValueError, match="not one of"):
        world.cursor.play(3.0)


def test_pauses_at_the_end_and_plays_again_from_the_beginning(world: World) -> None:
    world.cursor.go(247)
    world.cursor.play()
    assert world.shown_after(0.21) == 249 and world.cursor.mode == "playing"
    assert world.shown_after(0.2) == 249 and world.cursor.mode == "paused"
    world.cursor.play()
    assert world.shown_after(0.11) == 1


def test_plays_a_range_over_and_over(world: World) -> None:
    cursor = world.cursor
    cursor.play()
    cursor.repeat(100, 104)
    assert world.shown_after(0.0) == 100 and cursor.mode == "playing"
    assert [world.shown_after(0.1 + 1e-6) for _ in range(6)] == [101, 102, 103, 104, 100, 101]
    cursor.go(200)
    assert world.shown_after(0) == 200, "one may look elsewhere"
    cursor.play()
    assert world.shown_after(0) == 100
    cursor.repeat_not()
    assert world.shown_after(1.01) == 110
    for first, last in ((5, 5), (9, 3), (400, 500)):
        with pytest.raises(ValueError, match="no range"):
            cursor.repeat(first, last)


def test_a_range_is_cut_at_the_end_and_leaves_who_is_paused_so(world: World) -> None:
    world.cursor.repeat(240, 10**9)
    assert world.cursor.loop == (240, 249) and world.cursor.mode == "paused" and world.shown_after(1) == 240


def test_while_playing_a_map_of_shortly_before_is_drawn_and_while_paused_its_own_alone(world: World) -> None:
    world.store.add(saliency_map(known(100)))
    shown = {}
    for position in (99, 100, 105, 100 + int(10 * MAP_LIFE) + 1):
        world.cursor.go(position)
        paused = world.cursor.saliency_map(world.cursor.step())  # type: ignore[arg-type]
        world.cursor.play()
        playing = world.cursor.saliency_map(world.cursor.step())  # type: ignore[arg-type]
        shown[position] = (paused is not None, playing is not None)
    assert shown == {99: (False, False), 100: (True, True), 105: (False, True), 121: (False, False)}


def test_a_map_of_the_episode_before_is_not_drawn(world: World) -> None:
    world.store.add(saliency_map(known(99)))
    world.cursor.go(101)
    world.cursor.play()
    assert world.cursor.saliency_map(world.cursor.step()) is None  # type: ignore[arg-type]
