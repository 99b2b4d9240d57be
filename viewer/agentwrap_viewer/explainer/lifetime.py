"""When the process ends: at SIGTERM or SIGINT, and when its standard input closes.

A parent keeps the other end of that pipe, which closes even if the parent is killed: no explainer outlives who started
it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

#: Seconds that a long computation may still take after the standard input has closed.
GRACE = 2.0


class Lifetime:
    """Says whether the process should end.

    Attributes:
        over: True once it should.
    """

    def __init__(self) -> None:
        """Listen to signals (from the main thread) and to the standard input."""
        self.over = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        threading.Thread(target=self._watch_input, name="agentwrap-parent", daemon=True).start()

    def _end(self, *_: object) -> None:
        self.over = True

    def _watch_input(self) -> None:
        if sys.stdin is not None and sys.stdin.isatty():
            return  # a person started it, and has Ctrl-C
        try:
            # not sys.stdin.read: a thread inside it holds a lock that the interpreter wants when it ends
            while os.read(0, 4096):
                pass
        except OSError:  # there is no standard input
            pass
        self.over = True
        threading.Event().wait(GRACE)
        os._exit(0)


def wait_asleep() -> None:
    """Have PyTorch's threads sleep while they wait for one another, unless told otherwise; before it is imported.

    Threads that spin instead, while others need the cores too, were seen to compute a tenth of the maps.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def be_nice(niceness: int = 10) -> None:
    """Let the agent and the page go first, where the system knows such a thing; by 19 at most."""
    if sys.platform != "win32":
        os.nice(niceness)
