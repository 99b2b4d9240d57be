"""The golden vectors are what the codec reads and writes, and what a reader that shares nothing with it reads."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path

import msgpack
import msgspec
import numpy as np
import pytest

import agentwrap_protocol
from agentwrap_protocol import KINDS, ProtocolError, decode, encode
from agentwrap_protocol import graph as g
from agentwrap_protocol.graph_check import check, check_constants, check_parameters
from agentwrap_protocol.operators import OPERATORS
from agentwrap_protocol.packing import pack, unpack

from .strategies import content

VECTORS = Path(__file__).parents[2] / "protocol" / "vectors"


def names(folder):
    return sorted(path.stem for path in (VECTORS / folder).glob("*.json"))


def frames_of(folder, name):
    return [bytes.fromhex(line) for line in (VECTORS / folder / f"{name}.hex").read_text().split("\n")[:-1]]


def meaning_of(folder, name):
    return json.loads((VECTORS / folder / f"{name}.json").read_text(encoding="utf-8"))


def from_spelling(value):
    if isinstance(value, dict):
        if value.keys() == {"$float"}:
            return float(value["$float"])
        return {key: from_spelling(item) for key, item in value.items()}
    return [from_spelling(item) for item in value] if isinstance(value, list) else value


def arrays_of(meaning):
    return {
        name: np.array(from_spelling(array["elements"]), array["dtype"]).reshape(array["shape"])
        for name, array in meaning["arrays"].items()
    }


def message_of(meaning):
    """The message that the JSON describes, made without a look at the bytes."""
    header = from_spelling(meaning["header"])
    del header["version"]
    message = msgspec.convert(header, KINDS[meaning["kind"]])
    return msgspec.structs.replace(message, arrays=arrays_of(meaning))


# ── the codec ──


def test_every_kind_argument_space_and_element_type_has_a_vector():
    meanings = [meaning_of("messages", name) for name in names("messages")]
    assert {meaning["kind"] for meaning in meanings} == set(KINDS)
    text = json.dumps(meanings)
    for tag in ("ref", "dtype", "enum", "number", "list"):
        assert f'"t": "{tag}"' in text
    for tag in ("box", "discrete", "multi_discrete", "multi_binary", "dict", "tuple", "other"):
        assert f'"type": "{tag}"' in text
    for dtype in agentwrap_protocol.codec.DTYPES:
        assert f'"dtype": "{dtype}"' in text


@pytest.mark.parametrize("name", names("messages"))
def test_messages_are_read_and_written_as_the_vectors_say(name):
    frames, message = frames_of("messages", name), message_of(meaning_of("messages", name))
    assert content(decode(frames)) == content(message)
    assert [bytes(frame) for frame in encode(message)] == frames


@pytest.mark.parametrize("name", sorted(path.stem for path in (VECTORS / "packed").glob("*.hex")))
def test_packed_messages_are_read_and_written_as_the_vectors_say(name):
    (payload,) = frames_of("packed", name)
    frames = frames_of("messages", name)
    assert b"".join(pack(frames)) == payload
    assert [bytes(frame) for frame in unpack(payload)] == frames


@pytest.mark.parametrize("name", names("accepted"))
def test_what_other_implementations_send_is_accepted(name):
    assert content(decode(frames_of("accepted", name))) == content(message_of(meaning_of("accepted", name)))


@pytest.mark.parametrize("name", names("invalid"))
def test_what_is_invalid_is_refused_and_said(name):
    meaning = meaning_of("invalid", name)
    with pytest.raises(ProtocolError) as caught:
        decode(frames_of("invalid", name))
    assert type(caught.value).__name__ == meaning["error"]
    assert meaning["says"] in str(caught.value)


def test_the_graph_is_whole_and_the_weights_fit():
    message = decode(frames_of("messages", "policy_graph"))
    check(message.graph, allowed=OPERATORS.__contains__)
    prefix = "constant/"
    check_constants(message.graph, {name.removeprefix(prefix): array for name, array in message.arrays.items()})
    check_parameters(message.graph, decode(frames_of("messages", "weights")).arrays)
    assert {type(argument) for node in message.graph.nodes for argument in (*node.args, *node.kwargs.values())} >= {
        g.Ref, g.Dtype, g.Enum, g.Number, g.List, bool, int, float, str, type(None),
    }  # fmt: skip


# ── another reader ──


def read_independently(frames):
    """A reader of plain MessagePack, from the specification alone: kind, header without arrays, arrays."""
    kind, header, *buffers = frames
    header = msgpack.unpackb(header)
    arrays = {}
    for name, (dtype, shape, index) in header.pop("arrays", {}).items():
        arrays[name] = np.frombuffer(buffers[index], dtype).reshape(shape)
    assert len(arrays) == len(buffers)
    return kind.decode("ascii"), header, arrays


def same(left, right):
    """Equal, and equal in type (True is not 1), NaN equal to itself."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return type(left) is type(right) and left == right


@pytest.mark.parametrize(("folder", "name"), [(f, name) for f in ("messages", "accepted") for name in names(f)])
def test_a_reader_of_plain_messagepack_reads_the_vectors(folder, name):
    meaning = meaning_of(folder, name)
    kind, header, arrays = read_independently(frames_of(folder, name))
    assert kind == meaning["kind"]
    assert same(header, from_spelling(meaning["header"]))
    assert arrays.keys() == meaning["arrays"].keys()
    for array_name, array in arrays_of(meaning).items():
        assert arrays[array_name].dtype == array.dtype and arrays[array_name].shape == array.shape
        np.testing.assert_array_equal(arrays[array_name], array)


# ── the files ──


def test_the_files_are_what_the_script_writes(monkeypatch):
    monkeypatch.syspath_prepend(VECTORS)
    written = dict(importlib.import_module("generate").files())
    on_disk = {
        path.relative_to(VECTORS).as_posix(): path.read_text(encoding="utf-8")
        for folder in ("messages", "packed", "accepted", "invalid")
        for path in (VECTORS / folder).iterdir()
    }
    assert written == on_disk, "run protocol/vectors/generate.py and look at what changes"
