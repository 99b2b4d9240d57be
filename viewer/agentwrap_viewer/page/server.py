"""Serves the page on the loopback interface."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import panel as pn
from tornado.ioloop import IOLoop
from tornado.web import StaticFileHandler
from tornado.websocket import WebSocketClosedError

from .components.element import ASSETS
from .frames import Tab, routes
from .hostguard import guard_hosts
from .layout import build_page
from .packet import EncodedCache
from .receiver import Receiver
from .states import state_routes

ADDRESS = "127.0.0.1"
DEFAULT_PORT = 5006

#: Ports tried after the default one.
TRIES = 50

_ASSETS = Path(__file__).parent / "components"


class PortTakenError(RuntimeError):
    """The port asked for cannot be had; the text says why and what to do."""


class ClosedTabs(logging.Filter):
    """Drops what is logged when a tab is closed while something is on its way to it: that is no fault."""

    #: Who says it, and what Bokeh and Panel say; asyncio says what nobody asked about after a message was written.
    LOGGERS = ("bokeh.server.views.ws", "panel.io.document", "asyncio")
    TEXT = "Failed sending message as connection was closed"

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is anything else."""
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, WebSocketClosedError) and record.getMessage() != self.TEXT


class AssetHandler(StaticFileHandler):  # type: ignore[misc]
    """Serves the components' JavaScript; the route's pattern keeps it to that."""

    def set_extra_headers(self, path: str) -> None:
        """Have the browser ask whether a file changed, so that an upgrade shows at once."""
        self.set_header("Cache-Control", "no-cache")


_CLOSED_TABS = ClosedTabs()  # one: a logger takes the same filter once


class PageServer:
    """A running server.

    Attributes:
        port: The port it listens on.
        address: The page's address.
    """

    def __init__(self, server: Any, port: int) -> None:
        self._server = server
        self.port = port
        self.address = f"http://{ADDRESS}:{port}/"

    def stop(self) -> None:
        """Close every connection and stop listening."""
        self._server.stop(wait=False)


def serve(
    receiver: Receiver,
    *,
    port: int | None = None,
    page: Callable[[Receiver], Any] = build_page,
    tab: Callable[[Receiver, EncodedCache], Tab] = Tab,
    states: Sequence[str] = (),
) -> PageServer:
    """Serve the page on the running event loop.

    Args:
        receiver: Fills the store that the page shows.
        port: Port to listen on. None takes 5006 or the next that is free; 0 any.
        page: Builds one tab's page.
        tab: Makes one tab's state.
        states: Arguments of the state map's process: see ``StateLink``.

    Raises:
        PortTakenError: The port asked for is in use.
    """
    port = _free_port(port)
    names = [f"{name}:{port}" for name in (ADDRESS, "localhost")]
    server = pn.serve(
        {"/": lambda: page(receiver)},
        port=port,
        address=ADDRESS,
        title="agentwrap",
        websocket_origin=names,
        extra_patterns=[
            *routes(receiver, tab),
            *state_routes(receiver, states),
            (rf"/{re.escape(ASSETS)}/([a-z_]+\.(?:js|css))", AssetHandler, {"path": str(_ASSETS)}),
        ],
        loop=IOLoop.current(),
        show=False,
        start=False,
        verbose=False,
        admin=False,
    )
    guard_hosts(server._tornado, names)
    for name in ClosedTabs.LOGGERS:
        logging.getLogger(name).addFilter(_CLOSED_TABS)
    server.start()
    return PageServer(server, port)


def _free_port(port: int | None) -> int:
    if port is None:
        for candidate in range(DEFAULT_PORT, DEFAULT_PORT + TRIES):
            if _is_free(candidate):
                return candidate
        port = 0
    if port == 0:
        with socket.socket() as probe:
            probe.bind((ADDRESS, 0))
            return int(probe.getsockname()[1])
    if not _is_free(port):
        raise PortTakenError(
            f"port {port} is in use; choose another with --port, or leave --port out to take the next that is free"
        )
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except PermissionError:
            raise PortTakenError(f"port {port} needs rights that you do not have; use --port") from None
        except OSError:
            return False
    return True
