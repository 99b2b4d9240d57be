"""What the tests of the page work with: a server over fakes, and a tab with what tests look at."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fakes import FakeAgent, FakeExplainer
from playwright.sync_api import Error, Locator, Page

from agentwrap_viewer.keeper import StreamKeeper
from agentwrap_viewer.page.receiver import Receiver
from agentwrap_viewer.page.server import PageServer, serve
from agentwrap_viewer.page.store import Store

#: Milliseconds that anything may take on a busy machine.
PATIENCE = 60_000


class Viewer:
    """A page server on an event loop of its own, in a thread."""

    def __init__(
        self,
        endpoint: str | None,
        explainer: FakeExplainer | None,
        port: int = 0,
        *,
        make_store: Callable[[], Store] = Store,
        records_to: Path | None = None,
    ) -> None:
        self._ready = threading.Event()
        self._endpoint, self._explainer, self._port = endpoint, explainer, port
        self._make_store, self._records_to = make_store, records_to
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        assert self._ready.wait(60), "the page server did not start"

    async def _run(self) -> None:
        self.loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.store = self._make_store()
        keeper = StreamKeeper(self._records_to, changed=self.store.notify) if self._records_to is not None else None
        self.receiver = Receiver(self.store, self._endpoint, keeper=keeper)
        self.server: PageServer = serve(self.receiver, port=self._port)
        receiving = asyncio.create_task(self.receiver.run())
        if self._explainer is not None:
            self.receiver.explain_with(self._explainer.endpoint, self._explainer.control)
        self._ready.set()
        await self._stop.wait()
        self.server.stop()
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
        if self.receiver.keeper is not None:
            await self.receiver.keeper.close()
        self.store.close()

    def do(self, function: Callable[[], Any]) -> Any:
        """Call a function on the server's event loop and return its result."""

        async def call() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(60)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)


class World:
    """Agent, explainer and viewer of one test.

    Args:
        agent: Where it says something else of itself than others: the viewer asks at once, and asks once.
        explainer: Likewise.
        viewer: What ``Viewer`` takes.
    """

    def __init__(
        self, *, agent: FakeAgent | None = None, explainer: FakeExplainer | None = None, **viewer: Any
    ) -> None:
        self.agent = agent or FakeAgent()
        self.explainer = explainer or FakeExplainer()
        self.agent.on_step = self.explainer.explain
        self.viewer = Viewer(self.agent.endpoint, self.explainer, **viewer)

    @property
    def address(self) -> str:
        return self.viewer.server.address

    def close(self) -> None:
        self.agent.on_step = None
        self.agent.pause()
        self.agent.close()
        self.explainer.close()
        self.viewer.close()


class Tab:
    """A tab on the page, with what tests look at."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.hosts: set[str] = set()
        self.errors: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: self.hosts.add(request.url.split("/")[2] if "//" in request.url else ""))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)

    def open(self, address: str, *, shown: bool = True) -> Tab:
        """Go to a page; by default until it is shown: what is hidden has no text and takes no focus."""
        self.page.goto(address, wait_until="commit", timeout=60_000)
        if shown:
            self.find("html[data-aw-shown]").wait_for(state="attached")
        return self

    def find(self, selector: str) -> Locator:
        return self.page.locator(selector)

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def slider(self, name: str) -> Locator:
        return self.page.get_by_role("slider", name=name, exact=True)

    def switch(self, name: str) -> Locator:
        return self.page.get_by_role("switch", name=name, exact=True)

    def select(self, name: str) -> Locator:
        """A select itself: its list, which fades in and out, bears the same label."""
        return self.page.get_by_role("combobox", name=name, exact=True)

    def choose(self, name: str, option: str) -> None:
        """Choose of a sidebar's select with the mouse, and wait until its list has faded out."""
        self.select(name).click()
        self.page.get_by_role("menuitem", name=option, exact=True).click()
        self.page.get_by_role("listbox").wait_for(state="detached")

    def canvas(self, name: str) -> dict[str, Any]:
        """Width, height and the RGBA values of the stage's canvas ``frame`` or ``heat``."""
        return self.find(f".stage canvas.{name}").evaluate(
            "c => ({width: c.width, height: c.height, "
            "data: Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)})"
        )

    def picture(self) -> np.ndarray:
        """What the stage's canvas ``frame`` shows, uint8 (height, width, RGB)."""
        canvas = self.canvas("frame")
        return np.array(canvas["data"], np.uint8).reshape(canvas["height"], canvas["width"], 4)[..., :3]

    def alpha(self) -> int:
        """The heat's largest opacity, 0…255."""
        return self.find(".stage canvas.heat").evaluate(
            "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data"
            ".reduce((most, value, index) => index % 4 === 3 ? Math.max(most, value) : most, 0)"
        )

    def step(self) -> int:
        """The step shown."""
        text = self.find(".headline .step dd").inner_text().replace(",", "")
        return int(text) if text.isdigit() else -1

    def press(self, key: str) -> None:
        """Press a key of the transport bar, once the bar is there to listen."""
        self.find(".transport[data-mode]").wait_for(state="attached")
        self.page.keyboard.press(key)

    def swipe(self, x: float, y: float, by: float) -> None:
        """Put a finger on the screen and move it up (negative) or down, in CSS pixels."""
        session = self.page.context.new_cdp_session(self.page)
        for part in range(11):
            point = {"x": x, "y": y + by * part / 10}
            kind = "touchMove" if part else "touchStart"
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    def until(self, condition: Callable[[], Any], what: str = "the condition") -> Any:
        """Poll until a condition holds; return what it returned.

        An error of Playwright's counts as "not yet": while a part of the page is replaced, there may be two of it.
        """
        deadline, refused = time.monotonic() + PATIENCE / 1000, ""
        while time.monotonic() < deadline:
            try:
                if value := condition():
                    return value
                refused = ""
            except Error as error:
                refused = f"; the condition itself failed: {error.message}"
            self.page.wait_for_timeout(30)
        raise AssertionError(f"waited in vain for {what}{refused}; errors on the page: {self.errors}")


class Served:
    """A command that serves a page, in a process of its own."""

    def __init__(self, name: str, *arguments: object) -> None:
        command = [sys.executable, "-m", "agentwrap_viewer", name, "--no-browser", "--port", "0", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert found, line + self.process.stderr.read()
        self.address = found[0]

    def close(self) -> None:
        """End it as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        _, errors = self.process.communicate(timeout=60)
        assert (self.process.returncode, errors) == (0, ""), (self.process.returncode, errors)
