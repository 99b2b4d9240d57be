"""A packed message is its frames and nothing else, whatever they are; anything else is refused and said."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentwrap_protocol import KINDS, LimitError, ProtocolError, decode, encode
from agentwrap_protocol.packing import ALIGNMENT, pack, unpack

from .strategies import by_kind, content, examples

frames = st.lists(st.binary(max_size=40), max_size=6)


def packed(frames):
    return b"".join(pack(frames))


@given(frames)
@examples(200)
def test_frames_come_back_as_they_were_and_lie_aligned(frames):
    payload = packed(frames)
    back = unpack(payload)
    assert [bytes(frame) for frame in back] == frames
    for frame in back:  # a view of the payload, at a multiple of 8
        if len(frame):
            assert payload.find(bytes(frame)) >= 0 and frame.obj is payload
    assert len(payload) >= ALIGNMENT * (1 + len(frames)) + sum(map(len, frames))


@pytest.mark.parametrize("kind", KINDS)
def test_messages_of_every_kind_come_back(kind):
    @given(by_kind[kind])
    @examples(20)
    def check(message):
        assert content(decode(unpack(packed(encode(message))))) == content(message)

    check()


def test_frames_begin_at_multiples_of_eight():
    payload = packed([b"abc", b"", b"defghijk", b"l"])
    head = 8 * 5
    assert payload[head:] == b"abc" + bytes(5) + b"defghijk" + b"l"


@given(st.binary(max_size=120))
@examples(300)
def test_any_bytes_are_either_a_packed_message_or_refused(payload):
    try:
        back = unpack(payload)
    except ProtocolError:
        return
    assert packed(back) == payload  # there is one packed form of the same frames


@given(frames, st.data())
@examples(100)
def test_what_is_cut_or_continued_is_refused(frames, data):
    payload = packed(frames)
    cut = data.draw(st.integers(0, len(payload) - 1))
    with pytest.raises(ProtocolError):
        unpack(payload[:cut])
    with pytest.raises(ProtocolError, match="too many"):
        unpack(payload + b"\0")


@pytest.mark.parametrize(
    ("payload", "error", "says"),
    [
        (b"", ProtocolError, "at least 8 bytes"),
        (struct.pack("<Q", 2**63), LimitError, "at most 4098"),
        (struct.pack("<Q", 3), ProtocolError, "at least 32 bytes"),
        (struct.pack("<2Q", 1, 2**64 - 1), ProtocolError, "frame 0 .* beyond its end"),
        (struct.pack("<3Q", 2, 1, 1) + b"a" + bytes(6) + b"x" + b"b", ProtocolError, "gap before frame 1"),
    ],
)
def test_what_is_wrong_is_said(payload, error, says):
    with pytest.raises(error, match=says):
        unpack(payload)
