"""How all agents do: what is listed, what a rule chooses, and that nobody is heard where nobody wants to know."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
import zmq.asyncio

from agentwrap_protocol.announcement import Announcement
from agentwrap_protocol.messages import Environments, Heartbeat
from agentwrap_viewer.page import roster as room
from agentwrap_viewer.page.roster import Roster


def announced(number: int) -> Announcement:
    return Announcement(
        stream=uuid.UUID(int=number).hex,
        endpoint=f"tcp://127.0.0.1:{number}",
        name=f"agent {number}",
        env_id="CartPole-v1",
        pid=1,
        started=-float(number),
        version=(1, 0),
    )


def told(number: int, last: list[float], *, shown: int = 0, ended: int = 1, **changes: Any) -> Environments:
    columns = {
        "return": np.array(last, float),
        "running": np.arange(len(last), dtype=float),
        "length": np.arange(len(last)),
        "episodes": np.full(len(last), ended),
    }
    return Environments(stream=uuid.UUID(int=number).hex, shown=shown, arrays={**columns, **changes})


@pytest.fixture
def heard() -> Callable[..., Roster]:
    """A roster of three agents, newest first, that was told this."""

    def heard(*messages: Environments | Heartbeat) -> Roster:
        roster = Roster()
        roster._streams = [announced(number) for number in (1, 2, 3)]
        for message in messages:
            roster._take(message)
        return roster

    return heard


def test_rows_are_all_environments_of_all_agents(heard: Any) -> None:
    beat = Heartbeat(stream=uuid.UUID(int=2).hex, steps_per_second=40.0)
    roster = heard(told(2, [7.0, np.nan], shown=1), beat)
    rows = roster.rows()
    assert [(row.name, row.environment, row.of, row.last, row.running, row.rate, row.shown) for row in rows] == [
        ("agent 1", 0, 1, None, None, None, True),
        ("agent 2", 0, 2, 7.0, 0.0, 40.0, False),
        ("agent 2", 1, 2, None, 1.0, 40.0, True),
        ("agent 3", 0, 1, None, None, None, True),
    ]
    assert roster.count == 4


def test_agents_of_one_name_are_told_apart(heard: Any) -> None:
    roster = heard()
    roster._streams = [msgspec.structs.replace(each, name="actor") for each in roster._streams] + [announced(4)]
    assert [row.name for row in roster.rows()] == ["actor :1", "actor :2", "actor :3", "agent 4"]


def test_no_more_rows_than_can_be_listed_but_all_are_counted(heard: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(room, "MOST_ROWS", 5)
    roster = heard(told(1, [0.0] * 4), told(2, [0.0] * 4))
    assert [row.name for row in roster.rows()] == ["agent 1"] * 4 + ["agent 2"]
    assert roster.count == 9


@pytest.mark.parametrize(
    "unsound",
    [
        {"return": np.zeros(3)},
        {"length": np.zeros((2, 1))},
        {"episodes": np.array([True, False])},
        {"running": np.zeros(0), "return": np.zeros(0), "length": np.zeros(0), "episodes": np.zeros(0)},
    ],
)
def test_what_does_not_fit_together_is_ignored(heard: Any, unsound: dict[str, Any]) -> None:
    assert [row.of for row in heard(told(1, [0.0, 1.0], **unsound)).rows()] == [1, 1, 1]
    assert [row.of for row in heard(told(1, [0.0, 1.0], shown=2)).rows()] == [1, 1, 1]


def test_a_rule_chooses_among_all_and_lets_an_episode_end(heard: Any) -> None:
    here = "tcp://127.0.0.1:1"
    roster = heard(told(1, [5.0]), told(2, [1.0, 9.0]), told(3, [-2.0]))
    assert roster.choice(here) is None  # nobody asked for one
    roster.rule = "best"
    assert roster.choice(here) == "tcp://127.0.0.1:2"  # at once
    assert roster.choice("tcp://127.0.0.1:2") is None
    roster._take(told(3, [50.0]))
    assert roster.choice("tcp://127.0.0.1:2") is None  # the episode shown goes on
    roster._take(told(2, [1.0, 9.0], ended=2))
    assert roster.choice("tcp://127.0.0.1:2") == "tcp://127.0.0.1:3"
    for rule, expected in (("worst", "tcp://127.0.0.1:2"), ("newest", "tcp://127.0.0.1:1")):
        roster.rule = "none"
        assert roster.choice("tcp://127.0.0.1:3") is None
        roster.rule = rule
        assert roster.choice("tcp://127.0.0.1:3") == expected


def test_agents_are_heard_only_while_somebody_wants_to_know() -> None:
    class Tab:
        pass

    async def work() -> None:
        context, roster, tab = zmq.asyncio.Context(), Roster(), Tab()
        try:
            roster.look([announced(9)], context)
            assert roster._socket is None
            roster.wanted_by.add(tab)
            roster.look([announced(9)], context)
            assert roster._connected == {"tcp://127.0.0.1:9"}
            roster.look([announced(8)], context)
            assert roster._connected == {"tcp://127.0.0.1:8"}
            del tab  # forgotten: its connection broke
            roster.look([announced(8)], context)
            assert roster._socket is None and roster.rows()[0].last is None
        finally:
            context.destroy(linger=0)

    asyncio.run(work())
