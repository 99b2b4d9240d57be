"""Where a stream can be reached: loopback only, the first free port unless told otherwise."""

from __future__ import annotations

import errno
import ipaddress
import os

import zmq

from agentwrap_protocol.endpoint import parse_endpoint

from .errors import EndpointError, PortTakenError

#: Where streams go by default: the first of these ports that is free, or any where none is.
PORTS = range(5590, 5690)

#: Overrides the default where ``endpoint`` is not given.
ENVIRONMENT_VARIABLE = "AGENTWRAP_ENDPOINT"


def bind(socket: zmq.Socket[bytes], endpoint: str | None) -> str:
    """Bind a socket and return where.

    Args:
        socket: An unbound socket.
        endpoint: ``tcp://127.0.0.1:<port>`` (port ``*`` for any free one) or ``ipc://<path>``. None for what the
            environment variable ``AGENTWRAP_ENDPOINT`` says, or else the first free port of 5590…5689, or else any.

    Raises:
        EndpointError: The endpoint is malformed or reaches beyond this machine.
        PortTakenError: Something else listens there.
    """
    endpoint = endpoint or os.environ.get(ENVIRONMENT_VARIABLE) or None
    if endpoint is not None:
        return _bind(socket, checked(endpoint))
    for port in PORTS:
        try:
            return _bind(socket, f"tcp://127.0.0.1:{port}")
        except PortTakenError:
            continue
    return _bind(socket, "tcp://127.0.0.1:*")  # hundreds of agents: the announcement says where


def bind_beside(socket: zmq.Socket[bytes], endpoint: str) -> str:
    """Bind a second socket of the same stream: on a free port of the same host, or on a path beside the first."""
    transport, host, _ = parse_endpoint(endpoint)
    return _bind(socket, f"tcp://{host}:*" if transport == "tcp" else f"{endpoint}.control")


def checked(endpoint: str) -> str:
    """Return an endpoint in the form that can be bound.

    Raises:
        EndpointError: It is malformed or reaches beyond this machine.
    """
    try:
        transport, host, port = parse_endpoint(endpoint, any_port=True)
    except ValueError as error:
        raise EndpointError(str(error)) from None
    if transport == "ipc":
        return endpoint
    if host == "localhost":
        return f"tcp://127.0.0.1:{'*' if port is None else port}"
    if not _is_loopback(host):
        raise EndpointError(
            f"{endpoint!r} reaches beyond this machine: streams leave it only with keys, which this version does "
            "not offer; use tcp://127.0.0.1:<port> or ipc://<path>, and an SSH tunnel to look from elsewhere"
        )
    return endpoint


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _bind(socket: zmq.Socket[bytes], endpoint: str) -> str:
    socket.setsockopt(zmq.IPV6, int("[" in endpoint))
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTakenError(
                f"{endpoint} is taken: something else listens there, perhaps another stream; end it, "
                f"give another endpoint, or none for the first free port from {PORTS[0]} on"
            ) from None
        raise EndpointError(f"cannot listen on {endpoint}: {error}") from None
    return str(socket.getsockopt_string(zmq.LAST_ENDPOINT))
