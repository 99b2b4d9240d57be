from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentwrap_protocol.endpoint import Endpoint, parse_endpoint


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("tcp://127.0.0.1:5590", ("tcp", "127.0.0.1", 5590)),
        ("tcp://[::1]:1", ("tcp", "[::1]", 1)),
        ("tcp://gpu-box.example.org:65535", ("tcp", "gpu-box.example.org", 65535)),
        ("ipc:///tmp/agent", ("ipc", "/tmp/agent", None)),
    ],
)
def test_addresses_are_taken_apart(text: str, parts: tuple[str, str, int | None]) -> None:
    assert parse_endpoint(text) == parse_endpoint(text, any_port=True) == parts


def test_all_paths_are_in_one_place_and_hosts_each_in_its_own() -> None:
    one, other, path = map(parse_endpoint, ("tcp://a:1", "tcp://a:2", "ipc://a"))
    assert one.place == other.place != path.place == parse_endpoint("ipc://b").place


def test_any_port_is_one_to_listen_on_alone() -> None:
    assert parse_endpoint("tcp://127.0.0.1:*", any_port=True) == Endpoint("tcp", "127.0.0.1", None)
    with pytest.raises(ValueError, match=r"'tcp://127.0.0.1:\*' is not an endpoint: use tcp"):
        parse_endpoint("tcp://127.0.0.1:*")


@pytest.mark.parametrize("port", ["0", "65536", "99999"])
def test_ports_have_bounds(port: str) -> None:
    with pytest.raises(ValueError, match=rf"'tcp://127.0.0.1:{port}' is not an endpoint: ports go from 1 to 65535"):
        parse_endpoint(f"tcp://127.0.0.1:{port}")


@given(st.text(max_size=40) | st.from_regex(r"(tcp|ipc|udp)://.{0,30}"))
def test_whatever_comes_is_an_address_or_refused_by_its_name(text: str) -> None:
    try:
        found = parse_endpoint(text)
    except ValueError as error:
        assert repr(text) in str(error)
    else:
        again = f"tcp://{found.host}:{found.port}" if found.transport == "tcp" else f"ipc://{found.host}"
        assert parse_endpoint(again) == found and found.host
