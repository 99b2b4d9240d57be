"""What a session makes of the messages of a stream."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentwrap_protocol import Session
from agentwrap_protocol import events as ev
from agentwrap_protocol import graph as g
from agentwrap_protocol import messages as m
from agentwrap_protocol.spaces import Discrete

from .strategies import by_kind, examples

FIRST, SECOND, THIRD = (digit * 32 for digit in "abc")
PAGE = ("hello", "step", "episode_end", "heartbeat", "bye")


def hello(stream=FIRST, *, seq=0, graph="pending", **fields):
    policy = m.PolicyInfo(type="Policy", graph=graph)
    space = Discrete(n=2)
    fields = {"name": "n", "env_id": "e", "observation_space": space, "action_space": space, "policy": policy, **fields}
    return m.Hello(stream=stream, seq=seq, **fields)


def step(stream=FIRST, *, seq=0, policy_version=0):
    return m.Step(
        stream=stream, seq=seq, step=seq, episode=0, episode_step=seq, reward=0.0, episode_return=0.0, terminated=False,
        truncated=False, policy_version=policy_version,
    )  # fmt: skip


def weights(version, *, seq=0, stream=FIRST):
    return m.Weights(stream=stream, seq=seq, policy_version=version, step=0)


def policy_graph(*, seq=0, stream=FIRST, shift=0.0, op="aten.relu.default"):
    graph = g.Graph(
        inputs=(g.Input(name="x", array="observation", dtype="float32", shape=(-1,)),),
        nodes=(g.Node(name="y", op=op, args=(g.Ref("x"), g.Number(float("nan")))),),
        outputs=(g.Output(name="logits", value=g.Ref("y")),),
    )
    return m.PolicyGraph(stream=stream, seq=seq, graph=graph, arrays={"constant/c": np.array(shift)})


def kinds_of(events):
    return [type(event).__name__ for event in events]


def after(*messages, **options):
    """A session that has received these messages."""
    session = Session(**options)
    for message in messages:
        session.receive(message)
    return session


def only(events, kind):
    (event,) = events
    assert isinstance(event, kind), event
    return event


# ── beginning ──


def test_a_stream_starts_with_its_hello():
    session = Session()
    assert (session.state, session.stream) == ("waiting", None)
    message = hello()
    event = only(session.receive(message), ev.StreamStarted)
    assert (event.introduction, event.dropped) == (message, 0)
    assert (session.state, session.stream) == ("live", FIRST)


def test_an_explainers_stream_starts_with_its_state_which_is_told_each_time():
    session = Session(("explainer", "saliency_map", "bye"))
    states = [
        m.Explainer(stream=FIRST, seq=seq, state=state) for seq, state in enumerate(("waiting", "ready", "ready"))
    ]
    started, received = session.receive(states[0])
    assert isinstance(started, ev.StreamStarted) and started.introduction is states[0]
    assert isinstance(received, ev.MessageReceived) and received.message is states[0]
    for state in states[1:]:
        assert only(session.receive(state), ev.MessageReceived).message is state
        assert session.introduction is state


def test_what_comes_before_the_hello_is_dropped_and_counted():
    session = Session()
    for early in (step(seq=7), weights(3), policy_graph(), m.Bye(stream=FIRST), step(SECOND)):
        assert session.receive(early) == []
    assert session.state == "waiting"
    assert only(session.receive(hello()), ev.StreamStarted).dropped == 5
    received = session.receive(step(seq=9))
    assert kinds_of(received) == ["MessageReceived"], "what was sent before we joined is no gap"


def test_data_passes_through():
    session = after(hello())
    passing = [step(), m.Heartbeat(stream=FIRST), m.SaliencyMap(
        stream=FIRST, source=SECOND, step=0, method="m", targets=(), refined=1.0, seconds=0.0, forwards=0,
    ), m.EpisodeEnd(
        stream=FIRST, episode=0, step=0, length=1, episode_return=0.0, seconds=0.0, reason="closed",
    )]  # fmt: skip
    for message in passing:
        assert only(session.receive(message), ev.MessageReceived).message is message


# ── what changes ──


def test_a_hello_that_says_nothing_new_is_no_event():
    session = after(hello())
    later = {"episodes/number": np.arange(3)}
    assert session.receive(hello(seq=1, time=5.0, arrays=later)) == []
    changed = hello(seq=2, graph="failed")
    assert only(session.receive(changed), ev.StreamUpdated).hello is changed
    assert session.introduction is changed


def test_a_graph_is_told_once_and_again_when_it_changes():
    session = after(hello())
    first = policy_graph()
    assert only(session.receive(first), ev.GraphReceived).graph is first
    assert session.receive(policy_graph(seq=1)) == []
    assert kinds_of(session.receive(policy_graph(seq=2, shift=1.0))) == ["GraphReceived"]
    assert kinds_of(session.receive(policy_graph(seq=3, shift=1.0, op="aten.tanh.default"))) == ["GraphReceived"]


def test_weights_are_told_when_they_are_newer():
    session = after(hello())
    newer = weights(2)
    assert only(session.receive(newer), ev.WeightsReceived).weights is newer
    assert session.receive(weights(2, seq=1)) == []
    assert session.receive(weights(1, seq=2)) == []
    assert kinds_of(session.receive(weights(3, seq=3))) == ["WeightsReceived"]
    assert session.policy_version == 3


# ── what is lost ──


def test_a_jump_in_seq_is_a_gap_of_that_kind():
    session = after(hello(), step(seq=4), m.Heartbeat(stream=FIRST, seq=1))
    gap, received = session.receive(step(seq=8))
    assert (gap.kind, gap.missing) == ("step", 3)
    assert isinstance(received, ev.MessageReceived)
    assert kinds_of(session.receive(m.Heartbeat(stream=FIRST, seq=2))) == ["MessageReceived"]


def test_late_and_repeated_messages_are_ignored():
    session = after(hello(), step(seq=4))
    assert session.receive(step(seq=4)) == session.receive(step(seq=2)) == session.receive(hello(seq=0)) == []
    assert session.ignored == 3


def test_a_step_with_newer_weights_than_held_tells_at_once_that_they_were_lost():
    session = after(hello(graph="exported"), policy_graph(), weights(1))
    received, missing = session.receive(step(policy_version=2))
    assert isinstance(received, ev.MessageReceived)
    assert (missing.policy_version, missing.held) == (2, 1)
    assert kinds_of(session.receive(step(seq=1, policy_version=2))) == ["MessageReceived"], "told once"
    assert kinds_of(session.receive(step(seq=2, policy_version=3))) == ["MessageReceived", "WeightsMissing"]
    session.receive(weights(3, seq=2))
    assert kinds_of(session.receive(step(seq=3, policy_version=3))) == ["MessageReceived"]


def test_a_policy_without_a_graph_has_versions_and_no_weights_that_could_be_lost():
    session = after(hello(graph="failed"), step(policy_version=1), patience=2.0)
    assert kinds_of(session.receive(step(seq=1, policy_version=2))) == ["MessageReceived"]
    assert [kinds_of(session.advance(float(second))) for second in range(4)] == [[]] * 4


def test_missing_weights_are_told_again_until_they_arrive():
    session = after(hello(graph="exported"), policy_graph(), weights(1), step(policy_version=2), patience=2.0)
    told = []
    for second in range(10):
        session.receive(m.Heartbeat(stream=FIRST, seq=second))
        told += [second for event in session.advance(100.0 + second) if isinstance(event, ev.WeightsMissing)]
        if second == 5:
            session.receive(weights(2, seq=1))
    assert told == [2, 4]


def test_somebody_who_joins_is_given_time_before_graph_and_weights_are_missed():
    session = after(hello(graph="exported"), patience=2.0)
    assert kinds_of(session.receive(step(policy_version=4))) == ["MessageReceived"]
    assert session.advance(0.0) == session.advance(1.9) == []
    graph, lost = session.advance(2.0)
    assert isinstance(graph, ev.GraphMissing)
    assert (lost.policy_version, lost.held) == (4, 0)
    session.receive(policy_graph())
    session.receive(weights(4))
    assert session.advance(4.0) == []


def test_what_arrives_in_time_is_not_missed():
    session = after(hello(graph="exported"), patience=2.0)
    assert session.advance(0.0) == []
    session.receive(policy_graph())
    session.receive(weights(1))
    assert session.advance(2.5) == []


def test_a_page_does_not_miss_what_it_did_not_subscribe_to():
    session = after(hello(graph="exported"), step(policy_version=1), kinds=PAGE)
    assert kinds_of(session.receive(step(seq=1, policy_version=2))) == ["MessageReceived"]
    assert session.advance(0.0) == session.advance(3.0) == []


# ── silence ──


def test_a_stream_falls_silent_once_and_resumes():
    session = after(hello(), silence=5.0)
    assert session.advance(100.0) == session.advance(104.9) == []
    assert only(session.advance(105.5), ev.Silent).seconds == pytest.approx(5.5)
    assert session.state == "silent"
    assert session.advance(200.0) == []
    assert kinds_of(session.receive(step())) == ["Resumed", "MessageReceived"]
    assert session.state == "live"
    assert session.advance(300.0) == session.advance(304.0) == []
    assert kinds_of(session.advance(305.0)) == ["Silent"]


def test_any_message_of_the_stream_breaks_the_silence_and_no_other():
    session = after(hello(), silence=5.0)
    session.advance(0.0)
    session.receive(m.Heartbeat(stream=FIRST))
    assert session.advance(4.0) == session.advance(8.0) == []
    session.receive(m.Heartbeat(stream=SECOND))
    assert kinds_of(session.advance(9.0)) == ["Silent"]


@pytest.mark.parametrize("messages", [(), (hello(), m.Bye(stream=FIRST))])
def test_no_stream_no_silence(messages):
    session = after(*messages)
    assert session.advance(0.0) == session.advance(1000.0) == []


def test_a_clock_that_goes_back_does_no_harm():
    session = after(hello(graph="exported"), silence=5.0)
    assert session.advance(1000.0) == session.advance(0.0) == session.advance(-5.0) == []


def test_a_silent_stream_is_not_pressed_for_weights():
    session = after(hello(graph="exported"), silence=5.0, patience=2.0)
    told = [kinds_of(session.advance(float(second))) for second in range(12)]
    assert told.count(["GraphMissing", "WeightsMissing"]) == 2 and all(not events for events in told[6:])


# ── ends and restarts ──


def test_a_stream_ends_with_bye_and_the_rest_of_it_is_ignored():
    session = after(hello())
    bye = m.Bye(stream=FIRST, reason="closed")
    assert only(session.receive(bye), ev.StreamEnded).bye is bye
    assert session.state == "ended"
    assert session.receive(step()) == session.receive(hello(seq=1)) == []
    assert session.ignored == 2


@pytest.mark.parametrize("ending", [(), (m.Bye(stream=FIRST),)])
def test_a_restarted_agent_replaces_the_stream(ending):
    session = after(hello(graph="exported"), policy_graph(), weights(7), step(seq=50, policy_version=7), *ending)
    assert session.receive(step(SECOND, seq=0)) == [], "before its hello"
    event = only(session.receive(hello(SECOND)), ev.StreamReplaced)
    assert (event.previous, event.introduction.stream, event.dropped) == (FIRST, SECOND, 1)
    assert (session.state, session.stream, session.policy_version) == ("live", SECOND, 0)
    assert kinds_of(session.receive(step(SECOND, seq=1))) == ["MessageReceived"], "counting starts anew"
    assert kinds_of(session.receive(policy_graph(stream=SECOND))) == ["GraphReceived"], "also where it is the same"
    assert kinds_of(session.receive(weights(1, stream=SECOND))) == ["WeightsReceived"]


def test_what_is_left_of_an_old_stream_is_ignored():
    session = after(hello(), hello(SECOND))
    for old in (step(seq=1), hello(seq=5), m.Bye(stream=FIRST), weights(9)):
        assert session.receive(old) == []
    assert (session.stream, session.ignored) == (SECOND, 4)


def test_a_silent_stream_that_is_replaced_does_not_resume():
    session = after(hello(), silence=5.0)
    session.advance(0.0)
    session.advance(6.0)
    assert kinds_of(session.receive(hello(SECOND))) == ["StreamReplaced"]
    assert session.advance(7.0) == []


def test_old_streams_are_remembered_within_bounds():
    session = Session()
    for number in range(1000):
        session.receive(hello(f"{number:032x}"))
    assert len(session._past) == 64
    assert session.receive(hello(f"{998:032x}", seq=1)) == []


# ── whatever comes ──

any_message = st.sampled_from(sorted(by_kind)).flatmap(lambda kind: by_kind[kind])


@examples(100)
@given(
    messages=st.lists(any_message, max_size=12),
    streams=st.lists(st.sampled_from([FIRST, SECOND, THIRD])),
    now=st.floats(),
)
def test_no_message_and_no_time_raises(messages, streams, now):
    session = Session()
    for message, stream in zip(messages, [*streams, *[FIRST] * len(messages)], strict=False):
        for event in session.receive(msgspec.structs.replace(message, stream=stream)):
            assert isinstance(event, ev.Event)
        session.advance(now)


@examples(300)
@given(
    seqs=st.lists(st.integers(0, 30), min_size=1, max_size=40),
    kinds=st.lists(st.sampled_from(["step", "heartbeat"]), min_size=40, max_size=40),
)
def test_gaps_and_messages_add_up_in_any_order(seqs, kinds):
    """In whatever order, repeated or lost: received + missing = last - first + 1, for each kind."""
    session = after(hello())
    received, missing, numbers = ({"step": [], "heartbeat": []} for _ in range(3))
    for seq, kind in zip(seqs, kinds, strict=False):
        message = step(seq=seq) if kind == "step" else m.Heartbeat(stream=FIRST, seq=seq)
        numbers[kind].append(seq)
        for event in session.receive(message):
            if isinstance(event, ev.Gap):
                missing[event.kind].append(event.missing)
            else:
                received[event.message.kind].append(event.message.seq)
    for kind in received:
        if numbers[kind]:
            assert received[kind] == sorted(set(received[kind]))
            assert len(received[kind]) + sum(missing[kind]) == max(numbers[kind]) - numbers[kind][0] + 1
    assert session.ignored == len(seqs[:40]) - sum(map(len, received.values()))
