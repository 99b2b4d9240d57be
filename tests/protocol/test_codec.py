"""Messages come back as they went, and nothing but messages or a ``ProtocolError`` comes of any bytes."""

from __future__ import annotations

import math

import msgpack
import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from agentwrap_protocol import KINDS, LimitError, Limits, Message, ProtocolError, VersionError, decode, encode
from agentwrap_protocol.codec import DTYPES
from agentwrap_protocol.messages import Bye, Heartbeat, Ping, Step

from .strategies import array_values, by_kind, content, examples

STREAM = "0" * 32


def ping(**arrays):
    return Ping(stream=STREAM, arrays=arrays)


def frames_of(header, *buffers, kind=b"ping"):
    return [kind, msgpack.packb({"version": [1, 0], "stream": STREAM, **header}), *buffers]


# ── there and back ──


@pytest.mark.parametrize("kind", KINDS)
@examples(40)
@given(data=st.data())
def test_every_message_comes_back_as_it_went(kind, data):
    message = data.draw(by_kind[kind])
    received = decode([bytes(frame) for frame in encode(message)])
    assert type(received) is type(message)
    assert content(received) == content(message)


@examples(200)
@given(array=array_values)
def test_every_array_comes_back_as_it_went(array):
    received = decode(encode(ping(a=array))).arrays["a"]
    assert (received.dtype, received.shape, received.tobytes()) == (array.dtype, array.shape, array.tobytes())


@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("shape", [(), (0,), (3,), (0, 3), (3, 0), (2, 3), (1,) * 16])
def test_every_element_type_travels_in_every_shape(dtype, shape):
    array = np.ones(shape, dtype)
    received = decode(encode(ping(a=array))).arrays["a"]
    assert (received.dtype.str, received.shape) == (dtype, shape)
    np.testing.assert_array_equal(received, array)


def test_other_byte_orders_and_layouts_are_put_right():
    plain = np.arange(24, dtype="<f4").reshape(2, 3, 4)
    for array in (plain.astype(">f4"), np.asfortranarray(plain), plain[:, ::-1, ::2], plain.T, plain[:, :, :0]):
        received = decode(encode(ping(a=array))).arrays["a"]
        assert received.dtype.str == "<f4"
        np.testing.assert_array_equal(received, array)


def test_contiguous_arrays_are_not_copied_on_either_side():
    array = np.zeros((4, 84, 84), np.uint8)
    frames = encode(ping(a=array))
    assert np.shares_memory(np.frombuffer(frames[2], np.uint8), array)
    assert np.shares_memory(decode(frames).arrays["a"], array)


def test_received_arrays_cannot_be_written():
    frames = [bytearray(frame) for frame in encode(ping(a=np.zeros(3)))]
    with pytest.raises(ValueError, match="read-only"):
        decode(frames).arrays["a"][0] = 1


def test_numpy_scalars_in_fields_travel_as_plain_numbers():
    message = Step(
        stream=STREAM, step=np.int64(1), episode=0, episode_step=1, reward=np.float32(0.5),
        episode_return=np.float64(2), terminated=np.bool_(True), truncated=False, arrays={"action": np.int64(3)},
    )  # fmt: skip
    received = decode(encode(message))
    assert (received.step, received.reward, received.episode_return, received.terminated) == (1, 0.5, 2.0, True)
    assert received.arrays["action"].shape == () and received.arrays["action"] == 3


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([object()]), np.array([1j]), np.zeros(1, "M8[s]")])
def test_arrays_that_do_not_travel_are_refused_by_name(array):
    with pytest.raises(TypeError, match="'a'.*does not travel"):
        encode(ping(a=array))


def test_things_that_are_no_arrays_or_plain_data_are_refused():
    with pytest.raises(TypeError, match="'a' is a list"):
        encode(ping(a=[1, 2]))
    with pytest.raises(TypeError, match="ndarray does not travel in a field"):
        encode(Bye(stream=STREAM, reason=np.zeros(3)))
    with pytest.raises(UnicodeEncodeError):
        encode(Bye(stream=STREAM, reason="\udcff"))
    with pytest.raises(OverflowError):
        encode(Heartbeat(stream=STREAM, step=2**64))


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, zmq.Frame, lambda f: memoryview(f).cast("b")])
def test_frames_may_be_any_bytes(wrap):
    message = ping(a=np.arange(6, dtype="<i4").reshape(2, 3))
    received = decode([wrap(bytes(frame)) for frame in encode(message)])
    assert content(received) == content(message)


def test_a_frame_with_axes_counts_by_its_bytes():
    array = np.arange(6, dtype="<i4").reshape(2, 3)
    kind, header, _ = encode(ping(a=array))
    np.testing.assert_array_equal(decode([kind, header, array.data]).arrays["a"], array)


def test_frames_need_not_be_aligned():
    kind, header, buffer = encode(ping(a=np.arange(4, dtype="<f8")))
    shifted = memoryview(b"x" + bytes(buffer))[1:]
    np.testing.assert_array_equal(decode([kind, header, shifted]).arrays["a"], np.arange(4.0))


# ── whatever bytes come in ──


def outcome(frames):
    """Whatever is neither a message nor a ProtocolError fails the test."""
    try:
        assert isinstance(decode(frames), Message)
    except ProtocolError as error:
        assert 0 < len(str(error)) < 2_000


valid_frames = (
    st.sampled_from(sorted(KINDS))
    .flatmap(lambda kind: by_kind[kind])
    .map(lambda message: [bytes(frame) for frame in encode(message)])
)


@examples(150)
@given(frames=valid_frames, data=st.data())
def test_changed_bytes_give_a_message_or_a_protocol_error(frames, data):
    index = data.draw(st.integers(0, len(frames) - 1))
    frame = bytearray(frames[index])
    for _ in range(data.draw(st.integers(1, 4))):
        if frame:
            frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    outcome([*frames[:index], bytes(frame), *frames[index + 1 :]])


@examples(100)
@given(frames=valid_frames, data=st.data())
def test_a_header_that_breaks_off_is_refused(frames, data):
    end = data.draw(st.integers(0, len(frames[1]) - 1))
    with pytest.raises(ProtocolError):
        decode([frames[0], frames[1][:end], *frames[2:]])


@examples(100)
@given(frames=valid_frames, data=st.data())
def test_frames_too_few_or_too_many_are_refused(frames, data):
    with pytest.raises(ProtocolError):
        decode(frames[: data.draw(st.integers(0, len(frames) - 1))])
    with pytest.raises(ProtocolError):
        decode([*frames, b""])


@examples(300)
@given(
    kind=st.sampled_from([*(kind.encode() for kind in KINDS), b""]), rest=st.lists(st.binary(max_size=64), max_size=3)
)
def test_random_bytes_give_a_message_or_a_protocol_error(kind, rest):
    outcome([kind, *rest])


_plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=4)
    | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(0, 3), inner, max_size=3)
    ),
    max_leaves=6,
)


@examples(300)
@given(frames=valid_frames, data=st.data())
def test_fields_of_any_value_give_a_message_or_a_protocol_error(frames, data):
    header = msgpack.unpackb(frames[1], strict_map_key=False)
    header[data.draw(st.sampled_from(sorted(header)))] = data.draw(_plain)
    outcome([frames[0], msgpack.packb(header), *frames[2:]])


# ── limits ──


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Limits(header=10), "header of .* at most 10"),
        (Limits(arrays=1), "2 arrays, at most 1"),
        (Limits(array=799), "'a'.* takes 800 bytes, at most 799"),
        (Limits(total=899), "arrays of 900 bytes together, at most 899"),
    ],
)
def test_each_limit_holds(limits, says):
    frames = encode(ping(a=np.zeros(100), b=np.zeros(100, bool)))
    assert decode(frames, Limits(header=200, arrays=2, array=800, total=900)).arrays.keys() == {"a", "b"}
    with pytest.raises(LimitError, match=says):
        decode(frames, limits)


def test_an_array_beyond_the_limit_is_refused_before_its_buffer_is_looked_at():
    with pytest.raises(LimitError, match="'a'"):
        decode(frames_of({"arrays": {"a": ["|u1", [2**40], 0]}}, b""))


def test_more_frames_than_arrays_allowed_are_refused_before_they_are_touched():
    with pytest.raises(LimitError, match="5000 arrays"):
        decode([b"ping", b"", *[None] * 5000])


def test_a_long_kind_is_not_taken_for_one_that_begins_alike():
    with pytest.raises(ProtocolError, match="unknown kind"):
        decode(frames_of({}, kind=b"ping" + b" " * 1000))


def test_error_texts_do_not_grow_with_what_came():
    header = {"source": STREAM, "reason": "x" * 100_000}
    fields = {"episode": 0, "step": 0, "length": 0, "episode_return": 0.0, "seconds": 0.0}
    with pytest.raises(ProtocolError) as caught:
        decode(frames_of({**header, **fields}, kind=b"episode_end"))
    assert len(str(caught.value)) < 1000


# ── versions ──


def test_another_major_version_is_refused_before_its_fields_are_looked_at():
    header = msgpack.packb({"version": [2, 3], "arrays": "elsewhere", "stream": 7})
    with pytest.raises(VersionError, match=r"2\.3.*1\.0.*install"):
        decode([b"ping", header])


@pytest.mark.parametrize(
    "version", [None, 1, "1.0", [1], [1, 0, 0], ["1", "0"], [1.0, 0], {"major": 1}, [1, -1], [True, 0]]
)
def test_a_version_that_is_none_is_refused(version):
    with pytest.raises(ProtocolError, match=r"version"):
        decode([b"ping", msgpack.packb({"version": version, "stream": STREAM})])


# ── details of the header ──


def test_a_key_that_occurs_twice_does_not_confuse_arrays_and_buffers():
    once = msgpack.packb({"version": [1, 0], "stream": STREAM})
    arrays = msgpack.packb("arrays") + msgpack.packb({"a": ["|u1", [1], 0]})
    again = msgpack.packb("arrays") + msgpack.packb({"b": ["|u1", [1], 0]})
    received = decode([b"ping", b"\x84" + once[1:] + arrays + again, b"x"])
    assert {name: bytes(array) for name, array in received.arrays.items()} == {"b": b"x"}
    within = msgpack.packb("arrays") + b"\x82" + 2 * (msgpack.packb("a") + msgpack.packb(["|u1", [1], 0]))
    with pytest.raises(ProtocolError, match="names 1 arrays, but 2 buffers"):
        decode([b"ping", b"\x83" + once[1:] + within, b"x", b"y"])


def test_not_a_number_is_kept_where_no_bound_excludes_it():
    assert math.isnan(decode(frames_of({"time": math.nan})).time)
    hello_fps = {"fps": math.nan, "name": "", "env_id": "", "policy": {"type": ""}}
    space = {"type": "discrete", "n": 1}
    with pytest.raises(ProtocolError, match=r"fps"):
        decode(frames_of({**hello_fps, "observation_space": space, "action_space": space}, kind=b"hello"))
