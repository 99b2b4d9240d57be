"""Frames that other implementations may send: some to be accepted, some to be refused."""

from __future__ import annotations

import math
from typing import Any

import msgpack

STREAM = "0123456789abcdef0123456789abcdef"
PROTOCOL, LIMIT = "ProtocolError", "LimitError"


def accepted() -> dict[str, tuple[str, str, dict[str, Any], list[bytes]]]:
    """Return name → (description, kind, header, buffers) as other implementations may send them."""
    step = {
        "stream": STREAM,
        "step": 1,
        "episode": 0,
        "episode_step": 1,
        "reward": 1,
        "episode_return": 2,
        "terminated": False,
        "truncated": False,
    }
    two = {"a": ["|u1", [2], 1], "b": ["<u2", [], 0]}
    return {
        "any_order": (
            "Fields in the order of the alphabet; arrays in another order than their buffers; integers for floats.",
            "step",
            dict(sorted({**step, "version": [1, 0], "arrays": two}.items())),
            [b"\x01\x02", b"\x03\x04"],
        ),
        "defaults_left_out": ("No field that has a default.", "heartbeat", {"version": [1, 0], "stream": STREAM}, []),
        "newer_minor": (
            "A newer minor version with a field, a nested field and an array that version 1.0 does not know.",
            "hello",
            {
                "version": [1, 7],
                "stream": STREAM,
                "name": "n",
                "env_id": "e",
                "observation_space": {"type": "discrete", "n": 2, "colour": "blue"},
                "action_space": {"n": 2, "type": "discrete"},
                "policy": {"type": "P", "licence": {"deep": [1, [2, {"er": None}]]}},
                "mood": [0.5, {"good": True}],
                "arrays": {"mood/history": ["<f8", [1], 0]},
            },
            [bytes(8)],
        ),
    }


def invalid() -> dict[str, tuple[str, str, str, list[bytes]]]:
    """Return name → (description, error, a part of its text, frames)."""
    ok = {"version": [1, 0], "stream": STREAM}

    def frames(kind: bytes, header: dict[Any, Any], *buffers: bytes) -> list[bytes]:
        return [kind, msgpack.packb(header), *buffers]

    def array(*description: Any, buffer: bytes = b"") -> list[bytes]:
        return frames(b"ping", {**ok, "arrays": {"a": list(description)}}, buffer)

    def reply(request: Any) -> list[bytes]:
        return frames(b"reply", {**ok, "request": request})

    whole = msgpack.packb(ok)
    nested = whole[:1].replace(b"\x82", b"\x83") + whole[1:] + msgpack.packb("x") + b"\x91" * 10_000 + b"\xc0"
    return {
        "no_header": ("Only the kind.", PROTOCOL, "at least 2 frames", [b"ping"]),
        "unknown_kind": ("A kind that no version has.", PROTOCOL, "unknown kind", frames(b"pong", ok)),
        "kind_of_a_newer_minor": (
            "A kind that a newer minor version may have: to be skipped.",
            "UnknownKindError",
            "unknown to 1.0",
            frames(b"dream", {**ok, "version": [1, 1]}),
        ),
        "other_major": ("Another major version.", "VersionError", "2.0", frames(b"ping", {**ok, "version": [2, 0]})),
        "no_version": ("No version.", PROTOCOL, "version", frames(b"ping", {"stream": STREAM})),
        "version_is_text": (
            "A version that is no array.",
            PROTOCOL,
            "version",
            frames(b"ping", {**ok, "version": "1.0"}),
        ),
        "empty_header": ("A header without bytes.", PROTOCOL, "truncated", [b"ping", b""]),
        "truncated_header": ("A header that breaks off.", PROTOCOL, "truncated", [b"ping", whole[:-1]]),
        "trailing_bytes": ("A byte after the header.", PROTOCOL, "trailing", [b"ping", whole + b"\x00"]),
        "header_is_array": ("A header that is no map.", PROTOCOL, "array", [b"ping", b"\x90"]),
        "key_is_integer": ("A key that is no string.", PROTOCOL, "key", frames(b"ping", {**ok, 1: 2})),
        "map_bomb": ("A map that declares 2^32 - 1 entries.", PROTOCOL, "truncated", [b"ping", b"\xdf" + b"\xff" * 4]),
        "nested_bomb": ("Ten thousand arrays in each other.", PROTOCOL, "deep", [b"ping", nested]),
        "bad_utf8": (
            "A string that is not UTF-8.",
            PROTOCOL,
            "utf-8",
            [b"ping", whole.replace(b"0123", b"\xff\xfe23")],
        ),
        "stream_of_33": (
            "A stream's identity with a line feed after it.",
            PROTOCOL,
            "stream",
            frames(b"ping", {**ok, "stream": STREAM + "\n"}),
        ),
        "missing_field": ("A reply without its request.", PROTOCOL, "request", frames(b"reply", ok)),
        "wrong_type": ("A number as text.", PROTOCOL, "request", reply("3")),
        "float_for_integer": ("A float where an integer belongs.", PROTOCOL, "request", reply(3.0)),
        "negative_count": ("A count below zero.", PROTOCOL, "request", reply(-1)),
        "timestamp": (
            "A timestamp, which is an extension type.",
            PROTOCOL,
            "time",
            frames(b"ping", {**ok, "time": msgpack.Timestamp(1)}),
        ),
        "refined_is_nan": (
            "A share that is not a number.",
            PROTOCOL,
            "refined",
            frames(
                b"saliency_map",
                {
                    **ok,
                    "source": STREAM,
                    "step": 0,
                    "method": "m",
                    "targets": [],
                    "refined": math.nan,
                    "seconds": 0.0,
                    "forwards": 0,
                },
            ),
        ),
        "array_without_index": ("A description of two parts.", PROTOCOL, "arrays", array("|u1", [0])),
        "array_of_objects": ("An element type that does not travel.", PROTOCOL, "|O", array("|O", [0], 0)),
        "array_big_endian": ("Big-endian elements.", PROTOCOL, ">f4", array(">f4", [0], 0)),
        "array_bad_bool": (
            "A boolean that is 2.",
            PROTOCOL,
            "neither 0 nor 1",
            array("|b1", [2], 0, buffer=b"\x01\x02"),
        ),
        "array_negative_axis": ("An axis of length -1.", PROTOCOL, "arrays", array("|u1", [-1], 0)),
        "array_of_17_axes": ("An axis too many.", PROTOCOL, "length <= 16", array("|u1", [1] * 17, 0, buffer=b"\x00")),
        "array_shorter": (
            "A buffer that is too short.",
            PROTOCOL,
            "takes 8 bytes",
            array("<f4", [2], 0, buffer=bytes(7)),
        ),
        "array_longer": (
            "A buffer that is too long.",
            PROTOCOL,
            "takes 8 bytes",
            array("<f4", [2], 0, buffer=bytes(9)),
        ),
        "array_too_large": ("An array of 2 GiB, declared.", LIMIT, "at most 1073741824", array("|u1", [2**31], 0)),
        "array_overflow": (
            "A product of axes of 2^64, which is 0 in 64 bits.",
            LIMIT,
            "at most",
            array("|u1", [2**32, 2**32], 0),
        ),
        "array_empty_but_huge": ("An empty array with a huge axis.", LIMIT, "at most", array("|u1", [0, 2**62], 0)),
        "buffer_missing": (
            "An array without a buffer.",
            PROTOCOL,
            "0 buffers",
            frames(b"ping", {**ok, "arrays": {"a": ["|u1", [0], 0]}}),
        ),
        "buffer_surplus": ("A buffer without an array.", PROTOCOL, "names 0 arrays", frames(b"ping", ok, b"x")),
        "buffer_twice": (
            "Two arrays that share a buffer.",
            PROTOCOL,
            "no buffer 0",
            frames(b"ping", {**ok, "arrays": {"a": ["|u1", [1], 0], "b": ["|u1", [1], 0]}}, b"x", b"y"),
        ),
        "buffer_out_of_range": ("An index beyond the buffers.", PROTOCOL, "no buffer 1", array("|u1", [0], 1)),
    }
