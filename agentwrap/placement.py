"""Keeps a thread of the instrument off the processor on which the agent computes.

Linux wakes a thread where it ran last or where its waker runs, and does not move one that only works for moments. In
virtual machines, where idle processors look taken, a thread that has come to the agent's processor stays there and
interrupts the agent at each step that is sent, with other processors idle. Measured on two cores: what the agent waits
for at such a step sinks from 0.27 to 0.12 ms, and the slowest tenth of all steps arrives after 0.5 instead of 3 ms.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable

#: What the threads of ZeroMQ that write to the network are called.
_NETWORK = "ZMQbg/IO"


class Placement:
    """Says where a thread may run: anywhere the agent may, but for where the agent does.

    Where the system does not tell, or there is one processor, threads stay as they are.

    Args:
        thread: The thread's number in the system; None for none. Or what finds it, when it is first needed.
    """

    def __init__(self, thread: int | Callable[[], int | None] | None) -> None:
        self._thread = thread if _processor is not None else None
        self._agents: int | None = None  # the agent's processor, as far as it is known

    def keep_away(self) -> None:
        """Keep the thread off the processor that the caller is on; costs nearly nothing where that is the same."""
        if self._thread is None or _processor is None or (now := _processor()) == self._agents:
            return
        self._agents = now
        if callable(self._thread):
            self._thread = self._thread()
            if self._thread is None:
                return
        others = os.sched_getaffinity(0) - {now}
        if others:
            with contextlib.suppress(OSError):  # the thread has ended, or a sandbox forbids it
                os.sched_setaffinity(self._thread, others)


def threads() -> frozenset[int]:
    """Return the numbers of this process's threads, as the system counts them; empty where it does not tell."""
    try:
        return frozenset(map(int, os.listdir("/proc/self/task")))
    except OSError:
        return frozenset()


def network_thread(among: frozenset[int]) -> int | None:
    """Return which of these threads is ZeroMQ's; None where that cannot be told, or not yet: it names itself."""
    for thread in among:
        with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/comm") as name:
            if name.read().startswith(_NETWORK):
                return thread
    return None


def _find() -> Callable[[], int] | None:
    """Return what tells the processor that the calling thread is on; None where nothing does."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    try:
        found: Callable[[], int] = ctypes.CDLL(None).sched_getcpu
    except (OSError, AttributeError):
        return None
    return found if found() >= 0 else None


_processor = _find()
