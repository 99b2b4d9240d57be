"""From real sockets into the store, and requests back to the explainer."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
from fakes import FakeAgent, FakeExplainer
from listener import eventually

from agentwrap_protocol.announcement import Announcement, directory, encode_announcement
from agentwrap_protocol.messages import Configure, Explain
from agentwrap_viewer.page.discovery import is_running, live_streams
from agentwrap_viewer.page.receiver import Receiver
from agentwrap_viewer.page.store import Store


async def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)
    return value


@asynccontextmanager
async def receiving(endpoint: str | None = None, **options: Any) -> AsyncIterator[Receiver]:
    receiver = Receiver(Store(), endpoint, **options)
    task = asyncio.create_task(receiver.run())
    try:
        yield receiver
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


def announcement(
    agent: FakeAgent,
    *,
    name: str = "fake",
    endpoint: str | None = None,
    pid: int | None = None,
    started: float = 0.0,
) -> Announcement:
    return Announcement(
        stream=agent.stream,
        endpoint=endpoint or agent.endpoint,
        name=name,
        env_id="Fake-v0",
        pid=os.getpid() if pid is None else pid,
        started=started,
        version=(1, 0),
    )


def test_takes_in_a_stream_and_counts_as_a_watcher() -> None:
    async def work() -> None:
        agent = FakeAgent().play(50)
        async with receiving(agent.endpoint) as receiver:
            await until(lambda: receiver.store.newest and receiver.store.newest.step > 5)
            assert agent.watched
            assert receiver.store.hello.env_id == "Fake/Drive-v0"
            agent.close("done")
            await until(lambda: receiver.store.connection == "ended")

    run(work())


def test_an_agent_that_is_killed_is_gone_and_one_that_hangs_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        agent = FakeAgent().play(20)
        streams = [announcement(agent)]
        async with receiving(agent.endpoint, find_streams=lambda: streams) as receiver:
            store = receiver.store
            await until(lambda: store.newest and store.announced)
            agent.close()
            monkeypatch.setattr(store, "_clock", lambda: time.monotonic() + 60)
            await until(lambda: store.connection == "silent")
            streams.clear()
            await until(lambda: store.connection == "gone")

    run(work())


def test_garbage_is_counted_and_another_version_is_told() -> None:
    async def work() -> None:
        agent = FakeAgent().play(20)
        async with receiving(agent.endpoint) as receiver:
            await until(lambda: receiver.store.newest)
            agent.send_raw([b"step"])
            agent.send_raw([b"step", b"\xc1 garbage"])
            await until(lambda: receiver.store.rejected == 2)
            assert receiver.store.connection == "connected"
            agent.pause()
            agent.send_raw([b"step", msgpack.packb({"version": [2, 0], "stream": agent.stream})])
            await until(lambda: receiver.store.problem)
            assert "protocol 2.0" in receiver.store.problem
            agent.play(20)
            await until(lambda: receiver.store.connection == "connected")
        agent.close()

    run(work())


def test_settings_reach_the_explainer_and_every_one_after_it() -> None:
    async def work() -> None:
        agent, first, second = FakeAgent(), FakeExplainer(), FakeExplainer()
        async with receiving(agent.endpoint) as receiver:
            receiver.configure(method="sarfa")
            receiver.explain_with(first.endpoint, first.control)
            await until(lambda: first.requests)
            assert (first.requests[0].source, first.requests[0].method) == (agent.endpoint, "sarfa")
            receiver.configure(options={"mode": "black"})
            receiver.configure(budget_ms=80.0)
            await until(lambda: receiver.store.explainer and receiver.store.explainer.budget_ms == 80.0)
            assert receiver.store.explainer.options["mode"] == "black"
            receiver.explain_with(second.endpoint, second.control)
            asked = await until(lambda: [r for r in second.requests if isinstance(r, Configure)])
            assert (asked[0].method, asked[0].options, asked[0].budget_ms) == ("sarfa", {"mode": "black"}, 80.0)
            receiver.configure(method="perturbation")
            await until(lambda: receiver.store.explainer and receiver.store.explainer.method == "perturbation")
        for fake in (agent, first, second):
            fake.close()

    run(work())


def test_a_step_is_asked_for_once() -> None:
    async def work() -> None:
        agent, explainer = FakeAgent().play(30), FakeExplainer()
        async with receiving(agent.endpoint) as receiver:
            receiver.explain_with(explainer.endpoint, explainer.control)
            wanted = await until(lambda: receiver.store.newest)
            for _ in range(5):
                receiver.explain(wanted)
            await until(lambda: receiver.store.maps.get(wanted.step))
            assert len([r for r in explainer.requests if isinstance(r, Explain)]) == 1
        agent.close()
        explainer.close()

    run(work())


def test_follows_the_announced_stream_and_its_heir_of_the_same_name() -> None:
    async def work() -> None:
        agent, stranger = FakeAgent().play(20), FakeAgent().play(20)
        streams = [announcement(agent)]
        async with receiving(find_streams=lambda: list(streams)) as receiver:
            await until(lambda: receiver.store.newest)
            assert receiver.endpoint == agent.endpoint
            streams[:] = [announcement(stranger, name="another")]
            agent.close("done")
            await until(lambda: receiver.store.connection == "ended")
            heir = FakeAgent().play(20)
            streams.append(announcement(heir))
            await until(lambda: receiver.store.stream == heir.stream)
            receiver.follow(stranger.endpoint)
            await until(lambda: receiver.store.stream == stranger.stream)
        stranger.close()
        heir.close()

    run(work())


def test_an_endpoint_that_is_none_is_named() -> None:
    async def work() -> None:
        with pytest.raises(ValueError, match="'nonsense' is not an endpoint: use tcp"):
            await Receiver(Store(), "nonsense").run()

    run(work())


def test_announcements_of_dead_processes_are_removed_and_rubbish_is_skipped(runtime_directory: Path) -> None:
    agent = FakeAgent()
    folder = directory()
    assert live_streams() == []
    folder.mkdir(parents=True)
    old, new = announcement(agent, endpoint="ipc:///old", started=1.0), announcement(agent, name="new", started=2.0)
    dead = announcement(agent, pid=2**22 + 1)  # beyond Linux's largest
    gone = announcement(agent, name="gone", started=1.5)  # where another listens now
    for name, content in {
        "a": encode_announcement(old),
        "b": encode_announcement(new),
        "c": encode_announcement(dead),
        "z": encode_announcement(gone),
        "d": b"{",
        "e": b"x" * 100_000,
    }.items():
        (folder / f"{name}.json").write_bytes(content)
    (folder / "f.json").mkdir()
    assert live_streams() == [new, old]
    assert sorted(file.name for file in folder.iterdir()) == [
        "a.json",
        "b.json",
        "d.json",
        "e.json",
        "f.json",
        "z.json",
    ]
    agent.close()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux says so where it can be read")
def test_a_killed_process_whose_parent_has_not_noticed_is_dead() -> None:
    killed = subprocess.Popen(["sleep", "100"])
    assert is_running(killed.pid)
    killed.kill()
    try:
        eventually(lambda: not is_running(killed.pid))
        os.kill(killed.pid, 0)  # it is there all the same
    finally:
        killed.wait()
