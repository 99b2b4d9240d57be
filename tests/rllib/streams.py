"""What an env runner streams, as it is received."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import zmq

from agentwrap_protocol import decode
from agentwrap_protocol.messages import Hello, PolicyGraph, Step, Weights

KINDS = (Hello, Step, PolicyGraph, Weights)


@contextmanager
def listening(endpoint: str) -> Iterator[Any]:
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.connect(endpoint)
        for kind in KINDS:
            socket.subscribe(kind.kind)
        yield socket


def arrived(socket: Any) -> Iterator[Any]:
    """What has come; of steps those with outputs."""
    while socket.poll(10):
        message = decode(socket.recv_multipart())
        if not isinstance(message, Step) or any(name.startswith("output/") for name in message.arrays):
            yield message


def received(endpoint: str, meanwhile: Any) -> dict[type, Any]:
    """Return one message of each kind that is wanted; of steps one with outputs."""
    found: dict[type, Any] = {}
    deadline = time.monotonic() + 180
    with listening(endpoint) as socket:
        while not set(KINDS) <= found.keys():
            assert time.monotonic() < deadline, f"of what was to come there is only {list(found)}"
            meanwhile()
            found.update((type(message), message) for message in arrived(socket))
    return found
