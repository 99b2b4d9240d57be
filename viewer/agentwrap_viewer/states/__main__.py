"""``python -m agentwrap_viewer.states [--recording PATH]``: the process of the state map, a child of the page's.

It reads pieces (``wire.py``) from its standard input and writes others to its standard output; it ends with its input.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from agentwrap_viewer.explainer.lifetime import be_nice
from agentwrap_viewer.recording import Recording, open_recording

from .service import Service
from .wire import HEADER, MAX_BYTES, Kind, piece


def main() -> None:
    """Serve the map until the standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m agentwrap_viewer.states", description=__doc__)
    parser.add_argument("--recording", type=Path, help="show the steps of this recording")
    arguments = parser.parse_args()
    be_nice()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the page's process ends this one
    with contextlib.ExitStack() as opened:
        path = arguments.recording
        recording = opened.enter_context(open_recording(path)) if path is not None else None
        asyncio.run(serve(recording))


async def serve(recording: Recording | None) -> None:
    """Take pieces in and work on them until the input ends."""
    incoming = asyncio.StreamReader(limit=2**20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(incoming), sys.stdin)
    output = sys.stdout.buffer

    def send(tab: int, body: bytes) -> None:
        output.write(piece(Kind.DATA, tab, body))
        output.flush()

    service = Service(send, recording)
    working = asyncio.create_task(service.run())
    try:
        while not working.done():
            size, kind, tab = HEADER.unpack(await incoming.readexactly(HEADER.size))
            if size > MAX_BYTES:
                raise ValueError(f"a piece of {size} bytes")
            service.take(Kind(kind), tab, await incoming.readexactly(size))
    except (asyncio.IncompleteReadError, BrokenPipeError):
        pass  # the page has ended
    finally:
        service.end()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


if __name__ == "__main__":
    main()
