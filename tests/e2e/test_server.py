"""Who may talk to the page's server, and what a tab that does not read costs it."""

from __future__ import annotations

import asyncio
import gc
import http.client
import importlib
import inspect
import json
import logging
import socket
import time
from types import ModuleType

import pytest
from e2e.harness import World
from listener import eventually
from tornado.websocket import WebSocketClosedError
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from agentwrap_viewer.page.frames import IN_FLIGHT
from agentwrap_viewer.page.server import ClosedTabs, PortTakenError, serve


def status(world: World, path: str, host: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", world.viewer.server.port, timeout=60)
    connection.putrequest("GET", path, skip_host=True)
    connection.putheader("Host", host)
    connection.endheaders()
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


@pytest.mark.parametrize("path", ["/", "/agentwrap-assets/feed.js", "/static/js/bokeh.min.js", "/frames"])
def test_a_foreign_host_is_refused_everywhere(world: World, path: str) -> None:
    assert status(world, path, "evil.example") == 403
    assert status(world, path, f"evil.example:{world.viewer.server.port}") == 403
    assert status(world, path, f"127.0.0.1:{world.viewer.server.port}") in (200, 400)  # 400: no WebSocket handshake


def test_assets_are_the_scripts_and_nothing_else(world: World) -> None:
    host = f"localhost:{world.viewer.server.port}"
    assert status(world, "/agentwrap-assets/stage.js", host) == 200
    for path in ("stage.py", "../server.py", "%2e%2e/server.py", "__init__.py"):
        assert status(world, f"/agentwrap-assets/{path}", host) == 404


@pytest.mark.parametrize("origin", ["http://evil.example", "http://evil.example:80", "null"])
def test_a_foreign_origin_is_refused(world: World, origin: str) -> None:
    for path in ("frames", "ws"):
        with pytest.raises(InvalidStatus) as refused:
            connect(f"ws://127.0.0.1:{world.viewer.server.port}/{path}", origin=origin)
        assert refused.value.response.status_code == 403


def test_a_stalled_tab_gets_two_messages_and_the_newest_when_it_reads_again(world: World) -> None:
    address = f"127.0.0.1:{world.viewer.server.port}"
    with connect(f"ws://{address}/frames", origin=f"http://{address}") as tab:
        world.agent.play(60)
        messages = [tab.recv(60) for _ in range(IN_FLIGHT)]
        assert [header(message)["number"] for message in messages] == [1, 2]
        begun = world.agent.number
        store = world.viewer.store
        eventually(lambda: (newest := world.viewer.do(lambda: store.newest)) is not None and newest.step >= begun + 60)
        with pytest.raises(TimeoutError):
            tab.recv(0.2)
        tab.send(json.dumps({"do": "painted"}))
        newest = header(tab.recv(60))
        assert newest["number"] == IN_FLIGHT + 1
        assert newest["sections"]["status"]["step"] >= begun + 50, "a stale frame was waiting"


def test_nonsense_from_a_tab_is_ignored(world: World) -> None:
    address = f"127.0.0.1:{world.viewer.server.port}"
    with connect(f"ws://{address}/frames", origin=f"http://{address}") as tab:
        first = header(tab.recv(60))
        for text in ("", "{", "[]", '{"do": "dance"}', '{"do": "play", "speed": 99}', '{"do": "move"}', b"\xff\x00"):
            tab.send(text)
        tab.send(json.dumps({"do": "painted"}))
        assert header(tab.recv(60))["number"] == first["number"] + 1


def header(message: bytes | str) -> dict:
    assert isinstance(message, bytes)
    length = int.from_bytes(message[:4], "little")
    return json.loads(message[4 : 4 + length])


def test_a_taken_port_is_named(world: World) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortTakenError, match=rf"port {port} is in use.*--port"):
            serve(world.viewer.receiver, port=port)


@pytest.mark.parametrize(("name", "module"), [(name, importlib.import_module(name)) for name in ClosedTabs.LOGGERS[:2]])
def test_that_a_tab_was_closed_is_not_logged_and_all_else_is(
    world: World, name: str, module: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    assert ClosedTabs.TEXT in inspect.getsource(module), "it is said in other words now"
    logging.getLogger(name).warning(ClosedTabs.TEXT)
    logging.getLogger(name).warning("another thing")
    assert [each.getMessage() for each in caplog.records if each.name == name] == ["another thing"]


def test_a_message_that_nobody_asked_about_is_not_logged_where_its_tab_was_closed(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def raise_later(error: Exception) -> None:
        raise error

    def write() -> None:
        for error in (WebSocketClosedError(), OSError("another thing")):
            asyncio.get_running_loop().create_task(raise_later(error))

    world.viewer.do(write)
    deadline = time.monotonic() + 60
    while "OSError: another thing" not in caplog.text:
        gc.collect()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "WebSocketClosedError" not in caplog.text
