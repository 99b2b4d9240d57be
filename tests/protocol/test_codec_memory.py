"""What a hostile message costs in memory: a small multiple of its own length, whatever lengths it declares."""

from __future__ import annotations

import tracemalloc

import msgpack
import pytest

from agentwrap_protocol import DEFAULT_LIMITS, LimitError, ProtocolError, decode

STREAM = "0" * 32
MIB = 2**20

#: Peak memory of a header per byte of it, at most: a list of small integers or of short strings is the worst there is.
FACTOR = 40


def peak_of(frames):
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            decode(frames)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def header_of(field, value, **fields):
    """A header whose field holds bytes that need not be MessagePack."""
    known = {"version": [1, 0], "stream": STREAM, **fields}
    return bytes([0x80 + len(known) + 1]) + msgpack.packb(known)[1:] + msgpack.packb(field) + value


DECLARED = {
    "array": b"\xdd\xff\xff\xff\xff",
    "map": b"\xdf\xff\xff\xff\xff",
    "text": b"\xdb\xff\xff\xff\xff",
    "binary": b"\xc6\xff\xff\xff\xff",
    "extension": b"\xc9\xff\xff\xff\xff\x05",
}


@pytest.mark.parametrize("field", ["version", "arrays", "graph", "unknown", "kinds"])
@pytest.mark.parametrize("declared", DECLARED)
@pytest.mark.parametrize("kind", [b"policy_graph", b"resend"])
def test_a_declared_length_reserves_nothing(field, declared, kind):
    assert peak_of([kind, header_of(field, DECLARED[declared])]) < MIB


def flood(item, count):
    return b"\xdd" + count.to_bytes(4, "big") + item * count


@pytest.mark.parametrize("field", ["version", "arrays", "graph", "unknown", "kinds"])
@pytest.mark.parametrize("item", [b"\x90", b"\x80", b"\xc0", b"\xa2ab", b"\xcd\x01\x01", b"\x93\x01\x90\x80"])
def test_a_flood_of_small_things_where_none_belong_is_not_stored(field, item):
    size = 2 * MIB
    frames = [
        b"resend",
        header_of(field, flood(item, size // len(item)), **({} if field == "kinds" else {"kinds": []})),
    ]
    if field in ("unknown", "graph"):  # skipped, so that the message is fine
        frames.append(b"one buffer too many")
    assert peak_of(frames) < MIB


def test_a_flood_of_array_descriptions_is_not_stored():
    count = 200_000
    described = b"".join(
        b"\xa4%s\x93\xa3|u1\x91\x00\x00" % i.to_bytes(4, "big").hex()[4:].encode() for i in range(2**16)
    )
    header = header_of("arrays", b"\xdf" + count.to_bytes(4, "big") + (described * 4)[: count * 12])
    assert peak_of([b"ping", header]) < MIB


def argument_flood(item):
    """A graph whose node holds as many small arguments as two mebibytes have room for: the cost is in proportion."""
    arguments = 50_000
    items = b"\x82\xa1t\xa4list\xa5items" + flood(item, arguments)
    count = 2 * MIB // len(items)
    node = b"\x83\xa4name\xa1n\xa2op\xa1o\xa4args" + b"\xdd" + count.to_bytes(4, "big") + items * count
    graph = b"\x82\xa5nodes\x91" + node + b"\xa6inputs\x90"  # no input: refused at the end
    return header_of("graph", graph)


@pytest.mark.parametrize(
    "item", [b"\x01", b"\xcd\x01\x01", b"\xa2ab", b"\xcb" + bytes(8), b"\x82\xa1t\xa4list\xa5items\x90"]
)
def test_a_flood_of_arguments_costs_a_small_multiple_of_its_length(item):
    header = argument_flood(item)
    assert len(header) > MIB
    assert peak_of([b"policy_graph", header]) < FACTOR * len(header)


@pytest.mark.parametrize("nest", [b"\x91", b"\x81\xa1a"])
@pytest.mark.parametrize("field", ["unknown", "version", "arrays"])
def test_deep_nesting_is_refused(nest, field):
    depth = 100_000
    assert peak_of([b"ping", header_of(field, nest * depth + b"\xc0")]) < MIB


def test_arguments_nested_in_each_other_are_refused():
    nested = b"\x82\xa1t\xa4list\xa5items\x91" * 100_000 + b"\xc0"
    node = b"\x83\xa4name\xa1n\xa2op\xa1o\xa4args\x91" + nested
    assert peak_of([b"policy_graph", header_of("graph", b"\x81\xa5nodes\x91" + node)]) < 50 * MIB


def test_spaces_nested_in_each_other_are_refused():
    nested = b"\x82\xa4type\xa5tuple\xa6spaces\x91" * 100_000 + b"\xc0"
    assert peak_of([b"hello", header_of("observation_space", nested)]) < 50 * MIB


def test_a_header_beyond_the_limit_is_not_read():
    frames = [b"ping", bytes(DEFAULT_LIMITS.header + 1)]
    with pytest.raises(LimitError, match=r"header of 8388609 bytes"):
        decode(frames)
    assert peak_of(frames) < MIB


def test_a_huge_array_is_not_reserved():
    frames = [b"ping", msgpack.packb({"version": [1, 0], "stream": STREAM, "arrays": {"a": ["<f8", [2**27], 0]}}), b""]
    assert peak_of(frames) < MIB
