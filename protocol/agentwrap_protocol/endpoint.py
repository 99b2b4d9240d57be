"""Addresses of streams, as ZeroMQ has them: ``tcp://<host>:<port>`` and ``ipc://<path>``.

They are looked at before a socket sees them: ZeroMQ takes some that no stream can have, and waits there for ever.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

_TCP = re.compile(r"tcp://(?P<host>\[[^\]\s]+\]|[^:/\[\]\s]+):(?P<port>\d{1,5}|\*)")
_IPC = "ipc://"


class Endpoint(NamedTuple):
    """An address, taken apart.

    Attributes:
        transport: ``tcp``, or ``ipc`` on one machine.
        host: The host, IPv6 in brackets; the path of ``ipc``.
        port: 1…65535; None where any free one will do, and of ``ipc``.
    """

    transport: Literal["tcp", "ipc"]
    host: str
    port: int | None

    @property
    def place(self) -> str:
        """The host; "" for this machine's paths, which are all in one place."""
        return self.host if self.transport == "tcp" else ""


def parse_endpoint(text: str, *, any_port: bool = False) -> Endpoint:
    """Take an address apart.

    Args:
        text: The address.
        any_port: Take ``*`` as a port too: an address to listen on.

    Raises:
        ValueError: It is none; the text says what one looks like.
    """
    if text.startswith(_IPC) and len(text) > len(_IPC):
        return Endpoint("ipc", text.removeprefix(_IPC), None)
    tcp = _TCP.fullmatch(text)
    if tcp is None or (tcp["port"] == "*" and not any_port):
        raise ValueError(f"{text!r} is not an endpoint: use tcp://127.0.0.1:<port> or ipc://<path>")
    if tcp["port"] == "*":
        return Endpoint("tcp", tcp["host"], None)
    if not 0 < int(tcp["port"]) < 2**16:
        raise ValueError(f"{text!r} is not an endpoint: ports go from 1 to 65535")
    return Endpoint("tcp", tcp["host"], int(tcp["port"]))
