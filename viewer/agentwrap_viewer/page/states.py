"""The WebSocket ``/states``: a tab's map of inner states, open only while the map is shown."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from tornado.websocket import WebSocketClosedError

from agentwrap_protocol.messages import SaliencyMap, Step
from agentwrap_viewer.states.link import StateLink
from agentwrap_viewer.states.wire import COMMANDS, MAX_COMMAND, Frame, Mean

from .components.stage import layer_of
from .packet import EncodedCache, Packet
from .pictures import picture_of
from .receiver import Receiver
from .socket import PageSocket, retrieve
from .store import Store

logger = logging.getLogger(__name__)

#: Seconds that work may take before others get their turn.
SLICE = 0.008

#: Maps that are computed for a selection that has none, seconds that one may take, and between two looks for it.
MOST_MAPS, LONGEST, LOOK = 24, 4.0, 0.05


class StateSocket(PageSocket):
    """One tab's connection: points and neighbours come from the map's process, frames and means from the store."""

    def initialize(self, receiver: Receiver, link: StateLink) -> None:
        """Take what the server's routing table holds."""
        self._receiver, self._link = receiver, link
        self._number: int | None = None
        self._averaging: asyncio.Task[None] | None = None

    @property
    def max_message_size(self) -> int:
        """Bytes of the longest message accepted from a tab."""
        return MAX_COMMAND

    def open(self) -> None:
        """Begin to send."""
        self.set_nodelay(True)
        self._number = self._link.open(self._put)

    def on_close(self) -> None:
        """Stop sending."""
        if self._number is not None:
            self._link.close(self._number)
        self._stop_averaging()

    def on_message(self, message: str | bytes) -> None:
        """Take a command."""
        try:
            command = COMMANDS.decode(message)
        except msgspec.DecodeError as error:
            logger.debug("ignored a tab's command: %s", error)
            return
        if isinstance(command, Frame):
            self._put(frame(self._receiver.store, command.step))
        elif isinstance(command, Mean):
            self._stop_averaging()
            if command.steps:
                self._averaging = asyncio.create_task(self._average(command.steps), name="mean of a selection")
        elif self._number is not None:
            self._link.obey(self._number, command)

    def _put(self, data: bytes) -> None:
        with contextlib.suppress(WebSocketClosedError):  # closed meanwhile
            sent = asyncio.ensure_future(self.write_message(data, binary=True))
            sent.add_done_callback(retrieve)

    def _stop_averaging(self) -> None:
        if self._averaging is not None:
            self._averaging.cancel()
            self._averaging = None

    async def _average(self, steps: Sequence[int]) -> None:
        """Send the mean of the steps' frames and of the maps there are; ask for some maps more, and send it again."""
        store = self._receiver.store
        pictures = Pictures()
        known: list[Step] = []
        began = time.monotonic()
        for number in steps:
            step = step_of(store, number)
            if step is not None:
                known.append(step)
                pictures.add(step, store)
            if time.monotonic() - began > SLICE:
                await asyncio.sleep(0.01)
                began = time.monotonic()
        self._put(mean(store, pictures, known))
        for step in known[:: max(1, -(-len(known) // MOST_MAPS))]:
            if store.explainer_alive and not _finished(store, step):
                self._receiver.explain(step)
                await self._until_explained(step)
                self._put(mean(store, pictures, known))

    async def _until_explained(self, step: Step) -> None:
        deadline = time.monotonic() + LONGEST
        while not _finished(self._receiver.store, step) and time.monotonic() < deadline:
            await asyncio.sleep(LOOK)


def _finished(store: Store, step: Step) -> bool:
    found = store.maps.get(step.step)
    return found is not None and found.refined >= 1


class Pictures:
    """The sum of pictures of one size.

    Attributes:
        count: How many.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sum: NDArray[np.float32] | None = None

    def add(self, step: Step, store: Store) -> None:
        """Add a step's picture; one of another size than the first is left out."""
        picture = picture_of(step, store.hello.observation_space if store.hello else None)
        if picture is None or (self._sum is not None and picture.shape != self._sum.shape):
            return
        if self._sum is None:
            self._sum = np.zeros(picture.shape, np.float32)
        self._sum += picture
        self.count += 1

    def mean(self) -> NDArray[np.uint8] | None:
        """Return their mean, or None of none."""
        return None if self._sum is None else np.rint(self._sum / self.count).astype(np.uint8)


def step_of(store: Store, number: int) -> Step | None:
    """Return the step of this number, or None where it is not kept."""
    position = store.steps.position_of(number)
    return store.steps.at(position) if position is not None else None


def frame(store: Store, number: int) -> bytes:
    """Return a step's frame and figures as a message; the frame is None where there is none, or none any more."""
    packet, step = Packet(EncodedCache(0)), step_of(store, number)
    section: dict[str, Any] = {"step": number, "kept": step is not None, "frame": None}
    if step is not None:
        picture = picture_of(step, store.hello.observation_space if store.hello else None)
        section["frame"] = packet.array(picture) if picture is not None else None
        section |= {"episode": step.episode, "episode_step": step.episode_step}
    return packet.finish({"sections": {"frame": section}})


def mean(store: Store, pictures: Pictures, steps: Sequence[Step]) -> bytes:
    """Return the mean frame and the mean maps of some steps as a message."""
    packet, picture = Packet(EncodedCache(0)), pictures.mean()
    section: dict[str, Any] = {
        "steps": [step.step for step in steps],
        "frames": pictures.count,
        "frame": packet.array(picture) if picture is not None else None,
    }
    found = [each for step in steps if (each := store.maps.get(step.step)) is not None]
    section["maps"], section["heat"] = _mean_heat(packet, found)
    return packet.finish({"sections": {"mean": section}})


def _mean_heat(packet: Packet, maps: Sequence[SaliencyMap]) -> tuple[int, list[dict[str, Any]] | None]:
    """Return how many maps of one kind there are, and their mean as the stage draws heat."""
    if not maps:
        return 0, None
    first = maps[-1]
    alike = [each for each in maps if _kind(each) == _kind(first)]
    layers = []
    for name, target in ((f"heatmap/{target}", target) for target in first.targets):
        name = next((key for key in first.arrays if key == name or key.startswith(f"{name}/")), name)
        shape = first.arrays[name].shape if name in first.arrays else None
        arrays = [each.arrays[name] for each in alike if name in each.arrays and each.arrays[name].shape == shape]
        if arrays and len(shape or ()) == 2:
            mean = np.asarray(np.mean(arrays, axis=0, dtype=np.float32))
            layers.append(layer_of(packet, first, target, name, mean))
    return len(alike), layers or None


def _kind(message: SaliencyMap) -> tuple[object, ...]:
    return message.method, message.options, message.targets, message.titles


def state_routes(receiver: Receiver, arguments: Sequence[str] = ()) -> list[tuple[str, Any, dict[str, Any]]]:
    """Return the routing table's entry for this socket.

    Args:
        receiver: Whose store is shown.
        arguments: See ``StateLink``.
    """
    link = StateLink(receiver.store, arguments)
    return [("/states", StateSocket, {"receiver": receiver, "link": link})]
