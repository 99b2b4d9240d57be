"""What a tab receives: one JSON header, then the arrays' bytes.

Layout: the header's length as little-endian uint32, the header as UTF-8 JSON, then the buffers without padding. In the
header an array is ``{"dtype", "shape", "offset", "bytes", "deflated"}``, its offset counted from the end of the header.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Arrays smaller than this travel as they are: they change with each message, and deflating them saves little.
DEFLATE_FROM = 12_288


class EncodedCache:
    """Arrays already deflated, for all tabs: the newest are kept, up to ``max_bytes``."""

    def __init__(self, max_bytes: int = 32 * 2**20) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._encoded: OrderedDict[Hashable, bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._encoded)

    def encode(self, array: NDArray[Any], key: Hashable) -> bytes:
        """Return the array's bytes, deflated at level 1; computed once for each key. A key of None is not kept."""
        known = self._encoded.get(key) if key is not None else None
        if known is not None:
            self._encoded.move_to_end(key)
            return known
        encoded = zlib.compress(np.ascontiguousarray(array).data, 1)
        if key is not None:
            self._encoded[key] = encoded
            self.bytes += len(encoded)
            while len(self._encoded) > 1 and self.bytes > self.max_bytes:
                self.bytes -= len(self._encoded.popitem(last=False)[1])
        return encoded


class Packet:
    """One message to a tab, under construction.

    Args:
        cache: Arrays already deflated.
        deflate: Whether arrays that are not small are deflated.
    """

    def __init__(self, cache: EncodedCache, *, deflate: bool = True) -> None:
        self._cache, self._deflate = cache, deflate
        self._buffers: list[bytes] = []
        self._offset = 0

    def array(self, array: NDArray[Any], key: Hashable = None) -> dict[str, Any]:
        """Add an array; return what describes it in the header. ``key`` names its content in the cache."""
        array = np.asarray(array)
        array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(array.shape)
        deflated = self._deflate and array.nbytes >= DEFLATE_FROM
        buffer = self._cache.encode(array, key) if deflated else array.tobytes()
        described = {
            "dtype": array.dtype.str,
            "shape": list(array.shape),
            "offset": self._offset,
            "bytes": len(buffer),
            "deflated": deflated,
        }
        self._buffers.append(buffer)
        self._offset += len(buffer)
        return described

    def finish(self, header: dict[str, Any]) -> bytes:
        """Return the message's bytes. Numbers that JSON has no words for become null."""
        text = json.dumps(finite(header), separators=(",", ":"), allow_nan=False).encode()
        return b"".join((struct.pack("<I", len(text)), text, *self._buffers))


def finite(value: Any) -> Any:
    """Return plain data with every NaN and infinity replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
