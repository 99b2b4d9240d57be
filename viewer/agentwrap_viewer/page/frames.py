"""The binary WebSocket ``/frames``: each tab's view, sent as fast as the tab paints and no faster."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from tornado.websocket import WebSocketClosedError

from agentwrap_protocol.messages import Step

from .components import all_components
from .components.recorder import Recorder
from .components.roster import Roster
from .cursor import Cursor
from .packet import EncodedCache, Packet
from .receiver import Receiver
from .socket import PageSocket, retrieve
from .view import Component, View

logger = logging.getLogger(__name__)

#: Messages sent and not yet painted. With two, one travels while the other is painted; what a stalled tab costs is two.
IN_FLIGHT = 2

#: Seconds after which a tab hears from us even if nothing happened, so that it can tell silence from a dead viewer.
IDLE = 1.0

#: Seconds between two messages to a tab that is paused and asks for nothing.
PAUSED = 0.1

#: Bytes of the longest command.
MAX_COMMAND = 4096

#: Tells a tab that the viewer was restarted, so that it loads the page anew.
SERVER = uuid.uuid4().hex


class Command(msgspec.Struct, frozen=True, tag_field="do"):
    """What a tab asks for, as a JSON object with ``do``."""


class Painted(Command, frozen=True, tag="painted"):
    """The oldest unacknowledged message was drawn, for the browser to paint."""


class Live(Command, frozen=True, tag="live"):
    """Show the newest step."""


class Pause(Command, frozen=True, tag="pause"):
    """Hold the step shown."""


class Play(Command, frozen=True, tag="play"):
    """Go on at a speed (None: the last)."""

    speed: float | None = None


class Speed(Command, frozen=True, tag="speed"):
    """Play at a speed; a view that is paused stays so."""

    speed: float


class Move(Command, frozen=True, tag="move"):
    """Hold the step ``count`` further."""

    count: Annotated[int, Meta(ge=-(2**31), le=2**31)]


class Go(Command, frozen=True, tag="go"):
    """Hold the step at a position of the ring."""

    position: Annotated[int, Meta(ge=0, le=2**62)]


class Follow(Command, frozen=True, tag="follow"):
    """Live, show the ``newest`` step or the newest that is ``mapped``."""

    what: Literal["newest", "mapped"]


class ShowPicture(Command, frozen=True, tag="show_picture"):
    """Show this picture of an observation that has several: the name of its array; None for the first."""

    name: Annotated[str, Meta(max_length=1024)] | None = None


class Jump(Command, frozen=True, tag="jump"):
    """Hold the step of this number, or the first one of this episode; of a recording."""

    step: Annotated[int, Meta(ge=0, le=2**62)] | None = None
    episode: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None


class Repeat(Command, frozen=True, tag="repeat"):
    """Play the steps from position ``first`` to ``last`` over and over, or no more (None); of a recording."""

    first: Annotated[int, Meta(ge=0, le=2**62)] | None = None
    last: Annotated[int, Meta(ge=0, le=2**62)] | None = None


class Resume(Command, frozen=True, tag="resume"):
    """Go on where a tab was that is loaded anew or lost its connection, in the recording of this ``stream``."""

    stream: Annotated[str, Meta(max_length=200)]
    step: Annotated[int, Meta(ge=0, le=2**62)]
    speed: float
    playing: bool
    loop: tuple[Annotated[int, Meta(ge=0, le=2**62)], Annotated[int, Meta(ge=0, le=2**62)]] | None = None


class ExplainWith(Command, frozen=True, tag="explain_with"):
    """Explain steps with this version of the policy, or with each step's own (None); of a recording."""

    version: Annotated[int, Meta(ge=0, le=2**62)] | None = None


class Record(Command, frozen=True, tag="record"):
    """Begin to record the stream to a file, or end that; of a running agent."""

    on: bool


class List(Command, frozen=True, tag="list"):
    """Open the list of all agents, or close it; of a running agent."""

    open: bool


class Watch(Command, frozen=True, tag="watch"):
    """Show this environment of the agent at an endpoint; of a running agent."""

    endpoint: Annotated[str, Meta(max_length=1024)]
    environment: Annotated[int, Meta(ge=0, le=65_535)] = 0


class Choose(Command, frozen=True, tag="choose"):
    """Have the environment that is shown chosen by a rule; of a running agent."""

    rule: Literal["none", "best", "worst", "newest"]


class Bookmark(Command, frozen=True, tag="bookmark"):
    """Bookmark the step of this number with a note, or take its bookmark away (None); of a recording."""

    step: Annotated[int, Meta(ge=0, le=2**62)]
    note: Annotated[str, Meta(max_length=500)] | None = None


class Pin(Command, frozen=True, tag="pin"):
    """Pin the step of this number, for all tabs, or none any more (None)."""

    step: Annotated[int, Meta(ge=0, le=2**62)] | None = None


COMMANDS = msgspec.json.Decoder(
    Painted
    | Live
    | Pause
    | Play
    | Speed
    | Move
    | Go
    | Follow
    | ShowPicture
    | Jump
    | Repeat
    | Resume
    | ExplainWith
    | Record
    | List
    | Watch
    | Choose
    | Bookmark
    | Pin
)


class Tab:
    """One tab's state: its cursor, and what it has been sent.

    Args:
        receiver: Whose store is shown; asked for a map of the step at which the tab is paused.
        cache: Encoded arrays, shared by all tabs.
        cursor: Its place; by default the newest step of the store.
        components: The page's parts; by default those of a running agent.

    Attributes:
        patience: Seconds between two messages to a tab that is paused and asks for nothing.
    """

    patience = PAUSED

    def __init__(
        self,
        receiver: Receiver,
        cache: EncodedCache,
        *,
        cursor: Cursor | None = None,
        components: Sequence[Component] | None = None,
    ) -> None:
        self.cursor = Cursor(receiver.store) if cursor is None else cursor
        self._receiver = receiver
        self._cache = cache
        self._roster = Roster(receiver)
        own = (Recorder(receiver), self._roster)
        self._components = [*all_components(), *own] if components is None else components
        self._generation: int | None = None
        self._sent = 0

    def compose(self) -> bytes:
        """Return the message that brings the tab up to date."""
        store = self._receiver.store
        fresh, self._generation = self._generation != store.generation, store.generation
        packet = Packet(self._cache)
        self.cursor.turn()
        view = View.of(store, self.cursor, packet, fresh=fresh)
        sections = {component.name: component.update(view) for component in self._components}
        self._sent += 1
        self.ask(view)
        return packet.finish(
            {
                "number": self._sent,
                "packed": time.time(),
                "server": SERVER,
                "sections": {name: section for name, section in sections.items() if section is not None},
            }
        )

    def ask(self, view: View) -> None:
        """Ask the explainer for what the view lacks."""
        if view.step is not None and self.wants_map(view):
            self._receiver.explain(view.step)

    def wants_map(self, view: View) -> bool:
        """Whether to ask for a map of the step shown: paused, where it has no complete one."""
        return self.cursor.mode == "paused" and (view.saliency_map is None or view.saliency_map.refined < 1)

    def close(self) -> None:
        """The tab is gone."""
        if self._roster.is_open:
            self._roster.open(False)

    def obey(self, command: Command) -> None:
        """Do what the tab asks for.

        Raises:
            ValueError: It cannot be done; the text says why.
        """
        match command:
            case Live():
                self.cursor.live()
            case Pause():
                self.cursor.pause()
            case Play(speed):
                self.cursor.play(speed)
            case Speed(speed):
                self.cursor.set_speed(speed)
            case Move(count):
                self.cursor.move(count)
            case Go(position):
                self.cursor.go(position)
            case Follow(what):
                self.cursor.follow = what
            case ShowPicture(name):
                self.cursor.picture = name
            case Jump(step=int(step)):
                found = self._receiver.store.steps.position_of(step)
                if found is None:
                    raise ValueError(f"step {step} is not kept")
                self.cursor.go(found)
            case Pin(step):
                self._receiver.pinning.pin(None if step is None else self._step(step))
            case Record(on):
                self._receiver.record(on=on)
            case List(is_open):
                self._roster.open(is_open)
            case Watch(endpoint, environment):
                self._receiver.watch(endpoint, environment)
            case Choose(rule):
                self._receiver.choose_by(rule)
            case _:
                raise ValueError(f"a running agent's view cannot do {command!r}")

    def _step(self, number: int) -> Step:
        """Return the step of a number: the one shown, which may be kept here alone, or one that the store has.

        Raises:
            ValueError: It is not kept.
        """
        shown, steps = self.cursor.step(), self._receiver.store.steps
        if shown is not None and shown.step == number:
            return shown
        position = steps.position_of(number)
        step = None if position is None else steps.at(position)
        if step is None:
            raise ValueError(f"step {number} is not kept")
        return step


class FrameSocket(PageSocket):
    """One tab's connection."""

    def initialize(self, receiver: Receiver, tab: Callable[[], Tab]) -> None:
        """Take what the server's routing table holds."""
        self._receiver = receiver
        self._tab = tab()
        self._unpainted = 0
        self._painted = asyncio.Event()
        self._commanded = asyncio.Event()
        self._news = asyncio.Event()  # a command, or a change in the store
        self._pump: asyncio.Task[None] | None = None

    @property
    def max_message_size(self) -> int:
        """Bytes of the longest message accepted from a tab."""
        return MAX_COMMAND

    def open(self) -> None:
        """Begin to send; first do what the tab asks for in its address, so that nothing else is shown before."""
        self.set_nodelay(True)
        if begin := self.get_query_argument("begin", ""):
            self.on_message(begin[:MAX_COMMAND])
        self._pump = asyncio.create_task(self._send_views(), name="frames")

    def on_message(self, message: str | bytes) -> None:
        """Take a command."""
        try:
            command = COMMANDS.decode(message)
            if isinstance(command, Painted):
                self._unpainted = max(0, self._unpainted - 1)
                self._painted.set()
            else:
                self._tab.obey(command)
                self._commanded.set()
                self._news.set()
        except (msgspec.DecodeError, ValueError) as error:
            logger.debug("ignored a tab's command: %s", error)

    def on_close(self) -> None:
        """Stop sending."""
        self._tab.close()
        if self._pump is not None:
            self._pump.cancel()

    async def _send_views(self) -> None:
        stop_listening = self._receiver.store.listen(self._news.set)
        try:
            while True:
                while self._unpainted >= IN_FLIGHT:
                    self._painted.clear()
                    await self._painted.wait()
                self._commanded.clear()
                self._news.clear()
                self._unpainted += 1
                sending = self.write_message(self._tab.compose(), binary=True)
                sending.add_done_callback(retrieve)
                await sending
                await self._wait_for_news()
        except (WebSocketClosedError, asyncio.CancelledError):
            pass  # the tab was closed, in the middle of a message perhaps
        finally:
            stop_listening()

    async def _wait_for_news(self) -> None:
        """Wait for a command, a change in the store, the next step of a playback, or until we should be heard again."""
        if self._tab.cursor.mode == "paused":  # what changes then are figures, which nobody reads 60 times a second
            await _wait(self._commanded, self._tab.patience)
        due = self._tab.cursor.wait()
        await _wait(self._news, IDLE if due is None else min(due, IDLE))


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def routes(
    receiver: Receiver, tab: Callable[[Receiver, EncodedCache], Tab] = Tab
) -> list[tuple[str, Any, dict[str, Any]]]:
    """Return the routing table's entry for this socket."""
    return [("/frames", FrameSocket, {"receiver": receiver, "tab": partial(tab, receiver, EncodedCache())})]
