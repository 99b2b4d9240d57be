"""Sockets to store: what agent and explainer publish, and the requests sent to the explainer."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np
import zmq
import zmq.asyncio
from numpy.typing import NDArray

from agentwrap_protocol import Announcement, ProtocolError, VersionError, decode, encode
from agentwrap_protocol.endpoint import parse_endpoint
from agentwrap_protocol.messages import (
    Configure,
    Evaluate,
    Explain,
    Explainer,
    Message,
    Outputs,
    Reply,
    SaliencyMap,
    Step,
    Watch,
)

from .discovery import live_streams, names_of
from .keeping import Keeper
from .pinning import Pinning
from .roster import Roster, Rule
from .store import FROM_AGENT, Store

logger = logging.getLogger(__name__)

FROM_EXPLAINER = tuple(kind.kind for kind in (SaliencyMap, Outputs, Explainer))

#: Messages that may wait in a socket while the page is busy, and those handled before others get their turn.
HIGH_WATER_MARK = 256
BATCH = 64

#: Arrays of a step that an explainer needs.
EXPLAINED_PREFIXES = ("observation", "input/", "output/", "action_mask")


class Receiver:
    """Fills a store from an agent's and an explainer's sockets, on the running asyncio loop.

    Args:
        store: Where messages go.
        endpoint: The agent's endpoint. None follows the newest stream announced on this machine, and the restarted
            agent of the same name wherever it streams next.
        find_streams: Lists the streams announced; newest first.
        keeper: Records the stream where somebody asks for it on the page; None where that is not possible.

    Attributes:
        endpoint: What is followed now, or None.
        streams: The streams announced when last looked.
        roster: How all of them do.
        pinning: Pins a step.
    """

    def __init__(
        self,
        store: Store,
        endpoint: str | None = None,
        *,
        find_streams: Callable[[], list[Announcement]] = live_streams,
        keeper: Keeper | None = None,
    ) -> None:
        self.store = store
        self.keeper = keeper
        self.endpoint = endpoint
        self.streams: list[Announcement] = []
        self.roster = Roster()
        self.pinning = Pinning(store, self._explain_whole)
        self._agent_control: tuple[str, zmq.asyncio.Socket] | None = None
        self._unasked: dict[str, Any] | None = None  # what to ask an agent for that has not said yet where
        self._pinned = endpoint is not None
        self._name: str | None = None
        self._find_streams = find_streams
        self._opened: zmq.asyncio.Context | None = None
        self._agent: zmq.asyncio.Socket | None = None
        self._explainer: zmq.asyncio.Socket | None = None
        self._control: zmq.asyncio.Socket | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._identity = uuid.uuid4().hex
        self._requests = 0
        self._asked: set[tuple[int, int, int]] = set()  # generation, step, version: all of one step
        self._wanted: dict[str, Any] = {}

    async def run(self) -> None:
        """Receive until cancelled, then close every socket.

        Raises:
            ValueError: The endpoint is not an address.
        """
        try:
            if self.endpoint is not None:
                self._connect_agent(self.endpoint)
            while True:
                self._discover()
                await asyncio.sleep(1.0)
        finally:
            self.roster.close()
            self.pinning.close()
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            if self._opened is not None:
                self._opened.destroy(linger=0)

    @property
    def _context(self) -> zmq.asyncio.Context:
        """Made with the first socket: a receiver that never runs, since its page cannot be served, leaves none open."""
        if self._opened is None:
            self._opened = zmq.asyncio.Context()
        return self._opened

    def follow(self, endpoint: str) -> None:
        """Follow the stream at another endpoint from now on, chosen by a person.

        Raises:
            ValueError: It is not an endpoint.
        """
        self._pinned = endpoint not in {stream.endpoint for stream in self.streams}
        if endpoint != self.endpoint:
            self._switch(endpoint)

    def watch(self, endpoint: str, environment: int) -> None:
        """Show this environment of the agent at an endpoint from now on, chosen by a person.

        Raises:
            ValueError: It is not an endpoint.
        """
        self.roster.rule = "none"
        self.follow(endpoint)
        told = self.roster.told_by(endpoint)
        several = told is not None and len(told.arrays["length"]) > 1
        self._ask_agent({"environment": environment, "follow": "none"} if several else None)
        self.store.notify()

    def choose_by(self, rule: Rule) -> None:
        """Have what is shown chosen: whenever the episode shown ends, of all agents and all their environments."""
        self.roster.rule = rule
        self.look_around()

    def look_around(self) -> None:
        """Listen to all agents as far as somebody wants to know, and turn to another where the rule says so."""
        self.roster.look(self.streams, self._context)
        choice = self.roster.choice(self.endpoint)
        if choice is not None:
            self.follow(choice)
        told, rule = self.roster.told_by(self.endpoint), self.roster.rule
        if told is not None and told.follow != rule and len(told.arrays["length"]) > 1 and self._unasked is None:
            if rule != "none":
                self._ask_agent({"follow": rule})
            elif self.roster.wanted_by:  # who looks at the list has said to stay
                self._ask_agent({"environment": told.shown, "follow": "none"})
        self._ask_agent(self._unasked)
        self.store.notify()

    def _ask_agent(self, what: dict[str, Any] | None) -> None:
        """Ask the agent that is followed to show another environment, as soon as it has said where to ask."""
        self._unasked = what
        hello, endpoint = self.store.hello, self.endpoint
        if what is None or hello is None or hello.control is None or endpoint is None:
            return
        self._unasked = None
        if not _same_host(hello.control, endpoint):
            logger.warning("not asking %r, which is elsewhere than the agent at %s", hello.control, endpoint)
            return
        if self._agent_control is None or self._agent_control[0] != hello.control:
            old = self._agent_control[1] if self._agent_control is not None else None
            self._agent_control = hello.control, self._replace(old, zmq.DEALER, hello.control)
        request = Watch(stream=self._identity, seq=self._next_request(), time=time.time(), source=hello.stream, **what)
        self._send(self._agent_control[1], request)

    def explain_with(self, publish: str, control: str) -> None:
        """Connect to an explainer that has just started, and tell it what to do."""
        self._explainer = self._replace(self._explainer, zmq.SUB, publish, FROM_EXPLAINER)
        self._control = self._replace(self._control, zmq.DEALER, control)
        self._start("explainer", self._receive(self._explainer, FROM_EXPLAINER))
        self._start("control", self._receive(self._control, (Reply.kind,)))
        self.store.explainer_alive = True
        self.store.explainer = None
        self._asked.clear()
        self.configure(source=self.endpoint, **self._wanted)
        self.store.notify()

    def configure(self, **settings: Any) -> None:
        """Ask the explainer for other settings: ``source``, ``method``, ``options``, ``target``, ``budget_ms``.

        They are asked for again whenever an explainer is started anew.
        """
        if settings.get("method") not in (None, self._wanted.get("method")):
            self._wanted.pop("options", None)
        for name, value in settings.items():
            if name == "options" and value:
                self._wanted["options"] = {**self._wanted.get("options", {}), **value}
            elif name != "source" and value is not None:
                self._wanted[name] = value
        self._asked.clear()
        if any(value is not None for value in settings.values()):
            self._request(Configure(stream=self._identity, seq=self._next_request(), time=time.time(), **settings))

    def explain(self, step: Step, *, version: int | None = None) -> None:
        """Ask for a map of this step before newer ones; once for each step, version and explainer.

        Args:
            step: The step.
            version: Version of the policy to explain it with; None for its own, and always so of a running agent.
        """
        wanted = (self.store.generation, step.step, step.policy_version if version is None else version)
        if wanted in self._asked or self._control is None:
            return
        self._asked = {*(other for other in self._asked if other[:2] == wanted[:2]), wanted}
        self._ask_for_map(step, wanted[2])

    def _explain_whole(self, step: Step, version: int) -> None:
        # a running agent's explainer has one version alone, and is told which one the step was taken with
        recorded = self.store.connection == "recorded"
        self._ask_for_map(step, version if recorded else step.policy_version, whole=True)

    def _ask_for_map(self, step: Step, version: int, *, whole: bool = False) -> None:
        arrays = {name: array for name, array in step.arrays.items() if name.startswith(EXPLAINED_PREFIXES)}
        self._request(
            Explain(
                stream=self._identity,
                seq=self._next_request(),
                time=time.time(),
                source=step.stream,
                step=step.step,
                episode=step.episode,
                policy_version=version,
                policy_stale=step.policy_stale,
                step_time=step.time,
                whole=whole,
                arrays=arrays,
            )
        )

    def record(self, *, on: bool) -> None:
        """Begin or end a recording of the stream that is followed.

        Raises:
            ValueError: Nothing can be recorded here, or no stream is followed.
        """
        if self.keeper is None or self.endpoint is None:
            raise ValueError("there is no running agent to record")
        if on:
            self.keeper.begin(self.endpoint, self.store.title or "run")
        else:
            self.keeper.end()

    def evaluate(self, steps: NDArray[np.int64], versions: Sequence[int]) -> bool:
        """Ask for the outputs of recorded steps with these versions of the policy; return whether it could be asked."""
        if self._control is None or not self.store.explainer_alive or self.store.stream is None:
            return False
        self._request(
            Evaluate(
                stream=self._identity,
                seq=self._next_request(),
                time=time.time(),
                source=self.store.stream,
                policy_versions=tuple(versions),
                arrays={"step": steps},
            )
        )
        return True

    def _next_request(self) -> int:
        self._requests += 1
        return self._requests

    def _request(self, message: Message) -> None:
        if self._control is not None:
            self._send(self._control, message)

    def _send(self, socket: zmq.asyncio.Socket, message: Message) -> None:
        try:
            # a plain send on the underlying socket: never waits, and who is gone loses the request
            zmq.Socket.shadow(socket.underlying).send_multipart(encode(message), flags=zmq.NOBLOCK)
        except zmq.Again:
            logger.debug("requests are not taken now")

    def _discover(self) -> None:
        streams = self._find_streams()
        changed = streams != self.streams
        self.streams = streams
        if self.store.hello is not None:
            self._name = self.store.hello.name
        if not self._pinned:
            self._follow_announced()
        if self.endpoint in {stream.endpoint for stream in streams}:
            self.store.announced = True
        elif self.store.announced:
            self.store.announced = False
        names = names_of(streams)
        self.store.others = tuple((at, names[at]) for each in streams if (at := each.endpoint) != self.endpoint)
        self.store.advance()
        if changed or self.store.connection != "connected":
            self.store.notify()
        if self.roster.wanted_by or self.roster.rule != "none" or changed:
            self.look_around()

    def _follow_announced(self) -> None:
        if self.endpoint in {stream.endpoint for stream in self.streams}:
            return  # it lives, or another agent took its place at the same address
        heirs = [stream for stream in self.streams if stream.name == self._name] if self._name else self.streams
        if heirs and self.store.connection != "connected":
            self._switch(heirs[0].endpoint)

    def _switch(self, endpoint: str) -> None:
        self._connect_agent(endpoint)
        self._name = None
        self.store.clear()
        self.configure(source=endpoint)

    def _connect_agent(self, endpoint: str) -> None:
        self._agent = self._replace(self._agent, zmq.SUB, endpoint, FROM_AGENT)
        self.endpoint = endpoint
        self._start("agent", self._receive(self._agent, FROM_AGENT))

    def _replace(
        self, old: zmq.asyncio.Socket | None, kind: int, endpoint: str, topics: tuple[str, ...] = ()
    ) -> zmq.asyncio.Socket:
        parse_endpoint(endpoint)
        socket = self._context.socket(kind)
        socket.set_hwm(HIGH_WATER_MARK)
        socket.linger = 0
        socket.setsockopt(zmq.RECONNECT_IVL, 100)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        for topic in topics:
            socket.subscribe(topic.encode())
        try:
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            socket.close()
            raise ValueError(f"{endpoint!r} cannot be connected to: {error}") from None
        if old is not None:
            old.close()
        return socket

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        if name in self._tasks:
            self._tasks[name].cancel()
        self._tasks[name] = asyncio.create_task(work, name=f"receive from {name}")

    async def _receive(self, socket: zmq.asyncio.Socket, kinds: tuple[str, ...]) -> None:
        plain: zmq.Socket[bytes] = zmq.Socket.shadow(socket.underlying)
        while True:
            frames = await socket.recv_multipart()
            for _ in range(BATCH):
                self._take(frames, kinds)
                try:
                    frames = plain.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
            else:
                self._take(frames, kinds)
            self.store.notify()
            await asyncio.sleep(0)

    def _take(self, frames: list[bytes], kinds: tuple[str, ...]) -> None:
        try:
            message = decode(frames)
        except VersionError as error:
            self.store.problem = str(error)
        except ProtocolError as error:
            self.store.rejected += 1
            logger.debug("ignored a message: %s", error)
        else:
            if isinstance(message, Reply):
                self.store.explainer_problem = None if message.ok else message.problem
            elif message.kind in kinds:
                self.store.add(message)


def _same_host(control: str, endpoint: str) -> bool:
    """Whether what a stream names to send requests to is an endpoint where the stream itself is."""
    try:
        return parse_endpoint(control).place == parse_endpoint(endpoint).place
    except ValueError:
        return False
