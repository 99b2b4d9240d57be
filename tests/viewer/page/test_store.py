"""The store keeps what it should, and no more."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import hello, saliency_map, step

from agentwrap_protocol.messages import Bye, EpisodeEnd, Explainer, Heartbeat
from agentwrap_viewer.page.episodes import KEPT
from agentwrap_viewer.page.ring import MapShelf, Series, StepRing, size_of
from agentwrap_viewer.page.store import Store, value_of

OTHER = "1" * 32


def filled(count: int, **bounds: int) -> Store:
    store = Store(**bounds)
    store.add(hello())
    for number in range(count):
        store.add(step(number))
    return store


def test_ring_holds_to_its_bytes_and_keeps_positions() -> None:
    size = size_of(step(0))
    ring = StepRing(max_bytes=int(size * 3.5), max_steps=100)
    for number in range(10):
        ring.append(step(number * 2))
    assert (len(ring), ring.first, ring.last) == (3, 7, 9)
    assert ring.bytes == 3 * size
    assert ring.at(6) is None and ring.at(10) is None
    assert ring.at(7).step == 14
    assert ring.position_of(18) == 9 and ring.position_of(0) is None


def test_ring_keeps_the_newest_step_even_where_it_is_too_large() -> None:
    ring = StepRing(max_bytes=10, max_steps=100)
    ring.append(step(0))
    ring.append(step(1))
    assert [kept.step for kept in ring] == [1]


def test_series_returns_what_is_new_and_forgets_the_oldest() -> None:
    series = Series(length=4)
    for number in range(6):
        series.append(number, number / 2, float("nan"), 1.0, 0)
    start, rows = series.since(0)
    assert start == 2
    assert rows[:, 0].tolist() == [2, 3, 4, 5]
    start, rows = series.since(5)
    assert (start, rows.shape) == (5, (1, 5))
    assert series.since(99)[1].shape == (0, 5)


def test_shelf_keeps_the_most_refined_map_of_the_newest_settings() -> None:
    shelf = MapShelf(max_bytes=10**9)
    half, full = saliency_map(step(1), refined=0.5), saliency_map(step(1), refined=1.0)
    other = saliency_map(step(1), refined=0.1, options={"radius": 9})
    assert shelf.put(half) and shelf.put(full)
    assert not shelf.put(half)
    assert shelf.get(1) is full
    assert shelf.put(other), "other options: the newer wins however coarse"
    assert shelf.get(1) is other
    assert shelf.bytes == size_of(other)


def test_shelf_holds_to_its_bytes() -> None:
    shelf = MapShelf(max_bytes=3 * size_of(saliency_map(step(0))))
    for number in range(9):
        shelf.put(saliency_map(step(number)))
    assert len(shelf) == 3 and shelf.bytes <= shelf.max_bytes
    assert shelf.get(0) is None and shelf.get(8) is shelf.newest


def test_a_restarted_agent_empties_the_store() -> None:
    store = filled(5)
    store.add(saliency_map(step(4)))
    generation = store.generation
    store.add(hello(OTHER, name="again"))
    assert (store.stream, len(store.steps), len(store.maps)) == (OTHER, 0, 0)
    assert store.generation != generation and store.hello.name == "again"
    store.add(saliency_map(step(4)))
    assert len(store.maps) == 0, "a map of the stream before"
    assert store.statistics()["maps"] == 0


def test_episodes_come_from_hello_and_from_their_ends_and_are_bounded() -> None:
    store = Store()
    arrays = {
        "episodes/number": np.array([0, 1]),
        "episodes/return": np.array([1.5, 2.5]),
        "episodes/length": np.array([10, 20]),
    }
    store.add(hello(arrays=arrays))
    for number in range(2, KEPT + 5):
        store.add(
            EpisodeEnd(
                stream="0" * 32,
                seq=number,
                episode=number,
                step=number,
                length=7,
                episode_return=3.0,
                seconds=1.0,
                reason="terminated",
            )
        )
    assert len(store.episodes.results) == KEPT
    assert store.episodes.results[KEPT + 4] == (3.0, 7) and 0 not in store.episodes.results


def test_connection_tells_silence_goodbye_and_another_version() -> None:
    now = [0.0]
    store = Store(clock=lambda: now[0])
    assert store.connection == "waiting"
    store.add(hello())
    store.advance()
    assert store.connection == "connected"
    now[0] = 6.0
    store.advance()
    assert store.connection == "silent" and store.silent_for == 6.0
    store.add(Heartbeat(stream="0" * 32, seq=0))
    assert store.connection == "connected"
    store.add(Bye(stream="0" * 32, reason="done"))
    assert store.connection == "ended"
    store.problem = "protocol 2.0"
    assert store.connection == "incompatible"


def test_statistics_are_those_of_the_run() -> None:
    store = Store()
    assert store.statistics()["steps"] == 0 and store.statistics()["map_ms_p50"] is None
    store.add(hello())
    for number in (0, 1, 2, 6):  # three were lost
        store.add(step(number, time=100.0 + number / 30))
    store.add(Heartbeat(stream="0" * 32, seq=0, step=7, dropped=2))
    for number, seconds in ((0, 0.01), (1, 0.03), (2, 0.05)):
        store.add(saliency_map(step(number), seconds=seconds / 2, refined=0.5, replica_max_abs_diff=1e-7 * number))
        store.add(saliency_map(step(number), seconds=seconds, replica_max_abs_diff=1e-7 * number))
    store.add(saliency_map(step(3), policy_stale=True, replica_max_abs_diff=1.0, seconds=0.03))
    figures = store.statistics()
    assert set(figures) == {
        *("steps", "maps", "maps_per_s", "map_ms_p50", "step_to_map_ms_p50", "steps_per_s", "dropped"),
        "replica_max_abs_diff",
    }
    assert (figures["steps"], figures["maps"], figures["dropped"]) == (7, 4, 5)
    assert figures["map_ms_p50"] == 30.0
    assert figures["steps_per_s"] == pytest.approx(30, abs=0.01)
    assert figures["replica_max_abs_diff"] == pytest.approx(2e-7), "a stale step's difference is expected"


def test_value_is_v_else_the_largest_q_else_nan() -> None:
    assert value_of(step(0, arrays={"output/value": np.array(2.5)})) == 2.5
    assert value_of(step(0, arrays={"output/q_values": np.array([1.0, 3.0])})) == 3.0
    assert np.isnan(value_of(step(0, arrays={})))


def test_whoever_listens_hears_of_a_change_until_it_stops() -> None:
    store, heard = Store(), []
    stop = store.listen(lambda: heard.append(store.version))
    store.notify()
    store.clear()
    assert len(heard) == 2 and heard[1] > heard[0]
    stop()
    stop()
    store.notify()
    assert len(heard) == 2


def test_the_explainers_state_is_kept_apart_from_the_stream() -> None:
    store = filled(1)
    store.add(Explainer(stream="e" * 32, state="ready"))
    store.clear()
    assert store.explainer is not None and store.hello is None
