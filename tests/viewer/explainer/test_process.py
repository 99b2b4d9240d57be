"""The real process, over real sockets."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch
import zmq
from children import alive
from listener import eventually

import agentwrap_viewer.explainer.__main__ as main_module
from agentwrap_protocol.messages import Bye, Explainer, Ping, Resend
from agentwrap_viewer.saliency import explain


@pytest.fixture
def followed(agents, explainer, eye):
    """An agent whose policy is known to the explainer that follows it."""
    agent = agents().export(eye)
    explainer.configure(source=agent.publisher.endpoint)
    explainer.wait_for_state("ready")
    return agent, explainer


def test_step_gets_a_coarse_map_and_finer_ones(followed, eye):
    agent, explainer = followed
    agent.step(eye)
    explainer.wait_for_map(1, refined=1)
    maps = explainer.maps()
    refined = [each.refined for each in maps]
    assert len(maps) >= 2 and refined == sorted(refined) and refined[0] < 0.2
    assert {each.step for each in maps} == {1} and {each.source for each in maps} == {agent.stream}
    expected = explain(eye.module, eye.observe(1), target=("actor", "critic"))
    for target, each in zip(("actor", "critic"), expected, strict=True):
        for name in ("grid", "heatmap"):
            computed, wanted = maps[-1].arrays[f"{name}/{target}"], getattr(each, name)
            np.testing.assert_allclose(computed, wanted, rtol=0, atol=1e-4 * wanted.max())


def test_map_says_how_it_was_made(followed, eye):
    agent, explainer = followed
    step = agent.step(eye, policy_stale=True, episode=7)
    found = explainer.wait_for_map(1, refined=1)
    assert (found.policy_version, found.policy_stale, found.episode) == (1, True, 7)
    assert found.step_time == step.time and found.seconds > 0 and found.forwards == 64
    assert found.replica_max_abs_diff < 1e-5
    assert found.method == "perturbation" and found.targets == ("actor", "critic")
    assert found.options == {
        "stride": 5,
        "mask_sigma": 5.0,
        "blur_sigma": 3.0,
        "mask_cut": 0.0,
        "flat": 0.0,
        "frames": "all",
    }


def test_newest_step_comes_before_those_that_waited(followed, eye):
    agent, explainer = followed
    for _ in range(300):
        agent.step(eye)
    explainer.wait_for_map(300, refined=1)
    steps = [each.step for each in explainer.maps()]
    assert steps == sorted(steps) and len(set(steps)) < 300
    assert all(each.refined == 1 for each in explainer.maps()[-1:])


def test_step_asked_for_is_explained_though_newer_ones_come(followed, eye):
    agent, explainer = followed
    asked = agent.step(eye)
    for _ in range(50):
        agent.step(eye)
    assert explainer.explain(asked).ok
    found = explainer.wait_for_map(asked.step, refined=1)
    assert found.step_time == asked.time
    agent.step(eye)
    explainer.wait_for_map(52)


def test_step_of_another_stream_is_refused(followed, eye):
    _, explainer = followed
    reply = explainer.explain(eye.step(1))
    assert not reply.ok and "which is not followed" in reply.problem


def test_vector_observation_gets_scores_of_its_features(agents, explainer, touch):
    agent = agents().export(touch)
    explainer.configure(source=agent.publisher.endpoint)
    state = explainer.wait_for_state("ready")
    assert state.method == "feature_perturbation"
    names = {method.name for method in state.methods}
    assert names >= {"feature_perturbation", "integrated_gradients"} and not names & {"perturbation", "grad_cam"}
    for _ in range(5):
        agent.step(touch)
    found = explainer.wait_for_map(5, refined=1)
    assert set(found.arrays) == {"features/actor", "features/critic", "output/logits", "output/value"}
    scores = found.arrays["features/actor"]
    assert scores.shape == (4,) and scores[3] == 0 and scores[:3].min() > 0
    assert found.forwards % 4 == 0 and found.method == "feature_perturbation"


def test_settings_change_while_it_runs(followed, eye):
    agent, explainer = followed
    assert explainer.configure(method="occlusion", options={"patch": 8}, budget_ms=5).ok
    state = explainer.wait_for(lambda m: isinstance(m, Explainer) and m.method == "occlusion")
    assert state.options == {"patch": 8, "patch_stride": 4, "fill": 0.0} and state.budget_ms == 5
    agent.step(eye)
    found = explainer.wait_for_map(1, refined=1)
    assert found.method == "occlusion" and found.targets == ("chosen",)
    assert found.arrays["grid/chosen"].shape == (9, 9)


@pytest.mark.parametrize(("method", "grid"), [("grad_cam", (10, 10)), ("integrated_gradients", (40, 40))])
def test_methods_that_take_gradients_explain_the_replica(followed, eye, method, grid):
    agent, explainer = followed
    assert explainer.configure(method=method, options={}).ok
    explainer.wait_for(lambda m: isinstance(m, Explainer) and m.method == method)
    agent.step(eye)
    found = explainer.wait_for_map(1, refined=1)
    assert found.method == method and found.targets == ("chosen",)
    assert found.arrays["grid/chosen"].shape == grid and np.isfinite(found.arrays["heatmap/chosen"]).all()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"method": "magic"}, "possible are perturbation"),
        ({"method": "feature_perturbation"}, "'feature_perturbation' is not possible here"),
        ({"options": {"radius": 3}}, "it has stride, mask_sigma"),
        ({"options": {"stride": 0}, "budget_ms": 7.0}, "from 1 up to 64"),
        ({"source": "somewhere", "budget_ms": 7.0}, "not an endpoint: use tcp://"),
        ({"source": "tcp://127.0.0.1:port"}, "not an endpoint: use tcp://"),
    ],
)
def test_settings_that_are_not_possible_are_refused_and_nothing_changes(followed, settings, problem):
    _, explainer = followed
    before = explainer.wait_for_state("ready")
    reply = explainer.configure(**settings)
    assert not reply.ok and problem in reply.problem
    after = explainer.wait_for_state("ready")
    assert (before.method, before.options, before.budget_ms) == (after.method, after.options, after.budget_ms)


def test_ping_is_answered_and_requests_for_agents_are_refused(followed):
    _, explainer = followed
    assert explainer.request(Ping).ok
    assert "not resend" in explainer.request(Resend, kinds=("hello",)).problem


def test_source_can_be_named_later_and_changed(agents, explainer, eye, touch):
    first, second = agents().export(eye), agents().export(touch)
    assert explainer.configure(source=first.publisher.endpoint).ok
    assert explainer.wait_for_state("ready").source == first.stream
    assert explainer.configure(source=second.publisher.endpoint).ok
    assert explainer.wait_for(lambda m: isinstance(m, Explainer) and m.source == second.stream)
    explainer.wait_for_state("ready")
    second.step(touch)
    assert explainer.wait_for_map(1).source == second.stream


def test_agent_that_comes_back_is_followed_by_itself(agents, explainer, eye):
    first = agents().export(eye)
    explainer.configure(source=first.publisher.endpoint)
    explainer.wait_for_state("ready")
    endpoint = first.publisher.endpoint
    first.close()
    explainer.wait_for_state("waiting")
    second = agents(endpoint)
    explainer.wait_for_state("pending")
    second.export(eye)
    assert explainer.wait_for_state("ready").source == second.stream
    second.step(eye)
    assert explainer.wait_for_map(1).source == second.stream


def test_policy_that_was_not_exported_is_said(agents, explainer):
    agent = agents(graph="failed", problem="aten.nonzero stands in the way")
    explainer.configure(source=agent.publisher.endpoint)
    assert explainer.wait_for_state("unable").problem == "aten.nonzero stands in the way"


def test_outputs_that_are_nan_are_said_until_they_are_numbers_again(followed, eye):
    agent, explainer = followed
    nan = eye.weights(version=2)
    agent.publish(eye.weights(version=2, factor=float("nan")))
    agent.step(eye, policy_version=2)
    state = explainer.wait_for_state("unable")
    assert (
        state.problem == "at step 1: the policy's output logits is NaN" and state.policy_version == nan.policy_version
    )
    agent.publish(eye.weights(version=3))
    agent.step(eye, policy_version=3)
    assert explainer.wait_for_map(2).policy_version == 3
    explainer.wait_for_state("ready")


def test_observation_that_the_policy_refuses_is_said(followed, eye):
    agent, explainer = followed
    step = eye.step(1)
    agent.publish(type(step)(**{**fields(step), "arrays": {"observation": np.zeros((2, 9, 9), np.uint8)}}))
    assert "shape (2, 9, 9)" in explainer.wait_for_state("unable").problem


def fields(message):
    return {name: getattr(message, name) for name in message.__struct_fields__}


def test_garbage_harms_nothing(followed, eye):
    agent, explainer = followed
    xpub = agent.publisher
    assert explainer.request(Ping).ok
    for frames in ([b"step"], [b"step", b"\xc1"], [b"weights", b"\x80", b"x" * 100], [b"hello", b"\x93"]):
        explainer.control.send_multipart(frames)
    explainer.control.send_multipart([os.urandom(64) for _ in range(5)])
    assert explainer.request(Ping).ok
    with zmq.Context() as context, context.socket(zmq.XPUB) as rogue:
        rogue.linger = 0
        port = rogue.bind_to_random_port("tcp://127.0.0.1")
        assert explainer.configure(source=f"tcp://127.0.0.1:{port}").ok
        deadline = time.monotonic() + 60
        while rogue.poll(1000) and rogue.recv()[1:] != b"hello" and time.monotonic() < deadline:
            pass
        for _ in range(20):
            rogue.send_multipart([b"step", os.urandom(200)])
            rogue.send_multipart([b"hello", b"\x81\xa7version\x92\x02\x00"])  # protocol 2.0
        explainer.wait_for_state("unable", "speaks protocol 2.0")
    assert explainer.configure(source=xpub.endpoint).ok
    explainer.wait_for_state("ready")
    agent.step(eye)
    explainer.wait_for_map(1)


def test_it_ends_silently(agents, explainers, eye):
    agent = agents().export(eye)
    ways = ("standard input closes", signal.SIGTERM, signal.SIGINT)
    started = [explainers("--source", agent.publisher.endpoint) for _ in ways]  # together: that is quicker
    for how, explainer in zip(ways, started, strict=True):
        explainer.connect().wait_for_state("ready")
        if isinstance(how, signal.Signals):
            explainer.process.send_signal(how)
        assert (how, *explainer.end()) == (how, 0, "")
        assert isinstance(explainer.wait_for(lambda m: isinstance(m, Bye)), Bye)


def test_it_ends_when_its_parent_is_killed():
    parent_code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'agentwrap_viewer.explainer'], stdin=subprocess.PIPE,"
        " stdout=subprocess.PIPE, start_new_session=True)\n"
        "child.stdout.readline(); print(child.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE)
    child = psutil.Process(int(parent.stdout.readline()))
    assert child.is_running()
    parent.kill()
    parent.communicate()
    eventually(lambda: not alive([child]))


def test_it_is_nice_and_listens_on_loopback_alone(explainer):
    process = psutil.Process(explainer.process.pid)
    assert process.nice() >= min(19, psutil.Process().nice() + 10)
    listening = [c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert listening == ["127.0.0.1"] * 2


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(["--source", "nowhere"], "not an endpoint"), (["--device", "abacus"], "device 'abacus' is not usable here")],
)
def test_arguments_that_are_not_possible_are_refused_by_name(arguments, text, caplog, monkeypatch):
    monkeypatch.setattr(main_module, "Lifetime", lambda: None)
    monkeypatch.setattr(main_module, "be_nice", lambda: None)
    threads = torch.get_num_threads()
    assert main_module.main(["--threads", str(threads), *arguments]) == 2
    assert text in caplog.text


def test_few_cores_are_left_to_the_agent():
    assert [main_module.default_threads(cores) for cores in (1, 2, 4, 5, 8, 64)] == [1, 1, 1, 2, 4, 4]


def test_maps_are_counted(followed, eye):
    agent, explainer = followed
    agent.step(eye)
    explainer.wait_for(lambda m: isinstance(m, Explainer) and m.maps_per_second > 0)
    assert explainer.maps()
