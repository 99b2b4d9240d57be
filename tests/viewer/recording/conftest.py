"""Recordings to read: one of a real agent with its policy, one with pictures and many chunks."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import EPISODE, hello, step
from recordings import record_cartpole

from agentwrap_protocol.mcap_encoder import McapEncoder, describe
from agentwrap_protocol.messages import EpisodeEnd, Message

#: Steps of the recording with pictures.
STEPS = 1500


@pytest.fixture(scope="session")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hundred steps of an agent that learns: its critic's bias grows by 1 every 50 steps."""
    return record_cartpole(tmp_path_factory.mktemp("recordings") / "cartpole.mcap")


def messages(steps: int = STEPS) -> list[Message]:
    """A stream with pictures and episodes of a hundred steps."""
    found: list[Message] = [hello()]
    for number in range(steps):
        found.append(step(number))
        if number % EPISODE == EPISODE - 1:
            found.append(
                EpisodeEnd(
                    stream="0" * 32,
                    episode=number // EPISODE,
                    step=number,
                    length=EPISODE,
                    episode_return=9.0,
                    seconds=1.5,
                    reason="terminated",
                )
            )
    return found


def encoded(stream: list[Message], *, end: bool = True) -> bytes:
    """The bytes of a recording of these messages, in chunks of about three steps."""
    encoder = McapEncoder(library="test", chunk_bytes=400_000)
    parts = [encoder.begin(describe(hello()))] + [encoder.add(message) for message in stream]
    parts.append(encoder.finish({"steps": "0", "dropped": "0"}) if end else encoder.flush())
    return b"".join(parts)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of fifteen hundred steps with pictures, in some five hundred chunks and two indexes."""
    path = tmp_path_factory.mktemp("recordings") / "pictures.mcap"
    path.write_bytes(encoded(messages()))
    return path
