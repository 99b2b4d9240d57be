"""Starts the viewer's processes together and ends them together."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
import webbrowser
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .page.receiver import Receiver
    from .page.server import PageServer
    from .page.store import Store

#: Seconds before a child that ended is started again: the first time, and at most.
BACKOFF, LONGEST_BACKOFF = 0.5, 10.0

#: Exit code of an explainer that refuses its arguments: starting it again would not help.
REFUSED = 2

#: Seconds a child has to end by itself before it is killed.
GRACE = 3.0

#: A child's line on standard output is at most this long.
LINE_LIMIT = 2**20


class LaunchError(RuntimeError):
    """The viewer cannot run; the text says why and what to do."""


class Child:
    """A process that ends with this one: its standard input is a pipe from here, which closes even if we are killed.

    It runs in a session of its own: Ctrl-C in the terminal reaches this process alone, which then ends the child.

    Args:
        command: The command line.
        quiet: Keep what it writes to standard error for ``last_words`` instead of passing it on.
        environment: Variables of its environment beside ours.
    """

    def __init__(
        self, command: Sequence[str], *, quiet: bool = True, environment: Mapping[str, str] | None = None
    ) -> None:
        self.command = tuple(command)
        self._environment = {**os.environ, **(environment or {})}
        self.last_words = ""
        self._quiet = quiet
        self._process: Process | None = None
        self._listening: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the process."""
        self._process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE if self._quiet else None,
            limit=LINE_LIMIT,
            env=self._environment,
            start_new_session=True,
        )
        self._listening = asyncio.create_task(self._listen()) if self._quiet else None

    async def _listen(self) -> None:
        assert self._process is not None and self._process.stderr is not None
        while part := await self._process.stderr.read(4096):
            self.last_words = (self.last_words + part.decode(errors="replace"))[-8192:]

    async def line(self) -> str:
        """Return its next line of output; empty at the end of it."""
        assert self._process is not None and self._process.stdout is not None
        try:
            return (await self._process.stdout.readline()).decode(errors="replace")
        except ValueError:  # longer than LINE_LIMIT
            return ""

    async def read(self, size: int) -> bytes:
        """Return the next bytes of its output, so many.

        Raises:
            EOFError: It has ended.
        """
        assert self._process is not None and self._process.stdout is not None
        return await self._process.stdout.readexactly(size)

    async def write(self, data: bytes) -> None:
        """Write to its standard input; waits while it takes nothing.

        Raises:
            OSError: It has ended.
        """
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(data)
        await self._process.stdin.drain()

    async def wait(self) -> int:
        """Read and drop its output until it ends; return its exit code (negative: the signal)."""
        assert self._process is not None
        while await self.line():
            pass
        code = await self._process.wait()
        if self._listening is not None:
            await self._listening
        return code

    def ask_to_end(self) -> None:
        """Ask it to end, without waiting for it."""
        if self._process is not None and self._process.returncode is None:
            self._signal(self._process.pid, signal.SIGTERM)

    @staticmethod
    def _signal(pid: int, number: signal.Signals) -> None:
        """Send a signal: not by ``Process``, which first polls, and so can take the exit code from who waits for it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the latter on Windows, where it has ended
            os.kill(pid, number)

    async def stop(self) -> None:
        """Close its standard input, ask it to end, and kill it if it does not."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            assert process.stdin is not None
            process.stdin.close()
            self.ask_to_end()
            try:
                await asyncio.wait_for(process.wait(), GRACE)
            except TimeoutError:
                self._signal(process.pid, signal.SIGKILL)
                await process.wait()
        if self._listening is not None:
            await self._listening


async def _check(arguments: Sequence[str]) -> None:
    """Have an explainer say whether what was asked for is possible, before anything is served.

    Where only what always is possible was asked for, nobody waits for that.

    Raises:
        LaunchError: It is not.
    """
    asked = dict(zip(arguments, arguments[1:], strict=False))
    if asked.get("--device") in (None, "auto", "cpu") and not {"--method", "--target", "--budget-ms"} & asked.keys():
        return
    child = Child([sys.executable, "-m", "agentwrap_viewer.explainer", *arguments, "--check"])
    try:
        await child.start()
        code = await child.wait()
    finally:
        await child.stop()
    if code == REFUSED:
        raise LaunchError(_last_line(child.last_words).removeprefix("agentwrap explainer: "))


async def keep_explaining(receiver: Receiver, arguments: Sequence[str]) -> None:
    """Run the explainer, and again whenever it ends, after a growing pause; tell the receiver where it is.

    Raises:
        LaunchError: It refuses its arguments (a device that is not there, an unknown method).
    """
    store, pause = receiver.store, BACKOFF
    while True:
        child = Child([sys.executable, "-m", "agentwrap_viewer.explainer", *arguments])
        try:
            await child.start()
            if await _introduce(child, receiver):
                pause = BACKOFF
            code = await child.wait()
        finally:
            await child.stop()
        if code == REFUSED:
            raise LaunchError(_last_line(child.last_words).removeprefix("agentwrap explainer: "))
        store.explainer_alive = False
        store.explainer = None
        store.explainer_restarts += 1
        store.explainer_problem = why_ended(child.last_words, code)
        store.notify()
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_BACKOFF)


async def _introduce(child: Child, receiver: Receiver) -> bool:
    """Read the line that says where the explainer is, and connect to it."""
    line = await child.line()
    try:
        where = json.loads(line)
        receiver.explain_with(str(where["publish"]), str(where["control"]))
    except (ValueError, KeyError, TypeError):
        return False
    return True


def why_ended(last_words: str, code: int) -> str:
    """Say how a child ended, and the last line of what it wrote."""
    how = f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return f"{how}: {_last_line(last_words)}" if last_words.strip() else how


def _last_line(words: str) -> str:
    return words.strip().rsplit("\n", 1)[-1].strip()


def run_viewer(
    source: str | None = None,
    *,
    port: int | None = None,
    open_browser: bool = True,
    device: str = "cpu",
    method: str | None = None,
    target: str | None = None,
    budget_ms: float | None = None,
    explainer_args: Sequence[str] = (),
    companions: Sequence[Sequence[str]] = (),
    until: Callable[[Store], bool] | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> Store:
    """Serve the page and run the explainer until Ctrl-C, SIGTERM, or ``until``; then end everything.

    Args:
        source: Endpoint of the agent's stream, or None for the newest stream announced on this machine.
        port: Port on the loopback interface; None takes 5006 or the next that is free.
        open_browser: Open the page in the user's browser.
        device: Where the explainer computes: ``cpu``, ``cuda``, ``mps`` or ``auto``.
        method: Saliency method to begin with, or None for the explainer's default.
        target: What of the policy is explained to begin with, or None for what the method explains of itself:
            ``actor``, ``critic``, ``chosen``, ``choice:<i>``, an action's name or index.
        budget_ms: Time the explainer spends on one step, in milliseconds, or None for its default.
        explainer_args: Further arguments of ``python -m agentwrap_viewer.explainer``.
        companions: Command lines of processes to run beside the page and end with it (an agent, for the demo). Their
            standard input is a pipe that closes when the viewer ends.
        until: Asked five times a second with the store; when it returns True the viewer ends.
        on_ready: Called once with the page's address when it is served.

    Returns:
        The store with everything received: ``store.statistics()`` has the run's figures.

    Raises:
        LaunchError: The port is taken, the source is not an endpoint, or a companion failed.
    """

    def begin() -> tuple[Receiver, PageServer]:
        from .keeper import StreamKeeper
        from .page.receiver import Receiver
        from .page.server import serve
        from .page.spool import Spool
        from .page.store import Store

        store = Store(older=Spool)
        receiver = Receiver(store, source, keeper=StreamKeeper(changed=store.notify))
        return receiver, serve(receiver, port=port)

    if source is not None:
        check_endpoint(source)
    arguments = (*settings(device, method, target, budget_ms), *explainer_args)
    return asyncio.run(
        show(
            begin,
            open_browser=open_browser,
            explainer_args=arguments,
            companions=companions,
            until=until,
            on_ready=on_ready,
        )
    )


def check_endpoint(source: str) -> None:
    """Look at an endpoint before anything begins.

    Raises:
        LaunchError: It is none.
    """
    from agentwrap_protocol.endpoint import parse_endpoint

    try:
        parse_endpoint(source)
    except ValueError as error:
        raise LaunchError(str(error)) from None


def settings(device: str, method: str | None, target: str | None, budget_ms: float | None) -> tuple[str, ...]:
    """Return the explainer's arguments for these settings; None leaves one at its default."""
    return (
        *("--device", device),
        *(() if method is None else ("--method", method)),
        *(() if target is None else ("--target", target)),
        *(() if budget_ms is None else ("--budget-ms", str(budget_ms))),
    )


async def show(
    begin: Callable[[], tuple[Receiver, PageServer]],
    *,
    open_browser: bool = True,
    explainer_args: Sequence[str] | None = (),
    companions: Sequence[Sequence[str]] = (),
    beside: Callable[[Store], Coroutine[Any, Any, None]] | None = None,
    until: Callable[[Store], bool] | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> Store:
    """Serve a page and run the explainer until Ctrl-C, SIGTERM, or ``until``; then end everything.

    Args:
        begin: Makes what the page shows, and serves it on the running loop.
        open_browser: Open the page in the user's browser.
        explainer_args: The explainer's arguments; None runs none.
        companions: As for ``run_viewer``, like ``until`` and ``on_ready``.
        beside: Runs beside the page until it is cancelled; given the store.
        until: Asked five times a second.
        on_ready: Called once.

    Raises:
        LaunchError: As ``run_viewer``.
    """
    from .page.server import PortTakenError

    if explainer_args is not None:
        await _check(explainer_args)
    try:
        receiver, server = begin()
    except PortTakenError as error:
        raise LaunchError(str(error)) from None
    store = receiver.store
    stop = _stop_on_signals()  # after Panel's server, which installs handlers of its own that stop the event loop
    tasks = [
        asyncio.create_task(receiver.run(), name="receiver"),
        *(() if explainer_args is None else (asyncio.create_task(keep_explaining(receiver, explainer_args)),)),
        asyncio.create_task(_until(store, until), name="until"),
        *(asyncio.create_task(_accompany(command), name=command[0]) for command in companions),
        *(() if beside is None else (asyncio.create_task(beside(store), name="beside"),)),
        asyncio.create_task(stop.wait(), name="signal"),
    ]
    try:
        if on_ready is not None:
            on_ready(server.address)
        if open_browser:
            threading.Thread(target=webbrowser.open, args=(server.address,), daemon=True).start()
        await _first_to_end(tasks)
    finally:
        await _end(tasks)
        server.stop()
        if receiver.keeper is not None:
            await receiver.keeper.close()
        store.close()
    return store


async def _first_to_end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        error = task.exception()
        if isinstance(error, ValueError):
            raise LaunchError(str(error)) from None
        if error is not None:
            raise error


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _until(store: Store, until: Callable[[Store], bool] | None) -> None:
    while until is None or not until(store):
        await asyncio.sleep(0.2)


async def _accompany(command: Sequence[str]) -> None:
    """Run a companion until it fails or everything ends; one that has finished its work leaves the page up."""
    child = Child(command)
    try:
        await child.start()
        code = await child.wait()
    finally:
        await child.stop()
    if code != 0:
        raise LaunchError(f"{' '.join(command)} {why_ended(child.last_words, code)}")
    await asyncio.Event().wait()


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt instead
            loop.add_signal_handler(number, stop.set)
    return stop
