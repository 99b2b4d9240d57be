"""The file by which a stream is found: read with suspicion, for it may be anybody's."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentwrap_protocol import Announcement, LimitError, ProtocolError
from agentwrap_protocol.announcement import MAX_BYTES, decode_announcement, directory, encode_announcement

from .strategies import examples

GOOD = {
    "stream": "0123456789abcdef" * 2,
    "endpoint": "tcp://127.0.0.1:5590",
    "name": "Enduro 🏁",
    "env_id": "ALE/Enduro-v5",
    "pid": 4242,
    "started": 1735689600.25,
    "version": [1, 0],
}


def read(**changed):
    return decode_announcement(json.dumps({**GOOD, **changed}).encode())


def test_an_announcement_comes_back_as_it_went():
    announcement = read()
    assert announcement == Announcement(**{**GOOD, "version": (1, 0)})
    assert decode_announcement(encode_announcement(announcement)) == announcement


def test_fields_of_a_newer_version_are_skipped():
    assert read(version=[1, 9], colour="blue") == msgspec.structs.replace(read(), version=(1, 9))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stream", "0123"), ("stream", "../" * 10 + "ab"), ("stream", "0" * 32 + "\n"), ("stream", None),
        ("endpoint", "x" * 4097), ("endpoint", 5590), ("name", "x" * 65_537), ("env_id", []),
        ("pid", 0), ("pid", -1), ("pid", 2**31), ("pid", "1"), ("pid", 1.5),
        ("started", "now"), ("version", "1.0"), ("version", [1]), ("version", [1, 0, 0]),
    ],
)  # fmt: skip
def test_a_bad_field_is_refused_by_name(field, value):
    with pytest.raises(ProtocolError, match=field if value != "x" * 65_537 else "at most"):
        read(**{field: value})


@pytest.mark.parametrize("field", GOOD)
def test_a_missing_field_is_refused_by_name(field):
    content = json.dumps({key: value for key, value in GOOD.items() if key != field}).encode()
    with pytest.raises(ProtocolError, match=field):
        decode_announcement(content)


def test_a_file_that_is_too_long_is_refused_before_it_is_read():
    with pytest.raises(LimitError, match="65537 bytes"):
        decode_announcement(b"{" * (MAX_BYTES + 1))


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"null", b"\x00" * 100, b"\xff\xfe", b'{"stream":"\xff"}', b"[" * MAX_BYTES, b'{"a":' * 10_000],
)
def test_what_is_no_announcement_is_refused(content):
    with pytest.raises(ProtocolError):
        decode_announcement(content)


@examples(100)
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_give_an_announcement_or_a_protocol_error(content):
    with pytest.raises(ProtocolError):
        decode_announcement(content)


@examples(100)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_changed_bytes_give_an_announcement_or_a_protocol_error(position, byte):
    content = bytearray(encode_announcement(read()))
    content[position % len(content)] = byte
    try:
        assert isinstance(decode_announcement(bytes(content)), Announcement)
    except ProtocolError as error:
        assert len(str(error)) < 1000


def test_the_directory_is_the_users_runtime_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        path = directory()
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        fallback = directory()
    assert isinstance(path, Path) and path.parts[-2:] == fallback.parts[-2:] == ("agentwrap", "streams")
    assert not caught, "a desktop that sets no runtime directory is no reason for a warning"
