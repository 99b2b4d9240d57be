from __future__ import annotations

import logging
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import zmq
from listener import Listener, eventually, requester

from agentwrap import PortTakenError
from agentwrap.heartbeat import Progress
from agentwrap.publisher import Publisher
from agentwrap_protocol import ProtocolError
from agentwrap_protocol import messages as m
from agentwrap_protocol.graph import Graph, Input, Output, Ref
from agentwrap_protocol.spaces import Discrete

STREAM = "a" * 32


class Owner:
    """What a wrapper is to a publisher."""

    def __init__(self) -> None:
        self.steps = 0
        self.hellos = 0
        self.gate = threading.Event()
        self.gate.set()
        self.publisher = Publisher(STREAM, "tcp://127.0.0.1:*", hello=self.hello, progress=self.progress)

    def hello(self, control: str) -> m.Hello:
        self.hellos += 1
        assert self.gate.wait(60)
        return m.Hello(
            stream=STREAM,
            name=f"hello {self.hellos}",
            env_id="Test-v0",
            observation_space=Discrete(n=2),
            action_space=Discrete(n=2),
            control=control,
            policy=m.PolicyInfo(type="Policy"),
        )

    def progress(self) -> Progress:
        return Progress(self.steps, 0)

    def step(self, **arrays: Any) -> None:
        made = m.Step(
            stream=STREAM,
            step=self.steps,
            episode=0,
            episode_step=0,
            reward=0,
            episode_return=0,
            terminated=False,
            truncated=False,
            arrays=arrays,
        )
        self.steps += 1
        self.publisher.publish(made)


@pytest.fixture
def owner() -> Iterator[Owner]:
    owner = Owner()
    yield owner
    owner.publisher.close()


@pytest.fixture
def listener(owner: Owner) -> Iterator[Listener]:
    listener = Listener(owner.publisher.endpoint)
    eventually(lambda: owner.publisher.watched)
    yield listener
    listener.close()


def graph() -> m.PolicyGraph:
    inputs = (Input(name="observation", array="observation", dtype="float32", shape=(-1, 4)),)
    outputs = (Output(name="logits", value=Ref("observation")),)
    return m.PolicyGraph(stream=STREAM, graph=Graph(inputs=inputs, outputs=outputs))


def weights(version: int, size: int = 2) -> m.Weights:
    return m.Weights(stream=STREAM, policy_version=version, step=0, arrays={"w": np.full(size, version, np.float32)})


def test_every_kind_is_numbered_from_0_without_gaps(owner: Owner, listener: Listener) -> None:
    owner.publisher.publish(graph())
    for version in (1, 2, 3):
        owner.publisher.publish(weights(version))
        listener.wait(m.Weights, lambda weights, version=version: weights.policy_version == version)
    for _ in range(5):
        owner.step()
        listener.wait(m.Step, lambda step: step.step == owner.steps - 1)
    for kind in (m.Hello, m.PolicyGraph, m.Weights, m.Step):
        assert [each.seq for each in listener.of(kind)] == list(range(len(listener.of(kind))))


def test_steps_dropped_from_the_queue_leave_a_gap_and_are_counted(owner: Owner, listener: Listener) -> None:
    listener.wait(m.Hello)
    owner.gate.clear()
    hellos = owner.hellos
    owner.publisher.publish_hello()
    eventually(lambda: owner.hellos > hellos)  # the thread is held up
    for _ in range(100):
        owner.step()
    owner.gate.set()
    steps = eventually(lambda: len(listener.of(m.Step)) == 8 and listener.of(m.Step))
    assert [step.seq for step in steps] == list(range(92, 100))
    assert listener.wait(m.Heartbeat, lambda beat: beat.dropped == 92).sent == 8


def test_each_new_subscriber_gets_hello_graph_and_newest_weights(owner: Owner, listener: Listener) -> None:
    owner.publisher.publish(graph())
    owner.publisher.publish(weights(1))
    owner.publisher.publish(weights(2))
    listener.wait(m.Weights, lambda weights: weights.policy_version == 2)
    for _ in range(2):
        late = Listener(owner.publisher.endpoint, "hello", "policy_graph", "weights")
        assert late.wait(m.Hello).control == owner.publisher.control
        assert late.wait(m.PolicyGraph).graph == graph().graph
        assert late.wait(m.Weights).arrays["w"].tolist() == [2, 2]
        late.close()


def test_hello_comes_again_when_told(owner: Owner, listener: Listener) -> None:
    count = int(listener.wait(m.Hello).name.split()[1])
    owner.publisher.publish_hello()
    listener.wait(m.Hello, lambda hello: int(hello.name.split()[1]) > count)


def test_who_wants_no_steps_does_not_watch(owner: Owner) -> None:
    listener = Listener(owner.publisher.endpoint, "hello", "weights", "heartbeat")
    eventually(lambda: owner.publisher.wants("heartbeat"))
    assert not owner.publisher.watched
    assert not owner.publisher.wants("step")
    listener.close()
    eventually(lambda: not owner.publisher.wants("heartbeat"))


def test_heartbeats_tell_the_rate(owner: Owner, listener: Listener) -> None:
    def step() -> None:
        owner.step()
        time.sleep(0.001)

    beat = listener.wait(m.Heartbeat, lambda beat: beat.sent > 0 and beat.seq > 0, between=step)
    assert beat.steps_per_second > 0
    assert beat.step >= beat.sent


def test_requests_are_answered(owner: Owner, listener: Listener) -> None:
    owner.publisher.publish(graph())
    listener.wait(m.PolicyGraph)
    reply = listener.request(m.Ping(stream=requester(), seq=5))
    assert (reply.stream, reply.request, reply.ok, reply.problem) == (STREAM, 5, True, None)
    assert listener.request(m.Resend(stream=requester(), seq=6, kinds=("hello", "policy_graph", "weights"))).ok
    listener.wait(m.PolicyGraph, lambda graph: graph.seq > 0)
    refused = listener.request(m.Configure(stream=requester(), seq=7))
    assert (refused.request, refused.ok) == (7, False)
    assert "answers ping, resend, watch and probe, not configure" in str(refused.problem)


def test_resend_is_held_to_once_a_second(owner: Owner, listener: Listener) -> None:
    owner.publisher.publish(weights(1))
    listener.wait(m.Weights)
    for seq in range(20):
        assert listener.request(m.Resend(stream=requester(), seq=seq, kinds=("weights",))).ok
    listener.wait(m.Weights, lambda weights: weights.seq > 0)
    assert len(listener.of(m.Weights)) < 20


def test_a_req_socket_is_answered_too(owner: Owner) -> None:
    from agentwrap_protocol import decode, encode

    with zmq.Context() as context, context.socket(zmq.REQ) as asking:
        asking.linger = 0
        asking.connect(owner.publisher.control)
        asking.send_multipart(encode(m.Ping(stream=requester(), seq=3)))
        assert asking.poll(60_000)
        assert decode(asking.recv_multipart()).request == 3


def test_garbage_on_the_sockets_is_ignored(owner: Owner, listener: Listener, caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer, context.socket(zmq.XSUB) as xsub:
        dealer.linger = xsub.linger = 0
        dealer.connect(owner.publisher.control)
        xsub.connect(owner.publisher.endpoint)
        for length in range(50):
            dealer.send_multipart([rng.bytes(length) for _ in range(length % 4 + 1)])
            xsub.send(rng.bytes(length))
        dealer.send_multipart([b"ping", b"\x81" * 70_000])
        for control in (owner.publisher.control, owner.publisher.endpoint):
            with socket.create_connection(("127.0.0.1", int(control.rpartition(":")[2]))) as raw:
                raw.sendall(b"GET / HTTP/1.1\r\n\r\n" + rng.bytes(5000))
        with caplog.at_level(logging.WARNING, logger="agentwrap"):
            assert listener.request(m.Ping(stream=requester(), seq=1)).ok
            owner.step()
            listener.wait(m.Step)
    assert owner.publisher.error is None
    assert len(caplog.records) <= 3, "each kind of garbage is logged once"


def test_a_message_that_cannot_be_encoded_is_logged_and_the_stream_goes_on(
    owner: Owner, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    owner.step(text=np.array(["no"]))
    owner.step()
    listener.wait(m.Step, lambda step: step.step == 1)
    assert "could not send step: array 'text' of <U2 does not travel" in caplog.text
    assert isinstance(owner.publisher.error, TypeError)


def test_a_subscriber_that_is_killed_neither_blocks_nor_raises(owner: Owner) -> None:
    code = (
        "import sys, time, zmq; s = zmq.Context().socket(zmq.SUB); s.connect(sys.argv[1]); s.subscribe(b''); "
        "s.recv_multipart(); print('there', flush=True); time.sleep(600)"
    )
    picture = np.zeros((210, 160, 3), np.uint8)
    child = subprocess.Popen([sys.executable, "-c", code, owner.publisher.endpoint], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"there\n"
        os.kill(child.pid, signal.SIGSTOP)  # alive, but it takes nothing: all buffers fill
        for _ in range(500):
            owner.step(frame=picture)
            time.sleep(0.0005)
    finally:
        child.kill()
        child.communicate()
    eventually(lambda: not owner.publisher.watched, between=lambda: owner.step(frame=picture))
    listener = Listener(owner.publisher.endpoint)
    listener.wait(m.Step, between=lambda: owner.step(frame=picture))
    listener.close()
    assert owner.publisher.error is None


def test_who_comes_while_steps_are_sent_is_noticed(owner: Owner, listener: Listener) -> None:
    """The agent's thread uses the same socket, and takes away the signal of what it has received."""
    listener.wait(m.Hello)
    for _ in range(20):
        late = Listener(owner.publisher.endpoint, "hello", "step")
        late.wait(m.Hello, between=owner.step)
        late.wait(m.Step, between=owner.step)
        late.close()
    steps = [step.seq for step in listener.of(m.Step)]
    assert steps == sorted(steps)


def test_who_comes_while_the_agents_thread_does_not_look_is_noticed_all_the_same(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That thread looks only now and then: it may pause just after it took the signal away."""
    monkeypatch.setattr("agentwrap.publisher.LOOK_EVERY", math.inf)
    first = Listener(owner.publisher.endpoint, "step")
    eventually(lambda: owner.publisher.watched)
    owner.step()  # looks for the last time
    for kind in ("hello", "weights", "bye"):
        late = Listener(owner.publisher.endpoint, kind)
        until = time.monotonic() + 0.05
        while time.monotonic() < until:
            owner.step()
        eventually(lambda kind=kind: owner.publisher.wants(kind))
        late.close()
    first.close()


def test_subscriptions_that_come_while_an_older_one_is_served_are_noticed(owner: Owner) -> None:
    """Nothing else wakes the thread here: neither steps nor heartbeats nor requests."""
    for round_ in range(40):
        one = Listener(owner.publisher.endpoint, "hello")
        for pause in range(round_ % 4):
            time.sleep(0.0002 * pause)
        one._socket.subscribe("weights")
        eventually(lambda: owner.publisher.wants("weights"))
        one.close()
        eventually(lambda: not owner.publisher.wants("weights"))


def test_steps_come_after_what_was_published_before_them(owner: Owner, listener: Listener) -> None:
    listener.wait(m.Hello)
    for version in range(1, 50):
        owner.publisher.publish(weights(version))
        owner.step()
    last = listener.wait(m.Step, lambda step: step.step == 48)
    newest = listener.of(m.Weights)[-1]
    assert newest.policy_version == 49
    assert listener.messages.index(newest) < listener.messages.index(last)


def test_ctrl_c_in_the_middle_of_a_message_leaves_the_next_whole(
    owner: Owner, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(bytes):
        def __len__(self) -> int:
            raise KeyboardInterrupt

    owner.step()
    step = listener.wait(m.Step)
    with owner.publisher._using_xpub, monkeypatch.context() as patch:
        patch.setattr("agentwrap.publisher.encode", lambda message: [b"step", Interrupted(b"header"), b"array"])
        with pytest.raises(KeyboardInterrupt):
            owner.publisher._send(step)
    with pytest.raises(ProtocolError):
        listener.wait(m.Step, lambda step: step.step == 1)
    owner.step()
    listener.wait(m.Step, lambda step: step.step == 1)


def test_closing_says_bye_sends_what_waits_and_frees_the_port(owner: Owner, listener: Listener) -> None:
    endpoint = owner.publisher.endpoint
    listener.wait(m.Hello)
    owner.step()
    owner.publisher.close("enough")
    owner.publisher.close("again")
    assert listener.wait(m.Bye).reason == "enough"
    assert listener.of(m.Step)
    owner.step()  # ignored
    owner.publisher.publish_hello()
    owner.publisher._thread.join()
    assert not owner.publisher.watched
    with zmq.Context() as context, context.socket(zmq.XPUB) as again:
        again.bind(endpoint)


def test_closing_tells_how_far_the_agent_came(owner: Owner, listener: Listener) -> None:
    listener.wait(m.Hello)
    owner.steps = 149  # of which none was sent
    owner.publisher.close()
    listener.wait(m.Bye)
    beat = listener.of(m.Heartbeat)[-1]
    assert beat.step == 149 and beat.steps_per_second > 0


def test_a_port_that_is_taken_leaves_nothing_open(owner: Owner) -> None:
    with pytest.raises(PortTakenError):
        Publisher(STREAM, owner.publisher.endpoint, hello=owner.hello, progress=owner.progress)
