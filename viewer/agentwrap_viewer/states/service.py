"""The process of the map: takes steps in, lays them out, tells tabs what changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from agentwrap_protocol import ProtocolError, decode
from agentwrap_protocol.messages import EpisodeEnd, Hello, Step
from agentwrap_protocol.packing import unpack
from agentwrap_viewer.recording import Recording, RecordingError

from .atlas import SAMPLE, Atlas, Fit
from .errors import StatesError
from .layouts import Method
from .tab import StateTab, alike, selection
from .wire import COMMANDS, Choose, Got, Kind, Like, Select

#: Seconds between two looks at what tabs do not know yet, and that reading a recording may take at a time.
TURN, READING = 0.05, 0.04

#: A t-SNE is made again at the earliest after so many times the time that the last one took, and so many seconds.
PATIENCE, LEAST_PAUSE = 4.0, 2.0

#: Steps read from a recording at a time.
PART = 32


class Service:
    """Keeps the map up to date while a tab looks at it.

    Args:
        send: Called with a tab's number and what it is to be sent.
        recording: Whose steps are shown; None for a running agent's, which come as messages.
    """

    def __init__(self, send: Callable[[int, bytes], None], recording: Recording | None = None) -> None:
        self._send, self._recording = send, recording
        self._tabs: dict[int, StateTab] = {}
        self._atlas: Atlas | None = None
        self._layer: str | None = None
        self._method: Method = "tsne"
        self._read = 0
        self._fit: Fit | None = None
        self._fitting: asyncio.Task[None] | None = None
        self._rest_until = 0.0
        self._problem: str | None = None
        if recording is not None and recording.hello is not None:
            self._begin(recording.hello)

    def _begin(self, hello: Hello) -> None:
        self.end()
        generation = self._atlas.generation if self._atlas is not None else 0
        self._atlas = Atlas(hello, layer=self._layer)
        self._atlas.generation += generation  # tabs tell maps apart by it
        self._read, self._rest_until, self._problem = 0, 0.0, None
        if self._recording is not None:
            for episode in self._recording.episodes:
                if episode.episode_return is not None:
                    self._atlas.end_episode(episode.number, episode.episode_return)

    # What comes.

    def take(self, kind: Kind, tab: int, body: bytes) -> None:
        """Take in a piece. What is not understood is ignored: the page checks what tabs ask for."""
        match kind:
            case Kind.MESSAGE:
                self._take_message(body)
            case Kind.OPENED:
                self._tabs[tab] = StateTab()
            case Kind.CLOSED:
                self._tabs.pop(tab, None)
            case Kind.COMMAND:
                self._obey(tab, body)

    def _take_message(self, body: bytes) -> None:
        try:
            message = decode(unpack(body))
        except ProtocolError:
            return
        if isinstance(message, Hello):
            self._begin(message)
        elif isinstance(message, Step):
            self._add([message])
        elif isinstance(message, EpisodeEnd) and self._atlas is not None:
            self._atlas.end_episode(message.episode, message.episode_return)

    def _add(self, steps: list[Step]) -> None:
        if self._atlas is None or self._problem is not None:
            return
        try:
            self._atlas.add(steps)
        except StatesError as error:
            self._problem = str(error)

    def _obey(self, tab: int, body: bytes) -> None:
        command = COMMANDS.decode(body)
        if isinstance(command, Got) and tab in self._tabs:
            self._tabs[tab].in_flight = max(0, self._tabs[tab].in_flight - 1)
        if self._atlas is None:
            return
        match command:
            case Choose():
                self._choose(command)
            case Select():
                self._send(tab, selection(self._atlas, command))
            case Like():
                self._send(tab, alike(self._atlas, command))

    def _choose(self, choice: Choose) -> None:
        assert self._atlas is not None
        if choice.layer is not None and choice.layer != self._layer:
            self._layer = choice.layer
            self._begin(self._atlas.hello)
        if choice.method is not None and choice.method != self._method:
            self._method, self._rest_until = choice.method, 0.0
            if choice.method == "pca":
                self.end()
                self._atlas.lay_out()

    def end(self) -> None:
        """Have a computation that goes on in a thread end soon."""
        if self._fit is not None:
            self._fit.cancelled = True

    # What is done.

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            began = time.monotonic()
            if self._tabs:
                reading = self._read_on()
                self._lay_out()
                for number, tab in self._tabs.items():
                    if (news := tab.news(self._atlas, self.state())) is not None:
                        self._send(number, news)
                await asyncio.sleep(0.005 if reading else max(0.005, TURN - (time.monotonic() - began)))
            else:
                await asyncio.sleep(TURN)

    def _read_on(self) -> bool:
        """Read some more of the recording; whether there was more."""
        if self._recording is None or self._problem is not None:
            return False
        count, until = len(self._recording.steps), time.monotonic() + READING
        before = self._read
        while self._read < count and time.monotonic() < until:
            part = range(self._read, min(self._read + PART, count))
            self._add([step for index in part if (step := self._step(index)) is not None])
            self._read = part.stop
        return self._read > before

    def _step(self, index: int) -> Step | None:
        assert self._recording is not None
        try:
            return self._recording.steps[index]
        except RecordingError:  # damaged: the page says so where one looks at it
            return None

    def _lay_out(self) -> None:
        if self._method != "tsne" or self._fitting is not None or self._atlas is None:
            return
        if self._recording is not None and self._read < len(self._recording.steps):
            # there will be more in a moment: until then the components do, and after that one t-SNE of many
            early = self._atlas.method == "tsne" or len(self._atlas) < SAMPLE
        else:
            early = False
        if self._atlas.wants_fit and time.monotonic() >= self._rest_until and not early:
            self._fit = self._atlas.begin_fit()
            self._fitting = asyncio.create_task(self._compute(self._atlas, self._fit))

    async def _compute(self, atlas: Atlas, fit: Fit) -> None:
        began = time.monotonic()
        try:
            await asyncio.to_thread(fit.run)
            if atlas is self._atlas and not fit.cancelled:
                atlas.finish_fit(fit)
        except StatesError as error:
            self._method = "pca"
            atlas.notes = [*atlas.notes, str(error)]
        finally:
            self._fit = self._fitting = None
            self._rest_until = time.monotonic() + max(LEAST_PAUSE, PATIENCE * (time.monotonic() - began))

    def state(self) -> dict[str, Any]:
        """Return what a tab is told of the map as a whole."""
        atlas = self._atlas
        if atlas is None:
            return {"count": 0, "problem": "No agent has been heard yet."}
        return {
            "generation": atlas.generation,
            "count": len(atlas),
            "arrived": atlas.arrived,
            "left_out": atlas.left_out,
            "method": atlas.method,
            "wanted": self._method,
            "fitting": round(self._fit.progress, 2) if self._fit is not None else None,
            "read": round(self._read / max(1, len(self._recording.steps)), 2) if self._recording is not None else None,
            "problem": self._problem or atlas.problem,
            "notes": atlas.notes,
            "layers": atlas.layers,
            "layer": self._layer or next(iter(atlas.layers), None),
            "columns": [
                {"name": c.name, "title": c.title, "kind": c.kind, "labels": list(c.labels), "unknown": c.unknown}
                for c in atlas.columns
            ],
        }
