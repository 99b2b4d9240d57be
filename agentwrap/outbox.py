"""What waits to be sent, within bounds, in order."""

from __future__ import annotations

import threading
from collections import deque

from agentwrap_protocol.messages import Hello, Message, PolicyGraph, Weights

#: Kinds of which only the newest matters: one that waits is replaced.
_NEWEST_WINS = (Hello, PolicyGraph, Weights)


class Outbox:
    """A queue between the agent's thread and the one that sends. Putting never blocks for long and never fails.

    Where a bound is reached, the oldest message of the same sort is dropped: steps are dropped against steps, and
    messages that are meant to arrive (ends of episodes, …) only against such.

    Args:
        steps: Most steps that wait.
        reliable: Most other messages that wait.
    """

    def __init__(self, steps: int = 8, reliable: int = 1024) -> None:
        self.dropped_steps = 0  #: Steps dropped so far.
        self._bounds = {False: steps, True: reliable}
        self._waiting = {False: 0, True: 0}
        self._messages: deque[Message] = deque()
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._messages)

    def put(self, message: Message) -> None:
        """Append a message."""
        reliable = message.reliable
        with self._lock:
            if isinstance(message, _NEWEST_WINS):
                self._drop_oldest(type(message))
            if self._waiting[reliable] >= self._bounds[reliable]:
                self._drop_oldest_of_sort(reliable)
            self._messages.append(message)
            self._waiting[reliable] += 1

    def take(self) -> Message | None:
        """Remove and return the oldest message, None where there is none."""
        with self._lock:
            if not self._messages:
                return None
            message = self._messages.popleft()
            self._waiting[message.reliable] -= 1
            return message

    def _drop_oldest(self, kind: type[Message]) -> None:
        for index, message in enumerate(self._messages):
            if type(message) is kind:
                self._remove(index)
                return

    def _drop_oldest_of_sort(self, reliable: bool) -> None:
        for index, message in enumerate(self._messages):
            if message.reliable is reliable:
                self._remove(index)
                self.dropped_steps += not reliable
                return

    def _remove(self, index: int) -> None:
        self._waiting[self._messages[index].reliable] -= 1
        del self._messages[index]
