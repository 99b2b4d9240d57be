"""Where a tab is, and how it moves."""

from __future__ import annotations

import pytest
from fakes import hello, saliency_map, step

from agentwrap_protocol.messages import Bye
from agentwrap_viewer.page.cursor import BURST, MAP_LIFE, Cursor
from agentwrap_viewer.page.ring import size_of
from agentwrap_viewer.page.store import Store


class World:
    """A store with a step every 0.1 s, and a clock that a test turns."""

    def __init__(self, count: int, **bounds: int) -> None:
        self.now = 0.0
        self.store = Store(**bounds)
        self.store.add(hello())
        self.count = 0
        self.add(count)
        self.cursor = Cursor(self.store, clock=lambda: self.now)

    def add(self, count: int) -> None:
        for _ in range(count):
            self.store.add(step(self.count, time=1000 + self.count / 10))
            self.count += 1

    def shown(self) -> int:
        found = self.cursor.step()
        assert found is not None
        return found.step


def test_nothing_to_show() -> None:
    cursor = Cursor(Store())
    assert cursor.position == -1 and cursor.step() is None
    for move in (cursor.pause, cursor.play, lambda: cursor.move(1), lambda: cursor.go(7)):
        move()
        assert cursor.step() is None


def test_live_shows_the_newest_and_pause_holds() -> None:
    world = World(5)
    assert world.shown() == 4
    world.cursor.pause()
    world.add(3)
    assert world.shown() == 4
    world.cursor.live()
    assert world.shown() == 7


def test_live_shows_each_of_a_few_steps_that_came_at_once() -> None:
    world = World(5)
    world.cursor.turn()
    assert world.shown() == 4
    world.add(BURST)
    for number in range(5, 4 + BURST):
        world.cursor.turn()
        assert (world.shown(), world.cursor.position, world.shown()) == (number,) * 3
        assert world.cursor.wait() == 0, "the next at once"
    world.cursor.turn()
    assert (world.shown(), world.cursor.wait()) == (4 + BURST, None)


def test_live_skips_steps_where_it_is_further_behind_or_follows_the_maps() -> None:
    world = World(5)
    world.cursor.turn()
    assert world.shown() == 4
    world.add(BURST + 1)
    world.cursor.turn()
    assert world.shown() == 5 + BURST
    world.cursor.follow = "mapped"
    world.add(2)
    newest = world.store.newest
    assert newest is not None
    world.store.add(saliency_map(newest))
    world.cursor.turn()
    assert world.shown() == newest.step


def test_move_is_by_one_and_stays_within_the_ring() -> None:
    world = World(5)
    world.cursor.move(-1)
    assert (world.cursor.mode, world.shown()) == ("paused", 3)
    world.cursor.move(1)
    assert world.shown() == 4
    world.cursor.move(1)
    assert world.shown() == 4
    world.cursor.move(-99)
    assert world.shown() == 0


def test_what_is_held_stays_with_its_map_when_the_store_forgets_both() -> None:
    bounds = {"ring_bytes": 3 * size_of(step(0)), "map_bytes": size_of(saliency_map(step(0)))}
    world = World(5, **bounds)
    its_map = saliency_map(step(4))
    world.store.add(its_map)
    world.cursor.pause()
    world.add(20)
    world.store.add(saliency_map(step(24)))
    assert world.store.steps.position_of(4) is None and world.store.maps.get(4) is None
    held = world.cursor.step()
    assert held is not None and held.step == 4
    assert world.cursor.saliency_map(held) is its_map
    assert not world.cursor.kept
    world.cursor.pause()
    assert world.shown() == 4, "a second pause let go of it"
    refined = saliency_map(step(4), forwards=999)
    world.store.add(refined)
    assert world.cursor.saliency_map(held) is refined, "a better map of it came later"


@pytest.mark.parametrize("count", [1, -1])
def test_from_a_step_no_longer_kept_one_moves_to_the_nearest_that_is(count: int) -> None:
    world = World(5, ring_bytes=3 * size_of(step(0)))
    world.cursor.pause()
    world.add(20)
    world.cursor.move(count)
    assert (world.shown(), world.cursor.kept) == (22, True)


def test_from_a_step_no_longer_kept_playing_goes_on_with_the_oldest_kept() -> None:
    world = World(5, ring_bytes=3 * size_of(step(0)))
    world.cursor.pause()
    world.add(20)
    world.cursor.play()
    assert (world.shown(), world.cursor.mode) == (22, "playing")
    world.cursor.live()
    assert world.shown() == 24


def test_a_pause_before_the_first_step_holds_the_first() -> None:
    world = World(0)
    world.cursor.pause()
    world.add(3)
    assert world.shown() == 0


def test_playing_keeps_the_time_between_steps() -> None:
    world = World(20)
    world.cursor.go(0)
    world.cursor.play(0.5)
    assert world.cursor.wait() == pytest.approx(0.2)
    world.now = 0.41
    assert world.shown() == 2
    assert world.cursor.wait() == pytest.approx(0.19)
    world.cursor.play(1.0)
    world.now += 0.31
    assert world.shown() == 5
    with pytest.raises(ValueError, match="0.1"):
        world.cursor.play(7.0)


def test_a_speed_chosen_while_paused_waits_for_play() -> None:
    world = World(20)
    world.cursor.go(0)
    world.cursor.set_speed(0.5)
    world.now = 9.0
    assert (world.shown(), world.cursor.mode, world.cursor.speed) == (0, "paused", 0.5)
    world.cursor.play()
    world.now = 9.41
    assert world.shown() == 2
    world.cursor.set_speed(0.25)
    assert (world.cursor.mode, world.cursor.speed) == ("playing", 0.25)
    for change in (lambda: None, world.cursor.pause):
        change()
        with pytest.raises(ValueError, match="0.1"):
            world.cursor.set_speed(7.0)


def test_playing_does_not_wait_for_long_pauses_of_the_agent() -> None:
    world = World(5)
    for number in range(5, 10):
        world.store.add(step(number, time=1060 + number / 10))
    world.cursor.go(3)
    world.cursor.play()
    world.now = 0.15
    assert world.shown() == 4
    assert world.cursor.wait() == pytest.approx(0.95)
    world.now = 1.0
    assert world.shown() == 4
    world.now = 1.15
    assert world.shown() == 5, "after a second, where the agent took a minute"
    assert world.cursor.wait() == pytest.approx(0.05)
    world.now = 1.31
    assert world.shown() == 7, "and then as before"


def test_playing_fast_ends_live() -> None:
    world = World(10)
    world.cursor.go(5)
    world.cursor.play(2.0)
    world.now = 10.0
    assert (world.shown(), world.cursor.mode) == (9, "live")


def test_another_stream_is_shown_live() -> None:
    world = World(10)
    world.cursor.go(3)
    world.store.add(hello("1" * 32))
    world.store.add(step(0, "1" * 32))
    assert (world.shown(), world.cursor.mode) == (0, "live")


def test_a_moving_view_takes_the_newest_map_of_its_episode_a_held_one_its_own() -> None:
    world = World(30)
    map_of_5 = saliency_map(step(5))
    world.store.add(map_of_5)
    assert world.cursor.saliency_map(world.store.steps.at(7)) is map_of_5
    too_late = 5 + int(MAP_LIFE * 10) + 1
    assert world.cursor.saliency_map(world.store.steps.at(too_late)) is None
    world.cursor.go(7)
    assert world.cursor.saliency_map(world.store.steps.at(7)) is None
    assert world.cursor.saliency_map(world.store.steps.at(5)) is map_of_5


def test_a_map_of_the_episode_before_is_not_shown() -> None:
    world = World(105)
    world.store.add(saliency_map(step(99)))
    assert world.store.steps.at(101).episode == 1
    assert world.cursor.saliency_map(world.store.steps.at(101)) is None


def test_a_live_view_waits_a_moment_for_the_first_map_of_an_episode() -> None:
    world = World(100)
    world.store.add(saliency_map(step(98, time=1009.8)))
    assert world.shown() == 99
    world.add(1)
    for _ in range(2):
        world.cursor.turn()
        assert world.shown() == 99, "the last that a map lay over; not back to the one that has it"
        assert world.cursor.wait() is None, "nothing but news changes that"
    world.store.add(saliency_map(step(100, time=1010.0)))
    assert world.shown() == 100
    world.cursor.live()
    world.add(1)
    assert world.shown() == 101, "the episode has a map"


def test_a_live_view_does_not_wait_long_for_a_map() -> None:
    world = World(100)
    world.store.add(saliency_map(step(99, time=1009.9)))
    assert world.shown() == 99
    world.add(2)
    assert world.shown() == 99
    world.add(1)
    assert world.shown() == 102


def test_a_live_view_does_not_wait_for_a_map_when_the_agent_has_ended() -> None:
    world = World(100)
    world.store.add(saliency_map(step(99, time=1009.9)))
    world.add(1)
    world.store.add(Bye(stream="0" * 32, time=1010.05, reason="over"))
    assert world.shown() == 100


def test_following_the_maps_shows_the_newest_step_that_has_one() -> None:
    world = World(10)
    world.cursor.follow = "mapped"
    assert world.shown() == 9
    world.store.add(saliency_map(step(6, time=1000.6)))
    assert world.shown() == 6
    world.add(40)
    assert world.shown() == 49, "a map too old is no reason to stand still"


def test_what_is_kept_of_an_agent_that_has_ended_is_played_once_more() -> None:
    world = World(10)
    world.cursor.play()
    assert world.shown() == 9, "an agent that goes on"
    world.cursor.live()
    world.store.add(Bye(stream="0" * 32, time=1001.0, reason="over"))
    assert world.store.over and world.shown() == 9
    for _ in range(2):
        world.cursor.play()
        assert (world.shown(), world.cursor.mode) == (0, "playing")
        world.now += 0.55
        assert world.shown() == 5
        world.now += 1.0
        assert (world.shown(), world.cursor.mode) == (9, "live")
    world.cursor.go(4)
    world.cursor.play()
    assert world.shown() == 4, "it goes on where it was held"
