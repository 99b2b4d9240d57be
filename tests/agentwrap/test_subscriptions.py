import pytest

from agentwrap.subscriptions import Subscriptions
from agentwrap_protocol import KINDS


def test_topics_are_beginnings_of_kinds():
    subscriptions = Subscriptions()
    assert subscriptions.receive(b"\x01step") == {"step"}
    assert subscriptions.receive(b"\x01h") == {"hello", "heartbeat"}
    assert subscriptions.kinds == {"step", "hello", "heartbeat"}
    assert subscriptions.receive(b"\x01") == set(KINDS)
    assert subscriptions.kinds == set(KINDS)


def test_each_new_subscriber_is_reported_and_one_end_ends_them_all():
    subscriptions = Subscriptions()
    assert subscriptions.receive(b"\x01step") == subscriptions.receive(b"\x01step") == {"step"}
    assert subscriptions.receive(b"\x00step") == set()
    assert subscriptions.kinds == set()


@pytest.mark.parametrize("message", [b"", b"\x02step", b"\x01steps", b"\x01nonsense", b"\x00never", b"\xff" * 100])
def test_nonsense_is_ignored(message):
    subscriptions = Subscriptions()
    subscriptions.receive(b"\x01step")
    assert subscriptions.receive(message) == set()
    assert subscriptions.kinds == {"step"}


def test_an_overlap_ends_with_its_last_topic():
    subscriptions = Subscriptions()
    subscriptions.receive(b"\x01")
    subscriptions.receive(b"\x01step")
    subscriptions.receive(b"\x00")
    assert subscriptions.kinds == {"step"}
