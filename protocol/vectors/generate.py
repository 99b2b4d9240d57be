"""Writes the golden vectors: ``python protocol/vectors/generate.py``. What they are is said in README.md beside it.

The bytes are a promise to other implementations: a change in a file that exists is a change of the protocol.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import numpy as np
from foreign import accepted, invalid
from own import messages

from agentwrap_protocol import VERSION, encode
from agentwrap_protocol.packing import pack

FOLDER = Path(__file__).parent

#: Messages whose packed form, as in recordings, is written too: frames of every length modulo 8.
PACKED = ("step", "step_bare", "hello")


def spell(value: Any) -> Any:
    """Turn a value into what JSON has: tuples to arrays, floats that JSON lacks to ``{"$float": "inf"}``."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if isinstance(value, dict):
        return {key: spell(item) for key, item in value.items()}
    return [spell(item) for item in value] if isinstance(value, list | tuple) else value


def _readable(description: str, kind: str, header: dict[str, Any], arrays: dict[str, Any]) -> str:
    whole = {"description": description, "kind": kind, "header": spell(header), "arrays": arrays}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _spelled_out(array: np.ndarray[Any, Any], index: int) -> dict[str, Any]:
    elements = spell(array.reshape(-1).tolist())
    return {"dtype": array.dtype.str, "shape": list(array.shape), "index": index, "elements": elements}


def _hex(frames: list[Any]) -> str:
    return "".join(bytes(frame).hex() + "\n" for frame in frames)


def files() -> Iterator[tuple[str, str]]:
    """Yield path below this folder and content of every file."""
    for name, (description, message) in messages().items():
        fields = msgspec.to_builtins({**msgspec.structs.asdict(message), "arrays": {}})
        header = {"version": list(VERSION), **{key: value for key, value in fields.items() if key != "arrays"}}
        arrays = {key: _spelled_out(array, index) for index, (key, array) in enumerate(message.arrays.items())}
        yield f"messages/{name}.json", _readable(description, message.kind, header, arrays)
        yield f"messages/{name}.hex", _hex(encode(message))
        if name in PACKED:
            yield f"packed/{name}.hex", _hex([b"".join(pack(encode(message)))])
    for name, (description, kind, header, buffers) in accepted().items():
        arrays = {
            key: _spelled_out(np.frombuffer(buffers[index], dtype).reshape(shape), index)
            for key, (dtype, shape, index) in header.get("arrays", {}).items()
        }
        fields = {key: value for key, value in header.items() if key != "arrays"}
        yield f"accepted/{name}.json", _readable(description, kind, fields, arrays)
        yield f"accepted/{name}.hex", _hex([kind.encode(), msgpack.packb(header), *buffers])
    for name, (description, error, says, frames) in invalid().items():
        whole = {"description": description, "error": error, "says": says}
        yield f"invalid/{name}.json", json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
        yield f"invalid/{name}.hex", _hex(frames)


if __name__ == "__main__":
    for path, content in files():
        (FOLDER / path).parent.mkdir(exist_ok=True)
        (FOLDER / path).write_text(content, encoding="utf-8")
