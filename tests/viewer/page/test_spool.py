"""Steps that memory has no room for can still be had, within bounds on disk."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import hello, step
from hypothesis import given, settings
from hypothesis import strategies as st

from agentwrap_protocol.messages import Step
from agentwrap_viewer.page import spool as module
from agentwrap_viewer.page.ring import StepRing, size_of
from agentwrap_viewer.page.spool import Spool
from agentwrap_viewer.page.store import Store

SIZE = size_of(step(0))


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Spool]]:
    made: list[Spool] = []

    def make(**options: Any) -> Spool:
        made.append(Spool(tmp_path / "spool", **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def on_disk(spool: Spool) -> bool:
    return not spool._waiting


def same(one: Step | None, other: Step) -> bool:
    return (
        one is not None
        and one.step == other.step
        and all(np.array_equal(one.arrays[name], array) for name, array in other.arrays.items())
    )


def test_what_a_ring_forgets_is_read_back_bit_for_bit(make: Callable[..., Spool]) -> None:
    spool = make()
    ring = StepRing(max_bytes=3 * SIZE, max_steps=100, older=spool)
    steps = [step(5 * number) for number in range(40)]
    for each in steps:
        ring.append(each)
    assert (ring.first, ring.last, len(ring)) == (0, 39, 3)
    assert all(same(ring.at(position), each) for position, each in enumerate(steps))
    until(lambda: on_disk(spool))
    spool._kept.clear()
    assert all(same(ring.at(position), each) for position, each in enumerate(steps))
    assert [ring.position_of(each.step) for each in steps] == list(range(40))
    assert ring.position_of(7) is None and ring.at(40) is None and ring.at(-1) is None


def test_it_holds_to_its_bytes_and_forgets_the_oldest(make: Callable[..., Spool]) -> None:
    spool = make(max_bytes=30_000, file_bytes=10_000)
    ring = StepRing(max_bytes=SIZE, max_steps=1, older=spool)
    for number in range(120):
        ring.append(noisy(number))
        until(lambda: on_disk(spool))
    assert spool.size <= 30_000 and 0 < spool.first < spool.end == 119
    assert ring.first == spool.first
    assert ring.at(spool.first - 1) is None
    assert same(ring.at(spool.first), noisy(spool.first))


def test_nothing_is_left_behind(make: Callable[..., Spool], tmp_path: Path) -> None:
    spool = make()
    for position in range(10):
        spool.append(position, step(position))
    until(lambda: on_disk(spool))
    assert list((tmp_path / "spool").iterdir()) == []
    spool.close()
    assert spool.at(0) is None


def test_a_disk_that_fails_is_said_and_the_ring_goes_on(
    make: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = make()
    store = Store(ring_bytes=2 * SIZE, older=lambda: spool)
    store.add(hello())

    def full(self: object, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module._File, "write", full)
    for number in range(10):
        store.add(step(number))
        if number == 5:
            until(lambda: spool.problem is not None)
    assert store.notes == ["older steps are not kept: No space left on device"]
    assert store.steps.first == store.steps.last - 1 == 8
    assert store.steps.at(8) is not None and store.steps.at(0) is None


def test_a_disk_that_is_too_slow_costs_older_steps_not_memory(
    make: Callable[..., Spool], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = make()
    monkeypatch.setattr(module, "WAITING_BYTES", 5 * SIZE)
    with spool._disk:  # the thread waits for it
        for position in range(50):
            spool.append(position, step(position))
            assert spool._waiting_bytes <= 7 * SIZE
        assert 40 < spool.first < spool.end == 50


def test_a_directory_that_cannot_be_written_is_not_the_end(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    spool = Spool(tmp_path / "file" / "spool")
    spool.append(0, step(0))
    until(lambda: on_disk(spool))
    assert same(spool.at(0), step(0))
    spool.close()


def test_another_stream_begins_anew(make: Callable[..., Spool]) -> None:
    store = Store(ring_bytes=SIZE, older=make)
    store.add(hello())
    for number in range(5):
        store.add(step(number))
    assert store.steps.first == 0 and same(store.steps.at(0), step(0))
    store.clear()
    assert store.steps.at(0) is None
    store.add(hello())
    store.add(step(7))
    assert same(store.steps.at(0), step(7))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=40))
def test_any_order_of_reading_and_writing_gives_the_steps_written(
    tmp_path_factory: pytest.TempPathFactory, moves: list[int]
) -> None:
    spool = Spool(tmp_path_factory.mktemp("spool"), file_bytes=2_000)
    count = 0
    for move in moves:
        if move < 4:
            spool.append(count, noisy(count))
            count += 1
        elif count:
            position = (move * 7919) % count
            assert same(spool.at(position), noisy(position))
    spool.close()


def noisy(number: int) -> Step:
    noise = np.random.default_rng(number).integers(0, 255, 700, dtype=np.uint8)
    return step(number, arrays={"observation": noise})
