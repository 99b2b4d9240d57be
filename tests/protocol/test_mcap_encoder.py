"""What the encoder writes is an MCAP file to the reference reader, checksums and all, and holds what it was given."""

from __future__ import annotations

import io
import struct

import msgspec
import numpy as np
import pytest
from fakes import hello, step
from hypothesis import given
from hypothesis import strategies as st
from mcap.reader import NonSeekingReader, make_reader

from agentwrap_protocol import decode
from agentwrap_protocol.mcap_encoder import McapEncoder, describe
from agentwrap_protocol.messages import EpisodeEnd, Index, Step, Weights
from agentwrap_protocol.packing import unpack
from agentwrap_protocol.recording_index import DUE_MESSAGES, FIELDS

from .strategies import by_kind, content, examples


def written(messages, **options):
    encoder = McapEncoder(library="test", **options)
    parts = [encoder.begin(describe(hello()))]
    parts += [encoder.add(message) for message in messages]
    parts.append(encoder.finish({"steps": "3"}))
    data = b"".join(parts)
    assert encoder.position == len(data)
    return data


def read(data):
    """Topics and messages, in the order of the file, as the reference implementation reads them."""
    reader = NonSeekingReader(io.BytesIO(data), validate_crcs=True)
    return [
        (channel.topic, decode(unpack(message.data)))
        for _, channel, message in reader.iter_messages(log_time_order=False)
    ]


def recorded(data):
    return [message for topic, message in read(data) if topic != "index"]


@given(st.lists(st.one_of([by_kind[kind] for kind in FIELDS]), max_size=4), st.sampled_from([1, 400, 2**20]))
@examples(15)
def test_any_messages_come_back_bit_for_bit_in_order(messages, chunk_bytes):
    assert list(map(content, recorded(written(messages, chunk_bytes=chunk_bytes)))) == list(map(content, messages))


def test_the_reference_reader_seeks_in_it_and_knows_its_summary():
    data = written([hello(), *map(step, range(40))])
    reader = make_reader(io.BytesIO(data), validate_crcs=True)
    summary = reader.get_summary()
    topics = {channel.topic: number for number, channel in summary.channels.items()}
    assert summary.statistics.channel_message_counts == {topics["hello"]: 1, topics["step"]: 40, topics["index"]: 1}
    assert {schema.name for schema in summary.schemas.values()} == {f"agentwrap.{topic}" for topic in topics}
    assert reader.get_header().profile == "agentwrap"
    metadata = {record.name: record.metadata for record in reader.iter_metadata()}
    assert metadata["agentwrap"]["env_id"] == "Fake/Drive-v0" and metadata["agentwrap.summary"] == {"steps": "3"}
    found = [decode(unpack(message.data)).step for _, _, message in reader.iter_messages(topics=["step"])]
    assert found == list(range(40))


def test_indexes_say_where_every_message_lies_and_what_it_says():
    count = DUE_MESSAGES + 200
    arrays = {"output/value": np.float32([0.5]), "frame": np.zeros((9, 9, 3), np.uint8), "rewards": np.zeros(1, "f4")}
    end = EpisodeEnd(stream="0" * 32, episode=1, step=99, length=100, episode_return=3.5, seconds=2, reason="reset")
    weights = Weights(stream="0" * 32, policy_version=7, step=3, arrays={"w": np.zeros(3)})
    data = written([hello(), weights, *(step(n, arrays=arrays) for n in range(count)), end], chunk_bytes=2**16)
    indexes = [message for topic, message in read(data) if topic == Index.kind]
    assert len(indexes) == 2  # one when it was due, one at the end
    steps = np.concatenate([index.arrays["step/step"] for index in indexes])
    assert steps.tolist() == list(range(count))
    assert indexes[0].arrays["array/output/value"].shape[1:] == (1,)
    assert not [name for name in indexes[0].arrays if "frame" in name or "rewards" in name]
    assert indexes[1].arrays["episode_end/reason"].tolist() == [2]
    assert indexes[0].arrays["weights/policy_version"].tolist() == [7]
    chunk, offset = (int(indexes[1].arrays[f"step/{name}"][-1]) for name in ("chunk", "offset"))
    assert message_at(data, chunk, offset).step == count - 1


def message_at(data, chunk, offset):
    """Follow the file's bytes by hand."""
    import zstandard

    opcode, _, _, _, size, _, name = struct.unpack_from("<BQQQQII", data, chunk)
    (compressed,) = struct.unpack_from("<Q", data, chunk + 41 + name)
    begin = chunk + 49 + name
    assert opcode == 0x06
    inner = zstandard.decompress(data[begin : begin + compressed], size)
    opcode, length = struct.unpack_from("<BQ", inner, offset)
    assert opcode == 0x05
    return decode(unpack(inner[offset + 31 : offset + 9 + length]))


def test_arrays_that_change_their_shape_are_left_out_of_the_index():
    shapes = [(1,), (1,), (2,)]
    steps = [step(n, arrays={"input/h": np.zeros(shape), "action": np.array(n)}) for n, shape in enumerate(shapes)]
    (index,) = [message for topic, message in read(written(steps)) if topic == Index.kind]
    assert "array/input/h" not in index.arrays
    assert index.arrays["array/action"].tolist() == [0, 1, 2]


def test_what_cannot_be_encoded_is_left_out_and_the_rest_is_whole():
    encoder = McapEncoder(library="test")
    parts = [encoder.begin({}), encoder.add(step(0))]
    with pytest.raises(TypeError, match="does not travel"):
        encoder.add(step(1, arrays={"observation": np.array([object()])}))
    parts += [encoder.add(step(2)), encoder.finish()]
    assert [message.step for message in recorded(b"".join(parts))] == [0, 2]


def test_a_message_larger_than_a_chunk_gets_one_of_its_own():
    large = step(1, arrays={"observation": np.random.default_rng(0).integers(0, 256, 5000).astype(np.uint8)})
    data = written([step(0, arrays={}), large, step(2, arrays={})], chunk_bytes=4096)
    summary = make_reader(io.BytesIO(data)).get_summary()
    assert [index.uncompressed_size > 4096 for index in summary.chunk_indexes] == [False, True, False, False]
    assert [message.step for message in recorded(data) if isinstance(message, Step)] == [0, 1, 2]


def test_times_that_are_none_do_no_harm():
    steps = [msgspec.structs.replace(step(n), time=time) for n, time in enumerate((float("nan"), -1e300, 1e300))]
    assert len(recorded(written(steps))) == 3
