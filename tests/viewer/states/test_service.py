"""The map's process: what tabs are told as steps come, and what they can ask for."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakes
import msgspec
import numpy as np
import pytest
from states import states

from agentwrap_protocol.messages import Message
from agentwrap_viewer import open_recording
from agentwrap_viewer.recording.writer import RecordingWriter
from agentwrap_viewer.states import wire
from agentwrap_viewer.states.service import Service
from agentwrap_viewer.states.wire import HEADER, Choose, Got, Kind, Like, Select, message_piece, spread

TYPES = {"<u4": np.uint32, "<f4": np.float32, "<f8": np.float64}


def read(data: bytes) -> dict[str, Any]:
    """The sections of a message to a tab, arrays in place of their descriptions."""
    (length,) = struct.unpack_from("<I", data)
    sections: dict[str, Any] = json.loads(data[4 : 4 + length])["sections"]

    def array(described: dict[str, Any]) -> np.ndarray:
        part = data[4 + length + described["offset"] :][: described["bytes"]]
        return np.frombuffer(part, TYPES[described["dtype"]]).reshape(described["shape"])

    def filled(value: Any) -> Any:
        return array(value) if isinstance(value, dict) and "offset" in value else value

    return {name: {key: filled(value) for key, value in section.items()} for name, section in sections.items()}


class Looking:
    """A service with one tab, which takes in what it is sent."""

    def __init__(self, service_of: Callable[[Callable[[int, bytes], None]], Service] = Service) -> None:
        self.heard: list[dict[str, Any]] = []
        self.step: dict[int, float] = {}
        self.xy: dict[int, tuple[float, ...]] = {}
        self.state: dict[str, Any] = {"problem": "", "count": -1, "method": None, "generation": -1}
        self.service = service_of(self._take)
        self.service.take(Kind.OPENED, 1, b"")

    def tell(self, *messages: Message) -> None:
        for message in messages:
            self.service.take(Kind.MESSAGE, 0, message_piece(message)[HEADER.size :])

    def ask(self, command: wire.Command) -> None:
        self.service.take(Kind.COMMAND, 1, msgspec.json.encode(command))

    def _take(self, tab: int, data: bytes) -> None:
        assert tab == 1
        sections = read(data)
        self.heard.append(sections)
        self.state = sections.get("map", self.state)
        if (points := sections.get("points")) is not None:
            self.xy.update(zip(points["slots"].tolist(), map(tuple, points["xy"].tolist()), strict=True))
            self.step.update(zip(points["changed"].tolist(), points["step"].tolist(), strict=True))
            self.ask(Got())

    def until(self, condition: Callable[[], bool]) -> None:
        """Let the service work until a condition holds."""

        async def work() -> None:
            working = asyncio.create_task(self.service.run())
            async with asyncio.timeout(60):
                while not condition():
                    await asyncio.sleep(0.01)
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

        asyncio.run(work())

    def answer(self, name: str) -> dict[str, Any]:
        return next(sections[name] for sections in reversed(self.heard) if name in sections)


def test_a_tab_learns_every_point_and_each_move() -> None:
    looking = Looking()
    looking.until(lambda: "No agent" in looking.state["problem"])
    looking.tell(fakes.hello(), *states(50))
    looking.until(lambda: len(looking.xy) == 50)
    assert looking.step == {slot: slot for slot in range(50)}
    before = dict(looking.xy)
    looking.tell(*states(100, first=50))
    looking.until(lambda: looking.state["method"] == "tsne" and len(looking.xy) == 150)
    assert all(before[slot] != looking.xy[slot] for slot in range(50)), "t-SNE moved them"
    assert looking.state["problem"] is None and looking.state["layers"] == ["latent"]


def test_a_tab_that_takes_nothing_in_is_sent_no_more() -> None:
    looking = Looking()
    looking.ask = lambda command: None  # type: ignore[method-assign]
    looking.tell(fakes.hello(), *states(20))
    looking.until(lambda: len(looking.xy) == 20)
    for number in range(20, 30):
        looking.tell(*states(1, first=number))
        looking.until(lambda number=number: looking.state["count"] == number + 1)
    assert sum("points" in sections for sections in looking.heard) == 2


def test_a_selection_is_described() -> None:
    looking = Looking()
    looking.tell(fakes.hello(), *states(150))
    looking.until(lambda: len(looking.xy) == 150)
    looking.ask(Select([(-1e3, -1e3), (1e3, -1e3), (1e3, 1e3), (-1e3, 1e3)]))
    found = looking.answer("selection")
    assert found["count"] == 150 and found["episodes"] == 2 and found["slots"].tolist() == list(range(150))
    assert found["sample"] == [index * 150 // 64 for index in range(64)]
    assert sum(found["categories"]["action"]) == 150 and found["numbers"]["time"][1] == 37
    looking.ask(Select([(1e3, 1e3), (2e3, 1e3), (1e3, 2e3)]))
    assert looking.answer("selection")["count"] == 0


def test_neighbours_are_told_or_why_there_are_none() -> None:
    looking = Looking()
    looking.tell(fakes.hello(), *states(150))
    looking.ask(Like(70))
    assert len(looking.answer("like")["found"]) >= 5 and looking.answer("like")["problem"] is None
    looking.ask(Like(999))
    assert "step 999" in looking.answer("like")["problem"]


def test_a_recording_is_read_while_a_tab_looks(tmp_path: Path) -> None:
    path = tmp_path / "run.mcap"
    with RecordingWriter(path, fakes.hello()) as writer:
        for step in states(120):
            writer.add(step)
    with open_recording(path) as recording:
        looking = Looking(lambda send: Service(send, recording))
        looking.until(lambda: len(looking.xy) == 120 and looking.state["method"] == "tsne")
        assert looking.state["read"] == 1
        looking.ask(Choose(method="pca"))
        looking.until(lambda: looking.state["method"] == "pca")
        generation = looking.state["generation"]
        looking.ask(Choose(layer="layer/none"))
        looking.until(
            lambda: looking.state["generation"] > generation and "layer/none" in (looking.state["problem"] or "")
        )


def test_what_is_no_command_is_refused() -> None:
    for text in (b"{}", b'{"do":"select","polygon":[[0,0]]}', b'{"do":"like","step":-1}', b"[]", b'{"do":"mean"}'):
        with pytest.raises(msgspec.DecodeError):
            wire.COMMANDS.decode(text)
    assert spread(range(5), 3) == [0, 1, 3] and spread([1, 2], 3) == [1, 2]
