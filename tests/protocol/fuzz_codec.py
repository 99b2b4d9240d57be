"""Throws changed golden vectors and random bytes at the decoder: ``python tests/protocol/fuzz_codec.py --help``.

Whatever comes in, the decoder gives a message or raises a ``ProtocolError``. Prints one JSON line: how many inputs
there were, what came of them by class, and the most memory that decoding one of them took, by ``tracemalloc``.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgpack

from agentwrap_protocol import KINDS, Limits, Message, ProtocolError, decode

VECTORS = Path(__file__).parents[2] / "protocol" / "vectors"

#: Low enough that inputs of this size reach them.
LIMITS = Limits(header=65_536, arrays=32, array=65_536, total=131_072)

#: Bytes that mean something in MessagePack: ends of its ranges, every type with a length, and declared lengths.
INTERESTING = [
    *(bytes([byte]) for byte in (0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, *range(0xC0, 0xE0), 0xFF)),
    *(bytes([code]) + b"\xff" * 4 for code in (0xC6, 0xC9, 0xCE, 0xD2, 0xDB, 0xDD, 0xDF)),
    b"\xcb\x7f\xf8" + bytes(6), b"\xcb\x7f\xf0" + bytes(6), b"\xcf" + b"\xff" * 8, b"\xd3\x80" + bytes(7),
    b"\xa2\xff\xfe", b"\xd6\xff" + bytes(4), b"\x91" * 200, b"\x81\xa1a" * 100,
    *(b"\xa3" + dtype for dtype in (b"|b1", b"<f8", b">f4", b"|O8", b"|V0")),
    *(bytes([0xA0 + len(key)]) + key for key in (b"version", b"arrays", b"stream", b"t", b"type", b"list", b"graph")),
]  # fmt: skip

#: Values and names to put into a header.
VALUES = [
    None, True, False, 0, 1, -1, 2, 15, 16, 17, 255, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, -(2**63),
    0.0, 0.5, 1.0, -1.0, 1e308, math.nan, math.inf, -math.inf, "", "a", "\n", "\x00", "0" * 32, "F" * 32, "x" * 300,
    b"", b"\x00" * 8, [], [0], [1, 0], [2, 0], [1, 9], [0] * 17, [2**62, 2**62], [-1], {}, {"t": "ref", "name": "x"},
    {"t": "list", "items": [None]}, {"type": "discrete", "n": 2}, {"type": "tuple", "spaces": []}, ["|u1", [0], 0],
    ["<f8", [1], 1], ["<f4", [2, 3], 0], "<f4", "|u1", "|b1", "hello", "weights",
    msgpack.ExtType(5, b"x"), msgpack.Timestamp(1),
]  # fmt: skip
NAMES = ["a", "", "version", "arrays", "stream", "seq", "time", "t", "type", "name", "graph", "policy", "spaces", 1]

Frames = list[bytes]


def load() -> list[Frames]:
    """Return the frames of every golden vector; the valid ones thrice, for most changes make them invalid."""
    valid = [*VECTORS.glob("messages/*.hex"), *VECTORS.glob("accepted/*.hex")]
    invalid = [path for path in VECTORS.glob("invalid/*.hex") if path.stat().st_size < 8192]
    files = sorted(valid * 3 + invalid)
    return [[bytes.fromhex(line) for line in path.read_text().split("\n")[:-1]] for path in files]


def _flip(rng: random.Random, data: bytearray, _: bytes) -> None:
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set(rng: random.Random, data: bytearray, _: bytes) -> None:
    data[rng.randrange(len(data))] = rng.randrange(256)


def _overwrite(rng: random.Random, data: bytearray, _: bytes) -> None:
    piece = rng.choice(INTERESTING)
    start = rng.randrange(len(data))
    data[start : start + len(piece)] = piece


def _insert(rng: random.Random, data: bytearray, _: bytes) -> None:
    start = rng.randrange(len(data) + 1)
    data[start:start] = rng.choice(INTERESTING)


def _remove(rng: random.Random, data: bytearray, _: bytes) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.randint(1, 16)]


def _truncate(rng: random.Random, data: bytearray, _: bytes) -> None:
    del data[rng.randrange(len(data)) :]


def _repeat(rng: random.Random, data: bytearray, _: bytes) -> None:
    start, stop = sorted((rng.randrange(len(data)), rng.randrange(len(data))))
    data[start:start] = data[start:stop] * rng.randint(1, 8)


def _splice(rng: random.Random, data: bytearray, other: bytes) -> None:
    start, length = rng.randrange(len(other) + 1), rng.randint(1, 32)
    at = rng.randrange(len(data) + 1)
    data[at : at + rng.choice((0, length))] = other[start : start + length]


CHANGES = (_flip, _flip, _set, _overwrite, _insert, _remove, _truncate, _repeat, _splice)


def _changed_bytes(rng: random.Random, seeds: list[Frames]) -> Frames:
    """A vector with a frame whose bytes were changed: the header mostly."""
    frames = list(rng.choice(seeds))
    index = 1 if len(frames) > 1 and rng.random() < 0.85 else rng.randrange(len(frames))
    data = bytearray(frames[index])
    donor = rng.choice(seeds)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if data:
            rng.choice(CHANGES)(rng, data, donor[-1])
    frames[index] = bytes(data)
    return frames


def _changed_frames(rng: random.Random, seeds: list[Frames]) -> Frames:
    """A vector with frames exchanged, lost, repeated, emptied or borrowed."""
    frames, donor = list(rng.choice(seeds)), rng.choice(seeds)
    match rng.randrange(6):
        case 0:
            rng.shuffle(frames)
        case 1:
            del frames[rng.randrange(len(frames))]
        case 2:
            frames *= rng.choice((2, 20))
        case 3:
            frames[rng.randrange(len(frames))] = b""
        case 4:
            frames[0] = rng.choice(list(KINDS)).encode()
        case 5:
            frames[1:2] = [rng.choice(donor)]
    return frames


def _changed_fields(rng: random.Random, seeds: list[Frames]) -> Frames:
    """A vector whose header is MessagePack still, with a value exchanged, lost or added somewhere in it."""
    frames = list(rng.choice(seeds))
    try:
        header = msgpack.unpackb(frames[1], strict_map_key=False)
    except (IndexError, ValueError, msgpack.UnpackException):  # one of the invalid vectors
        return _changed_bytes(rng, seeds)
    for _ in range(rng.choice((1, 1, 2))):
        _change_value(rng, header)
    frames[1] = msgpack.packb(header)
    return frames


def _change_value(rng: random.Random, node: object) -> None:
    """Walk to a random place and change what is there."""
    while isinstance(node, dict | list) and node:
        key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
        if isinstance(node[key], dict | list) and node[key] and rng.random() < 0.8:
            node = node[key]
            continue
        value = copy.deepcopy(rng.choice(VALUES))
        match rng.randrange(6):
            case 0:
                del node[key]
            case 1 if isinstance(node, dict):
                node[rng.choice(NAMES)] = value
            case 2 if isinstance(node, list):
                node.insert(key, value)
            case _:
                node[key] = value
        return


def _random_bytes(rng: random.Random, seeds: list[Frames]) -> Frames:
    """A known kind and a header of random bytes, or of random interesting pieces."""
    if rng.random() < 0.5:
        header = rng.randbytes(rng.randrange(64))
    else:
        header = b"".join(rng.choices(INTERESTING, k=rng.randrange(16)))
    return [rng.choice(list(KINDS)).encode(), header, *(rng.randbytes(8) for _ in range(rng.randrange(3)))]


def inputs(count: int, seed: int) -> Iterator[Frames]:
    """Yield ``count`` inputs, the same for the same seed."""
    rng, seeds = random.Random(seed), load()
    ways = (_changed_bytes,) * 5 + (_changed_fields,) * 4 + (_changed_frames, _random_bytes)
    for _ in range(count):
        yield rng.choice(ways)(rng, seeds)


def outcome(frames: Frames) -> str:
    """Decode and return the class of what came of it. Anything but a message or a ``ProtocolError`` is raised."""
    try:
        message = decode(frames, LIMITS)
    except ProtocolError as error:
        if not 0 < len(str(error)) < 2_000:
            raise AssertionError(f"an error text of {len(str(error))} characters") from error
        return type(error).__name__
    if not isinstance(message, Message):
        raise AssertionError(f"decoded to {message!r}")
    return "Message"


def run(count: int, seed: int) -> dict[str, object]:
    """Decode ``count`` inputs and return the summary.

    Raises:
        AssertionError: Something else than a message or a ``ProtocolError`` came of one; the text holds its frames.
    """
    outcomes: Counter[str] = Counter()
    peak = 0
    started = time.perf_counter()
    tracemalloc.start()
    try:
        for frames in inputs(count, seed):
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            try:
                outcomes[outcome(frames)] += 1
            except Exception as error:
                shown = [frame.hex() for frame in frames]
                raise AssertionError(f"seed {seed}, input {outcomes.total()}: {error!r} from {shown}") from error
            peak = max(peak, tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    return {
        "inputs": outcomes.total(),
        "seed": seed,
        "outcomes": dict(sorted(outcomes.items())),
        "peak_bytes": peak,
        "seconds": round(time.perf_counter() - started, 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--inputs", type=int, default=200_000, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="what to begin from (default: %(default)s)")
    arguments = parser.parse_args()
    print(json.dumps(run(arguments.inputs, arguments.seed)))
