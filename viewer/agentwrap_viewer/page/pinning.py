"""Asks for the maps of the pinned step, version by version, while one is pinned."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agentwrap_protocol.messages import Step

from .store import Store

#: Seconds between two looks at what is to be asked for.
LOOK = 0.1


class Pinning:
    """Pins steps of a store, and asks for a map by each version of the policy; nothing runs while none is pinned.

    Args:
        store: Has the pin.
        explain: Asks for the map of a step by a version, to the end.
    """

    def __init__(self, store: Store, explain: Callable[[Step, int], None]) -> None:
        self._store, self._explain = store, explain
        self._task: asyncio.Task[None] | None = None

    def pin(self, step: Step | None) -> None:
        """Pin a step, or none any more."""
        if step is None:
            self._store.pin = None
        else:
            self._store.make_pin(step)
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._run(), name="pinned step")
        self._store.notify()

    async def _run(self) -> None:
        while self._store.pin is not None:
            self.look()
            await asyncio.sleep(LOOK)

    def look(self) -> None:
        """Ask for the next map if it is time."""
        pin, explainer = self._store.pin, self._store.explainer
        if pin is None or explainer is None or explainer.state != "ready" or not self._store.explainer_alive:
            return
        version = pin.next(explainer.policy_version)
        if version is not None:
            pin.asked(version)
            self._explain(pin.step, version)

    def close(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()
