import contextlib
import random
import socket

import pytest
import zmq

from agentwrap import AgentwrapError, EndpointError, PortTakenError
from agentwrap import endpoint as endpoints


@pytest.fixture
def new_socket():
    context, sockets = zmq.Context(), []

    def make():
        sockets.append(context.socket(zmq.XPUB))
        return sockets[-1]

    yield make
    context.destroy(linger=0)


def free_ports(count):
    """Ports below those that the system gives to whoever asks for any: nobody takes one before it is bound."""
    found = []
    for port in random.sample(range(20_000, 32_000), 1000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return sorted(found)
    raise AssertionError("no port is free")


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://0.0.0.0:5590",
        "tcp://*:5590",
        "tcp://192.168.1.4:5590",
        "tcp://example.org:5590",
        "tcp://[::]:5590",
        "tcp://eth0:5590",
    ],
)
def test_streams_do_not_leave_the_machine(endpoint):
    with pytest.raises(EndpointError, match="reaches beyond this machine: .*keys, which this version does not offer"):
        endpoints.checked(endpoint)
    assert issubclass(EndpointError, ValueError)


@pytest.mark.parametrize(
    "endpoint",
    ["", "5590", "127.0.0.1:5590", "tcp://127.0.0.1", "tcp://127.0.0.1:x", "udp://1:2", "ipc://", "inproc://a"],
)
def test_malformed_endpoints_are_refused(endpoint):
    with pytest.raises(EndpointError, match="is not an endpoint: use tcp://127.0.0.1:<port> or ipc://<path>"):
        endpoints.checked(endpoint)


def test_ports_end():
    with pytest.raises(EndpointError, match="ports go from 1 to 65535"):
        endpoints.checked("tcp://127.0.0.1:65536")


def test_what_may_be_bound(new_socket, tmp_path):
    for endpoint in ("tcp://localhost:*", "tcp://127.0.0.1:*", "tcp://127.0.0.5:*", f"ipc://{tmp_path}/s"):
        bound = endpoints.bind(new_socket(), endpoint)
        beside = endpoints.bind_beside(new_socket(), bound)
        assert bound != beside
        assert beside.rpartition(":")[0] == bound.rpartition(":")[0] or beside == f"{bound}.control"


def test_a_port_that_is_taken_is_named(new_socket):
    endpoint = endpoints.bind(new_socket(), "tcp://127.0.0.1:*")
    with pytest.raises(
        PortTakenError, match=f"{endpoint} is taken: something else listens there.*end it, give another"
    ):
        endpoints.bind(new_socket(), endpoint)
    assert issubclass(PortTakenError, OSError)
    assert issubclass(PortTakenError, AgentwrapError)


def test_the_first_free_port_of_the_default_is_used(new_socket, monkeypatch):
    first, second = free_ports(2)
    monkeypatch.setattr(endpoints, "PORTS", (first, second))
    assert [endpoints.bind(new_socket(), None) for _ in range(2)] == [
        f"tcp://127.0.0.1:{first}",
        f"tcp://127.0.0.1:{second}",
    ]
    assert endpoints.bind(new_socket(), None).startswith("tcp://127.0.0.1:")  # of hundreds each gets some port


def test_the_environment_variable_stands_in_for_the_default_alone(new_socket, monkeypatch):
    there, here = (f"tcp://127.0.0.1:{port}" for port in free_ports(2))
    monkeypatch.setenv("AGENTWRAP_ENDPOINT", there)
    assert endpoints.bind(new_socket(), None) == there
    assert endpoints.bind(new_socket(), here) == here


def test_a_path_that_cannot_be_bound_is_named(new_socket, tmp_path):
    with pytest.raises(EndpointError, match="cannot listen on ipc:///"):
        endpoints.bind(new_socket(), f"ipc://{tmp_path}/missing/directory/socket")
