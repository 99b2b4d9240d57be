"""The page's side of the state map's process: what tabs hear when that ends."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Callable
from typing import Any

import fakes
from children import running
from states import states

from agentwrap_viewer.page.store import Store
from agentwrap_viewer.states.link import StateLink
from agentwrap_viewer.states.wire import Choose


class Looker:
    """A tab: the sections that it was sent, by name, the newest of each."""

    def __init__(self) -> None:
        self.sections: dict[str, Any] = {}

    def __call__(self, data: bytes) -> None:
        (length,) = struct.unpack_from("<I", data)
        self.sections |= json.loads(data[4 : 4 + length])["sections"]

    def knows(self, **state: Any) -> bool:
        known = self.sections.get("map", {})
        return all(known.get(name) == value for name, value in state.items())


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


def test_a_process_that_is_killed_is_started_again_and_told_everything() -> None:
    async def run() -> None:
        store = Store()
        store.add(fakes.hello())
        for step in states(40):
            store.add(step)
        link, first, second = StateLink(store), Looker(), Looker()
        number = link.open(first)
        await until(lambda: first.knows(count=40))
        link.obey(number, Choose(method="pca"))
        await until(lambda: first.knows(wanted="pca"))
        first.sections.clear()
        (process,) = running("agentwrap_viewer.states")
        process.kill()
        await until(lambda: "process" in first.sections)
        other = link.open(second)
        for each in (first, second):
            assert "ended by signal 9" in each.sections["process"]["problem"]
        await until(lambda: all(each.knows(count=40, wanted="pca") for each in (first, second)))
        link.close(number)
        link.close(other)
        assert link._child is not None
        await link._child.stop()

    asyncio.run(run())
