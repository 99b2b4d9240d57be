"""Recordings for tests: made by the recorder, read by the reference implementation of MCAP."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from fakes import hello, step
from mcap.stream_reader import StreamReader

from agentwrap.recorder import Recorder
from agentwrap_protocol import decode
from agentwrap_protocol.messages import Message, Step
from agentwrap_protocol.packing import unpack


def messages_in(path: Path) -> list[Message]:
    """All messages of a recording, also of a torn one, as the reference implementation finds them."""
    topics, found = {}, []
    with contextlib.suppress(Exception):  # it raises where the file is cut
        for record in StreamReader(io.BytesIO(path.read_bytes()), validate_crcs=True).records:
            if type(record).__name__ == "Channel":
                topics[record.id] = record.topic
            if type(record).__name__ == "Message" and topics[record.channel_id] != "index":
                found.append(decode(unpack(record.data)))
    return found


def steps_in(path: Path) -> list[Step]:
    return [message for message in messages_in(path) if isinstance(message, Step)]


def begun(path: Path, **options: Any) -> Recorder:
    made = Recorder(path, **options)
    made.begin(hello(), record_every="1")
    return made


def large(number: int) -> Step:
    noise = np.random.default_rng(number).integers(0, 256, 2**20).astype(np.uint8)
    return step(number, arrays={"observation": noise})
