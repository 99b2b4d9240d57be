import os
import threading

import pytest
import zmq
from listener import eventually

from agentwrap.placement import Placement, network_thread, threads

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux lets threads be placed")


@pytest.fixture
def other():
    """Another thread of this process, by the system's number."""
    done, ready = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (ready.set(), done.wait()))
    thread.start()
    ready.wait()
    yield thread.native_id
    done.set()
    thread.join()


@pytest.mark.skipif(os.cpu_count() == 1, reason="there is nowhere else to be")
def test_a_thread_is_kept_off_the_processor_of_the_one_that_asks(other):
    mine = os.sched_getaffinity(0)
    try:
        for processor in mine:
            os.sched_setaffinity(0, {processor})
            os.sched_setaffinity(other, {processor})
            os.sched_setaffinity(0, mine)  # it stays where it is as long as nothing else asks for the processor
            placement = Placement(other)
            placement.keep_away()
            allowed = os.sched_getaffinity(other)
            assert allowed < mine
            assert len(allowed) == len(mine) - 1
    finally:
        os.sched_setaffinity(0, mine)


@pytest.mark.skipif(os.cpu_count() == 1, reason="there is nowhere else to be")
def test_a_thread_may_be_found_when_it_is_needed(other):
    found = [None, other]
    none, placement = Placement(lambda: None), Placement(found.pop)
    assert found == [None, other]
    none.keep_away()
    placement.keep_away()
    assert found == [None]
    assert os.sched_getaffinity(other) < os.sched_getaffinity(0)


def test_on_one_processor_a_thread_stays_as_it_is(other):
    mine = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(mine)})
        Placement(other).keep_away()
        assert os.sched_getaffinity(other) == mine
    finally:
        os.sched_setaffinity(0, mine)


def test_threads_that_are_gone_and_none_are_let_be():
    thread = threading.Thread(target=lambda: None)
    thread.start()
    number = thread.native_id
    thread.join()
    Placement(number).keep_away()
    Placement(None).keep_away()


def test_the_network_thread_of_a_context_is_found():
    before = threads()
    with zmq.Context() as context, context.socket(zmq.PUB):
        begun = threads() - before
        found = eventually(lambda: network_thread(begun))  # a thread gives itself its name
        assert found in begun
        assert network_thread(frozenset()) is None
