"""The page's side of the map: the process that keeps it, what that is told, and which tab gets what it answers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import time
from collections.abc import Callable, Sequence

import msgspec

from agentwrap_protocol.messages import EpisodeEnd, Hello, Step
from agentwrap_viewer.launch import GRACE, Child, why_ended
from agentwrap_viewer.page.packet import EncodedCache, Packet
from agentwrap_viewer.page.store import Store

from .wire import HEADER, Choose, Kind, message_piece, piece

#: Seconds that handing steps over may take at a time, and between two times: the page has frames to send meanwhile.
SLICE, PAUSE = 0.006, 0.03

#: Steps handed over of what happened before a tab first looked at the map: of more than these every so many.
BACKLOG = 20_000

#: Seconds before the process is started again that ended by itself: the first time, and at most.
BACKOFF, LONGEST_BACKOFF = 1.0, 30.0

#: Arrays of a step that the map is made of, beside ``output/layer/…``.
WANTED = ("action", *(f"output/{name}" for name in ("latent", "value", "q_values", "logits", "log_std")))

#: Its linear algebra is to use one core: others compute as well.
ENVIRONMENT = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

Send = Callable[[bytes], None]


class StateLink:
    """Runs the map's process from when a tab first asks for it, and tells it what happens while one looks.

    Args:
        store: What the page shows.
        arguments: Further arguments of ``python -m agentwrap_viewer.states``: with ``--recording`` it reads the steps
            itself.
    """

    def __init__(self, store: Store, arguments: Sequence[str] = ()) -> None:
        self.store = store
        self._problem: str | None = None  # why the process ended, until another one has said something
        self._arguments, self._tabs = tuple(arguments), dict[int, Send]()
        self._numbers = itertools.count(1)
        self._task: asyncio.Task[None] | None = None
        self._child: Child | None = None
        self._outgoing: list[bytes] = []
        self._news = asyncio.Event()
        self._choice = Choose()
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._generation, self._next, self._stride, self._episodes = -1, 0, 1, 0

    # Tabs.

    def open(self, send: Send) -> int:
        """Let a tab look; ``send`` gets what it is sent. Return its number."""
        number = next(self._numbers)
        self._tabs[number] = send
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="state map")
        elif self._problem is not None:
            send(_problem_message(self._problem))
        self._tell(piece(Kind.OPENED, number))
        return number

    def close(self, number: int) -> None:
        """A tab looks no more. The process stays, and does nothing while none does."""
        if self._tabs.pop(number, None) is not None:
            self._tell(piece(Kind.CLOSED, number))

    def obey(self, number: int, command: msgspec.Struct) -> None:
        """Pass on what a tab asks for."""
        if isinstance(command, Choose):
            self._choice = Choose(command.layer or self._choice.layer, command.method or self._choice.method)
            if command.layer is not None and not self._arguments:
                self._next, self._stride, self._episodes = 0, 1, 0  # all steps again, of which other arrays are taken
        self._tell(piece(Kind.COMMAND, number, msgspec.json.encode(command)))

    def _tell(self, data: bytes) -> None:
        if self._child is not None:
            self._outgoing.append(data)
            self._news.set()

    # The process.

    async def _run(self) -> None:
        pause = BACKOFF
        while self._tabs:
            began = time.monotonic()
            child = Child([sys.executable, "-m", "agentwrap_viewer.states", *self._arguments], environment=ENVIRONMENT)
            try:
                await child.start()
                self._child, self._outgoing = child, [piece(Kind.OPENED, number) for number in self._tabs]
                self._begin_anew()
                if self._arguments:
                    self._outgoing.append(self._choice_piece())
                talk = [asyncio.create_task(self._listen(child)), asyncio.create_task(self._speak(child))]
                try:
                    await asyncio.wait(talk, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in talk:
                        task.cancel()
                    await asyncio.gather(*talk, return_exceptions=True)
                with contextlib.suppress(TimeoutError):  # it may still be ending: a signal would say how
                    await asyncio.wait_for(child.wait(), GRACE)
            finally:
                self._child = None
                await child.stop()
            self._report(why_ended(child.last_words, await child.wait()))
            if time.monotonic() - began > LONGEST_BACKOFF:
                pause = BACKOFF
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_BACKOFF)

    def _report(self, how: str) -> None:
        """Tell the tabs that what they have been sent is void, and why."""
        self._problem = f"The state map's process {how[-300:]}. It is being started again."
        for send in self._tabs.values():
            send(_problem_message(self._problem))

    def _choice_piece(self) -> bytes:
        """Return what tabs chose before, for a process that does not know it."""
        return piece(Kind.COMMAND, body=msgspec.json.encode(self._choice))

    async def _listen(self, child: Child) -> None:
        with contextlib.suppress(EOFError):
            while True:
                size, kind, tab = HEADER.unpack(await child.read(HEADER.size))
                body = await child.read(size)
                self._problem = None
                if kind == Kind.DATA and tab in self._tabs:
                    self._tabs[tab](body)

    async def _speak(self, child: Child) -> None:
        with contextlib.suppress(OSError):
            while True:
                outgoing, self._outgoing = self._outgoing, []
                self._news.clear()
                if outgoing:
                    await child.write(b"".join(outgoing))
                if self._tabs and not self._arguments:
                    await child.write(b"".join(self._steps()))
                idle = not self._tabs or self._arguments  # then nothing is to be told before a tab asks for something
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), None if idle else PAUSE)

    def _steps(self) -> list[bytes]:
        """Return what has happened since the last time, as much of it as there is time for."""
        store, pieces = self.store, list[bytes]()
        if store.hello is None:
            return pieces
        if self._generation != store.generation:
            self._begin_anew()
            self._generation = store.generation
            pieces += [message_piece(store.hello), self._choice_piece()]
        steps, until = store.steps, time.monotonic() + SLICE
        waiting = steps.last - max(self._next, steps.first)
        if waiting > BACKLOG and self._stride == 1:
            self._stride = -(-waiting // BACKLOG)
        self._next = max(self._next, steps.first)
        while self._next <= steps.last and time.monotonic() < until:
            if (step := steps.at(self._next)) is not None:
                pieces.append(message_piece(trimmed(step)))
            self._next += self._stride if steps.last - self._next > self._stride else 1
        if self._episodes != store.episodes.version and self._next > steps.last:
            self._episodes = store.episodes.version
            pieces += self._ends(store.hello)
        return pieces

    def _ends(self, hello: Hello) -> list[bytes]:
        results = self.store.episodes.results
        return [
            message_piece(
                EpisodeEnd(
                    stream=hello.stream,
                    episode=number,
                    step=0,
                    length=length,
                    episode_return=episode_return,
                    seconds=0.0,
                    reason="terminated",
                )
            )
            for number, (episode_return, length) in results.items()
        ]


def trimmed(step: Step) -> Step:
    """Return a step with the arrays alone that the map is made of."""
    arrays = {n: array for n, array in step.arrays.items() if n in WANTED or n.startswith("output/layer/")}
    return msgspec.structs.replace(step, arrays=arrays)


def _problem_message(problem: str) -> bytes:
    return Packet(EncodedCache(0)).finish({"sections": {"process": {"problem": problem}}})
