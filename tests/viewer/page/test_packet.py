"""What a tab receives can be read back; arrays are encoded once for all tabs."""

from __future__ import annotations

import json
import zlib
from typing import Any

import numpy as np
import pytest

from agentwrap_viewer.page.packet import DEFLATE_FROM, EncodedCache, Packet


def read(message: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(message[:4], "little")
    return json.loads(message[4 : 4 + length]), message[4 + length :]


def array_of(described: dict[str, Any], body: bytes) -> np.ndarray:
    data = body[described["offset"] : described["offset"] + described["bytes"]]
    data = zlib.decompress(data) if described["deflated"] else data
    return np.frombuffer(data, described["dtype"]).reshape(described["shape"])


@pytest.mark.parametrize("dtype", ["u1", "f4", "f8", ">f4", "i4"])
@pytest.mark.parametrize("shape", [(), (3,), (0,), (200, 160, 3)])
def test_arrays_come_back(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    packet = Packet(EncodedCache())
    header, body = read(packet.finish({"one": packet.array(np.ones(5)), "two": packet.array(array)}))
    np.testing.assert_array_equal(array_of(header["one"], body), np.ones(5))
    np.testing.assert_array_equal(array_of(header["two"], body), array)
    assert header["two"]["deflated"] == (array.nbytes >= DEFLATE_FROM)


def test_an_array_that_is_not_contiguous_comes_back() -> None:
    array = np.arange(90_000, dtype=np.uint8).reshape(300, 300)[::2, ::-1]
    packet = Packet(EncodedCache())
    header, body = read(packet.finish({"array": packet.array(array)}))
    np.testing.assert_array_equal(array_of(header["array"], body), array)


def test_numbers_that_json_lacks_become_null() -> None:
    header, _ = read(Packet(EncodedCache()).finish({"a": float("nan"), "b": [float("inf"), 1.0], "c": {"d": -np.inf}}))
    assert header == {"a": None, "b": [None, 1.0], "c": {"d": None}}


def test_cache_encodes_once_and_is_bounded() -> None:
    cache = EncodedCache(max_bytes=100_000)
    noise = np.random.default_rng(0)
    first = noise.integers(0, 255, 30_000, dtype=np.uint8)
    encoded = cache.encode(first, "first")
    assert cache.encode(first, "first") is encoded
    for number in range(20):
        cache.encode(noise.integers(0, 255, 30_000, dtype=np.uint8), number)
    assert cache.bytes <= cache.max_bytes and len(cache) == 3
    assert cache.encode(first, "first") is not encoded
