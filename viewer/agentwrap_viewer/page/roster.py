"""How all agents of this machine do, and all their environments: heard while somebody wants to know, and only then."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakSet

import numpy as np
import zmq
import zmq.asyncio

from agentwrap_protocol import Announcement, ProtocolError, decode
from agentwrap_protocol.messages import Environments, Heartbeat

from .discovery import names_of

#: Environments listed; where there are more, the others are counted.
MOST_ROWS = 1000

#: Kinds that are heard of every agent.
HEARD = (Environments.kind, Heartbeat.kind)

#: How what is shown is chosen: by a person, or anew whenever an episode ends.
Rule = Literal["none", "best", "worst", "newest"]


@dataclass(frozen=True)
class Row:
    """One environment of one agent.

    Attributes:
        endpoint: Where its agent streams.
        name: The stream's name; where several bear the same, with where it is.
        env_id: The environment's id.
        environment: Its index among those of the agent.
        of: How many the agent has.
        last: Return of its last episode, None before the first has ended.
        running: Return so far.
        length: Steps so far.
        episodes: Episodes ended.
        rate: Steps per second of the agent, None where that is not known.
        shown: It is the one of its agent that is shown.
    """

    endpoint: str
    name: str
    env_id: str
    environment: int = 0
    of: int = 1
    last: float | None = None
    running: float | None = None
    length: int | None = None
    episodes: int | None = None
    rate: float | None = None
    shown: bool = True


class Roster:
    """Subscribes to what agents say of their environments once a second, all over one socket.

    Attributes:
        wanted_by: Who wants to know: while there is anybody, agents are heard. Whoever is forgotten wants nothing.
        rule: How what is shown is chosen.
        version: Grows with what is heard.
    """

    def __init__(self) -> None:
        self.wanted_by: WeakSet[Any] = WeakSet()
        self.rule: Rule = "none"
        self.version = 0
        self._streams: list[Announcement] = []
        self._told: dict[str, Environments] = {}
        self._rates: dict[str, float] = {}
        self._socket: zmq.asyncio.Socket | None = None
        self._connected: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._ended: tuple[str, int] | None = None  # what was shown when it was chosen last: where, and episodes so far

    def look(self, streams: Sequence[Announcement], context: zmq.asyncio.Context) -> None:
        """Listen to these agents where somebody wants to know, else to none. Call it about once a second."""
        if list(streams) != self._streams:
            self._streams = list(streams)
            self.version += 1
        if not self.wanted_by and self.rule == "none":
            self.close()
            return
        if self._socket is None:
            self._socket = context.socket(zmq.SUB)
            self._socket.linger = 0
            for kind in HEARD:
                self._socket.subscribe(kind)
            self._task = asyncio.create_task(self._receive(self._socket), name="receive how agents do")
        endpoints = {stream.endpoint for stream in streams}
        for endpoint in endpoints - self._connected:
            with contextlib.suppress(zmq.ZMQError):
                self._socket.connect(endpoint)
        for endpoint in self._connected - endpoints:
            with contextlib.suppress(zmq.ZMQError):
                self._socket.disconnect(endpoint)
        self._connected = endpoints
        known = {stream.stream for stream in streams}
        self._told = {stream: told for stream, told in self._told.items() if stream in known}
        self._rates = {stream: rate for stream, rate in self._rates.items() if stream in known}

    def close(self) -> None:
        """Hear nothing any more."""
        if self._task is not None:
            self._task.cancel()
        if self._socket is not None:
            self._socket.close()
        self._socket = self._task = None
        self._connected = set()
        self._told, self._rates = {}, {}

    def told_by(self, endpoint: str | None) -> Environments | None:
        """What the agent at an endpoint said last of its environments."""
        return next((self._told.get(each.stream) for each in self._streams if each.endpoint == endpoint), None)

    def rows(self) -> list[Row]:
        """All environments, those of one agent together, agents that started last first; at most ``MOST_ROWS``."""
        rows: list[Row] = []
        names = names_of(self._streams)
        for stream in self._streams:
            rows += self._rows_of(stream, names[stream.endpoint])[: MOST_ROWS - len(rows)]
        return rows

    @property
    def count(self) -> int:
        """Number of environments known."""
        return sum(len(told.arrays["length"]) if (told := self._told.get(s.stream)) else 1 for s in self._streams)

    def _rows_of(self, stream: Announcement, name: str) -> list[Row]:
        told, who = self._told.get(stream.stream), (stream.endpoint, name, stream.env_id)
        if told is None:
            return [Row(*who)]
        columns = [told.arrays[name].tolist() for name in ("return", "running", "length", "episodes")]
        count, rate = len(columns[0]), self._rates.get(stream.stream)
        return [
            Row(*who, index, count, _finite(last), _finite(running), length, episodes, rate, index == told.shown)
            for index, (last, running, length, episodes) in enumerate(zip(*columns, strict=True))
        ]

    def choice(self, shown: str | None) -> str | None:
        """Return the endpoint of the agent to show by the rule, where that is another than the one shown.

        An episode that is shown is shown to its end.

        Args:
            shown: Endpoint of the one that is shown.
        """
        if self.rule == "none":
            self._ended = None
            return None
        told = self.told_by(shown)
        now = (shown or "", int(told.arrays["episodes"][told.shown])) if told is not None else None
        if now is not None and self._ended == now:
            return None
        best = self._best()
        if best is None:
            return None
        self._ended = now
        return best if best != shown else None

    def _best(self) -> str | None:
        if self.rule == "newest":
            return self._streams[0].endpoint if self._streams else None
        sign = 1 if self.rule == "best" else -1
        scores = [
            (max(sign * value for value in values), stream.endpoint)
            for stream in self._streams
            if (values := self._scores(stream.stream))
        ]
        return max(scores)[1] if scores else None

    def _scores(self, stream: str) -> list[float]:
        told = self._told.get(stream)
        if told is None:
            return []
        last = told.arrays["return"]
        return [value for value in last.tolist() if math.isfinite(value)]

    async def _receive(self, socket: zmq.asyncio.Socket) -> None:
        while True:
            frames = await socket.recv_multipart()
            with contextlib.suppress(ProtocolError):
                self._take(decode(frames))

    def _take(self, message: Any) -> None:
        if isinstance(message, Environments) and _is_sound(message):
            self._told[message.stream] = message
            self.version += 1
        elif isinstance(message, Heartbeat):
            self._rates[message.stream] = message.steps_per_second


def _is_sound(message: Environments) -> bool:
    """Whether a message has all columns, equally long: numbers come from outside."""
    columns = [message.arrays.get(name) for name in ("return", "running", "length", "episodes")]
    shapes = {column.shape if column is not None else None for column in columns}
    shape = shapes.pop()
    if shapes or shape is None or len(shape) != 1 or not 0 <= message.shown < shape[0] <= 65_536:
        return False
    return all(column is not None and np.issubdtype(column.dtype, np.number) for column in columns)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
