"""The pinned step: which versions are asked for when, and which maps are kept."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from fakes import hello, saliency_map, step
from hypothesis import given
from hypothesis import strategies as st

from agentwrap_protocol.messages import Explainer, SaliencyMap, Step
from agentwrap_viewer.page import pin as pins
from agentwrap_viewer.page.components.pinned import Pinned
from agentwrap_viewer.page.cursor import Cursor
from agentwrap_viewer.page.packet import EncodedCache, Packet
from agentwrap_viewer.page.pin import MOST, PATIENCE, SHARE, Pin, thinned
from agentwrap_viewer.page.pinning import Pinning
from agentwrap_viewer.page.store import Store
from agentwrap_viewer.page.view import View

OPTIONS = {"radius": 5}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def made(of: Step, version: int, **fields: Any) -> SaliencyMap:
    outputs = {"output/logits": np.eye(9, dtype=np.float32)[version % 9], "output/value": np.float32([version])}
    arrays = {**saliency_map(of).arrays, "grid/actor": np.zeros((9, 9), np.float32), **outputs}
    return saliency_map(of, policy_version=version, **{"arrays": arrays, **fields})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pin(clock: Clock) -> Pin:
    pin = Pin(step(7, policy_version=3), clock=clock)
    pin.use("perturbation", OPTIONS)
    return pin


@given(st.integers(2, 30), st.integers(0, 200), st.data())
def test_thinning_keeps_the_ends_and_leaves_even_gaps(most: int, count: int, data: st.DataObject) -> None:
    versions = sorted(data.draw(st.sets(st.integers(0, 10_000), min_size=count, max_size=count)))
    kept = thinned(versions, most)
    assert len(kept) == min(most, count) and set(kept) <= set(versions) and kept == sorted(kept)
    assert kept[:1] == versions[:1] and kept[-1:] == versions[-1:]
    assert thinned(kept, most) == kept
    one_by_one: list[int] = []
    for version in versions:
        one_by_one = thinned([*one_by_one, version], most)
    assert one_by_one == kept, "it does not matter whether they come at once"


def test_thinned_versions_span_a_long_run_evenly() -> None:
    kept = thinned(range(1, 1001), 24, keep={500})
    gaps = np.diff(kept)
    assert len(kept) == 24 and 500 in kept and kept[0] == 1 and kept[-1] == 1000
    assert gaps.max() <= 3 * np.median(gaps)


def test_a_running_agents_versions_are_asked_for_once_each_while_they_are_the_newest(pin: Pin, clock: Clock) -> None:
    assert pin.next(3) == 3
    pin.asked(3)
    assert pin.next(3) is None and pin.next(4) is None, "one at a time"
    assert pin.take(made(pin.step, 4, refined=0.2)) and pin.next(4) is None
    assert pin.take(made(pin.step, 4, seconds=1.5)), "the weights were replaced meanwhile"
    assert pin.next(5) is None, "the live steps have their share first"
    clock.now += 1.5 * (1 / SHARE - 1)
    assert pin.next(4) is None
    assert pin.next(5) == 5
    assert list(pin.maps) == [4] and pin.maps[4].refined == 1
    assert "grid/actor" not in pin.maps[4].arrays


def test_a_map_that_never_comes_does_not_hold_up_the_next_version(pin: Pin, clock: Clock) -> None:
    pin.asked(pin.next(3) or 0)
    clock.now += PATIENCE + 1
    assert pin.next(3) is None, "it is not asked for again"
    assert pin.next(4) == 4


def test_maps_of_other_steps_and_coarser_ones_change_nothing(pin: Pin) -> None:
    assert not pin.take(made(step(8), 3))
    assert not pin.take(made(step(7, "a" * 32), 3))
    pin.take(made(pin.step, 3))
    before = pin.changes
    assert pin.take(made(pin.step, 3, refined=0.5)) and pin.maps[3].refined == 1 and pin.changes == before


def test_another_method_has_a_row_of_its_own_and_the_first_comes_back(pin: Pin) -> None:
    for version in (3, 4):
        pin.take(made(pin.step, version))
    pin.use("sarfa", {"mode": "blur"})
    assert not pin.maps and pin.next(4) == 4
    pin.take(made(pin.step, 4, method="sarfa", options={"mode": "blur"}))
    assert list(pin.maps) == [4]
    pin.use("perturbation", OPTIONS)
    assert list(pin.maps) == [3, 4] and pin.next(4) is None


def test_many_versions_are_thinned_and_many_bytes_too(pin: Pin, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in range(3, 200):
        pin.take(made(pin.step, version))
    assert len(pin.maps) == MOST and {3, 199} <= set(pin.maps)
    monkeypatch.setattr(pins, "MOST_BYTES", 5 * pins.size_of(pin.maps[3]))
    pin.take(made(pin.step, 200))
    assert len(pin.maps) == 5 and {3, 200} <= set(pin.maps)


def test_of_a_recording_all_versions_are_asked_for_one_after_the_other(clock: Clock) -> None:
    known = [1, 2, 3]
    pin = Pin(step(7, policy_version=2), versions=lambda: known, clock=clock)
    pin.use("perturbation", OPTIONS)
    pin.take(made(pin.step, 2))  # that of the step itself is there
    for version in (1, 3):
        assert pin.next(9) == version
        pin.asked(version)
        assert pin.next(9) is None
        pin.take(made(pin.step, version, seconds=0.0))
    assert pin.next(9) is None and list(pin.maps) == [1, 2, 3]
    known.append(4)  # it is still being recorded
    assert pin.next(9) == 4
    assert not pin.take(made(pin.step, 77)), "a version that is not shown"


class Asked:
    """A store with an explainer, and what it was asked for."""

    def __init__(self) -> None:
        self.store, self.versions = Store(), list[int]()
        self.store.add(hello())
        for number in range(5):
            self.store.add(step(number, policy_version=1))
        self.store.explainer_alive = True
        self.pinning = Pinning(self.store, self.explain)
        self.now(1)

    def now(self, version: int, **fields: Any) -> None:
        options = {"state": "ready", "method": "perturbation", "options": OPTIONS, **fields}
        self.store.add(Explainer(stream="e" * 32, policy_version=version, budget_ms=20.0, **options))

    def explain(self, of: Step, version: int) -> None:
        self.versions.append(version)
        self.store.add(made(of, version, seconds=0.0))


def test_nothing_is_asked_for_while_nothing_is_pinned_and_one_map_for_each_version_while_something_is() -> None:
    async def run() -> None:
        world = Asked()
        for version in (1, 2, 3):
            world.now(version)
            world.pinning.look()
        assert not world.versions
        world.pinning.pin(world.store.steps.at(2))
        for version in (3, 3, 4, 4, 6):
            world.now(version)
            for _ in range(4):
                world.pinning.look()
        assert world.versions == [3, 4, 6]
        world.now(7, state="unable")
        world.pinning.look()
        world.pinning.pin(None)
        world.now(8)
        world.pinning.look()
        assert world.versions == [3, 4, 6] and world.store.pin is None
        world.pinning.close()

    asyncio.run(run())


def test_a_pinned_steps_own_map_stays_that_of_its_version() -> None:
    world = Asked()
    pinned = world.store.steps.at(2)
    assert pinned is not None
    world.store.add(made(pinned, 1))
    world.store.make_pin(pinned)
    world.store.add(made(pinned, 5))
    own = world.store.maps.get(2)
    assert own is not None and own.policy_version == 1
    assert world.store.pin is not None and list(world.store.pin.maps) == [1, 5]
    world.store.clear()
    assert world.store.pin is None, "another stream"


def test_a_tab_is_sent_each_map_once_with_what_its_version_computes() -> None:
    world, part = Asked(), Pinned()
    cursor = Cursor(world.store)

    def update(*, fresh: bool = False) -> dict[str, Any] | None:
        return part.update(View.of(world.store, cursor, Packet(EncodedCache()), fresh=fresh))

    first = update(fresh=True)
    assert first is not None and first["possible"] and first["pin"] is None and first["versions"] == []
    assert update() is None
    pinned = world.store.steps.at(2)
    assert pinned is not None
    world.store.make_pin(pinned)
    world.store.add(made(pinned, 1))
    begun = update()
    assert begun is not None and begun["frame"]["shape"] == [210, 160, 3] and begun["pin"]["step"] == 2
    entry = begun["map/1"]
    assert [layer["target"] for layer in entry["heat"]] == ["actor", "critic"]
    assert (entry["best"]["name"], entry["value"], entry["name"]) == ("FIRE", 1.0, "v1")
    assert entry["rows"][2]["taken"], "the action that was taken then"
    world.store.add(made(pinned, 2))
    more = update()
    assert more is not None and more["versions"] == [1, 2] and "map/1" not in more and more["map/2"]["value"] == 2.0
    assert update() is None
    world.store.pin = None
    over = update()
    assert over is not None and over["pin"] is None and over["map/1"] is None and over["frame"] is None
