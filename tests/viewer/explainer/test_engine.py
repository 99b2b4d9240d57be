"""The engine without sockets: messages in, maps out."""

import math

import fakes
import msgspec
import numpy as np
import pytest

from agentwrap_protocol.messages import Bye, Configure, Explain, Hello, PolicyInfo
from agentwrap_protocol.spaces import Discrete
from agentwrap_viewer.explainer import job
from agentwrap_viewer.explainer import schedule as scheduling
from agentwrap_viewer.explainer.engine import Engine
from agentwrap_viewer.explainer.job import max_abs_diff
from agentwrap_viewer.saliency import SaliencyError

STREAM = "a" * 32


class Bench:
    """An engine, with an agent's messages numbered as they come."""

    def __init__(self, trained):
        self.trained, self.time = trained, 0.0
        self.engine = Engine("e" * 32, lambda: self.time)
        self.counts = {}
        self.put(fakes.hello(policy=PolicyInfo(type="Eye", graph="exported")))
        self.put(trained.graph())
        self.put(trained.weights())

    def put(self, message, **fields):
        number = self.counts.get(message.kind, 0)
        self.counts[message.kind] = number + 1
        self.engine.receive(msgspec.structs.replace(message, **{"stream": STREAM, "seq": number, **fields}))

    def step(self, number, **fields):
        self.put(self.trained.step(number, **fields))

    def ask(self, number, source=STREAM, *, whole=False):
        step = self.trained.step(number)
        self.engine.explain(Explain(stream="b" * 32, source=source, step=number, whole=whole, arrays=step.arrays))

    def configure(self, **fields):
        self.engine.configure(Configure(stream="b" * 32, **fields))

    def work(self):
        """Work once; return (step, refined) of the map, or None."""
        found = self.engine.work()
        return None if found is None else (found.step, round(found.refined, 3))

    def work_all(self):
        maps = []
        while self.engine.busy:
            found = self.engine.work()
            maps += [] if found is None else [found]
        return maps


@pytest.fixture
def bench(eye):
    return Bench(eye)


def test_nothing_to_do_is_not_busy(bench):
    assert not bench.engine.busy and bench.engine.work() is None
    assert bench.engine.status()["state"] == "ready"


def test_step_is_refined_to_the_end_while_no_newer_one_comes(bench):
    bench.step(1)
    assert [(m.step, m.forwards) for m in bench.work_all()] == [(1, 9), (1, 25), (1, 64)]


def test_picture_beside_a_vector_is_refined_to_the_end(eye_and_touch, monkeypatch):
    """A vector has a single level, a picture three: each of these is published, and the last."""
    monkeypatch.setattr(job, "SLICE_MS", math.inf)
    bench = Bench(eye_and_touch)
    bench.step(1)
    maps = bench.work_all()
    vector = sum(maps[-1].arrays["features/actor/touch"].shape)
    assert [m.forwards - vector for m in maps] == [9, 25, 64]
    assert maps[-1].refined == 1


def test_coarse_map_of_a_step_is_published_before_a_newer_one_takes_its_place(bench):
    bench.configure(budget_ms=1, options={"stride": 1})  # 1,600 spots: several chunks for each level
    bench.step(1)
    seen = [bench.work()]
    for number in range(2, 30):
        bench.step(number)
        seen.append(bench.work())
    published = [entry for entry in seen if entry]
    first = {step: next(refined for s, refined in published if s == step) for step, _ in published}
    assert len(first) >= 5 and set(first.values()) == {round(121 / 1600, 3)}
    assert [step for step, _ in published] == sorted(step for step, _ in published)


def test_budget_left_refines_before_a_newer_step_takes_its_place(bench):
    bench.configure(budget_ms=60_000)
    bench.step(1)
    bench.work()
    bench.step(2)
    assert [(m.step, m.forwards) for m in bench.work_all()] == [(1, 25), (1, 64), (2, 9), (2, 25), (2, 64)]


def test_what_was_computed_is_published_when_a_newer_step_takes_its_place(bench, monkeypatch):
    monkeypatch.setattr(job, "SLICE_MS", math.inf)  # publish whole levels; the finest has several blocks
    bench.configure(budget_ms=1, options={"stride": 1})
    bench.step(1)
    coarse = next(filter(None, iter(bench.work, "never")))
    for _ in range(20):
        if bench.engine._schedule._live[0].unpublished:
            break
        bench.engine.work()
    bench.step(2)
    step, refined = bench.work()
    assert (step, refined > coarse[1]) == (1, True)
    assert bench.work_all()[0].step == 2


def test_request_comes_first_and_the_live_step_goes_on_after_it(bench):
    bench.configure(budget_ms=60_000)
    bench.step(9)
    assert bench.work() == (9, round(9 / 64, 3))
    bench.ask(3)
    bench.ask(3)  # asked for twice, explained once
    bench.ask(4)
    assert [(m.step, m.forwards) for m in bench.work_all()] == [
        (3, 9), (3, 25), (3, 64), (4, 9), (4, 25), (4, 64), (9, 25), (9, 64),
    ]  # fmt: skip


def test_what_is_to_be_whole_leaves_newer_steps_and_hurried_requests_their_turn(bench):
    bench.configure(budget_ms=1, options={"stride": 1})
    bench.ask(1000, whole=True)
    seen = []
    for number in range(1, 300):
        bench.step(number)
        seen.append(bench.work())
        if number == 20:
            bench.ask(2000)
    shown = [entry for entry in seen if entry]
    whole = [index for index, (step, _) in enumerate(shown) if step == 1000]
    assert shown[whole[-1]] == (1000, 1.0)
    between = {step for step, _ in shown[: whole[-1]]} - {1000}
    assert 2000 in between and len(between) > 3, "live steps had maps while it was computed, and a request came first"


def test_what_is_to_be_whole_goes_on_where_nothing_else_is_wanted(bench):
    bench.ask(3, whole=True)
    bench.ask(3, whole=True)
    assert [(m.step, m.forwards) for m in bench.work_all()] == [(3, 9), (3, 25), (3, 64)]


def test_requests_that_wait_are_bounded_and_the_oldest_gives_way(bench):
    for number in range(100):
        bench.ask(number)
    steps = [m.step for m in bench.work_all() if m.refined == 1]
    assert steps == list(range(100 - scheduling.REQUESTS, 100))


def test_steps_that_wait_are_one(bench):
    for number in range(1, 50):
        bench.step(number)
    assert {m.step for m in bench.work_all()} == {49}


def test_request_for_another_stream_is_refused(bench):
    with pytest.raises(SaliencyError, match="not followed"):
        bench.ask(1, source="c" * 32)


def test_last_step_is_explained_though_the_agent_has_ended(bench):
    bench.step(1)
    bench.put(Bye(stream=STREAM))
    assert bench.engine.status()["state"] == "waiting"
    last = bench.work_all()[-1]
    assert (last.step, last.refined) == (1, 1)


def test_request_is_answered_after_the_agent_has_ended(bench):
    bench.step(1)
    bench.work_all()
    bench.put(Bye(stream=STREAM))
    bench.ask(1)
    assert bench.work_all()[-1].refined == 1


def test_map_is_computed_with_the_weights_of_one_version(bench, eye):
    bench.configure(budget_ms=60_000)
    bench.step(1)
    bench.work()
    bench.put(eye.weights(version=2, factor=2.0))
    bench.step(2, policy_version=2)
    versions = {(m.step, m.policy_version) for m in bench.work_all()}
    assert versions == {(1, 1), (2, 2)}


def test_live_map_begins_anew_when_a_request_brought_other_weights(bench, eye):
    bench.configure(budget_ms=60_000)
    bench.step(1)
    bench.work()
    bench.put(eye.weights(version=2))
    bench.ask(0)
    maps = bench.work_all()
    assert [(m.step, m.policy_version, m.forwards) for m in maps][-3:] == [(1, 2, 9), (1, 2, 25), (1, 2, 64)]


def test_replica_is_compared_with_what_the_agent_computed(bench, eye):
    bench.step(1)
    assert bench.work_all()[-1].replica_max_abs_diff < 1e-5
    step = eye.step(2)
    arrays = {**step.arrays, "output/value": step.arrays["output/value"] + np.float32(0.5)}
    bench.put(msgspec.structs.replace(step, arrays=arrays))
    assert bench.work_all()[-1].replica_max_abs_diff == pytest.approx(0.5, abs=1e-4)
    bench.put(msgspec.structs.replace(eye.step(3), arrays={"observation": step.arrays["observation"]}))
    assert bench.work_all()[-1].replica_max_abs_diff is None


def test_max_abs_diff_compares_what_is_alike():
    computed = {"logits": np.array([1.0, 2.0]), "value": np.array([3.0])}
    assert max_abs_diff(computed, {"output/logits": np.array([1.0, 2.5]), "output/value": np.array(3.25)}) == 0.5
    assert max_abs_diff(computed, {"output/logits": np.zeros(3), "output/latent": np.zeros(2)}) is None


def test_settings_explain_the_step_at_hand_anew(bench):
    bench.step(1)
    bench.work_all()
    bench.configure(method="sarfa")
    maps = bench.work_all()
    assert {m.method for m in maps} == {"sarfa"} and maps[-1].refined == 1 and maps[-1].step == 1
    assert set(maps[-1].arrays) == {"heatmap/chosen", "grid/chosen", "output/logits", "output/value"}


def test_options_stay_until_another_method_is_chosen(bench):
    bench.configure(options={"stride": 8})
    bench.configure(options={"mask_sigma": 3.0})
    status = bench.engine.status()
    assert status["options"] == {
        "stride": 8,
        "mask_sigma": 3.0,
        "blur_sigma": 3.0,
        "mask_cut": 0.0,
        "flat": 0.0,
        "frames": "all",
    }
    bench.configure(method="sarfa", options={"stride": 7})
    assert bench.engine.status()["options"]["mask_sigma"] == 5.0


def test_masks_cannot_be_set_by_a_message(bench):
    with pytest.raises(SaliencyError, match="'masks' cannot be set"):
        bench.configure(method="rise", options={"masks": 3})


def test_method_that_does_not_suit_the_next_agent_gives_way_to_the_default(bench, touch):
    bench.configure(method="occlusion", options={"patch": 3})
    other = Bench(touch)
    other.engine.settings = bench.engine.settings
    other.step(1)
    assert {m.method for m in other.work_all()} == {"feature_perturbation"}
    assert other.engine.status()["options"] == {"background": "seen", "samples": 16}


def test_features_are_replaced_by_what_was_seen(touch):
    bench = Bench(touch)
    for number in range(40):
        bench.step(number)
    found = bench.work_all()[-1]
    assert found.forwards == 4 * 16
    seen = np.stack([touch.observe(number) for number in range(39)])[np.linspace(0, 38, 16).round().astype(int)]
    change = (touch.observe(39) - seen) * np.array([4.0, 2.0, 1.0, 0.0])
    np.testing.assert_allclose(found.arrays["features/critic"], (0.5 * change**2).mean(0), rtol=1e-4, atol=1e-6)


def test_failure_is_said_and_the_next_step_is_tried(bench, eye, caplog):
    broken = msgspec.structs.replace(eye.step(5), arrays={"observation": np.zeros((2, 3), np.uint8)})
    bench.put(broken)
    bench.put(msgspec.structs.replace(broken, step=6))
    assert bench.work_all() == []
    status = bench.engine.status()
    assert status["state"] == "unable" and "at step 6: " in status["problem"] and "(2, 3)" in status["problem"]
    bench.step(7)
    assert bench.work_all()[-1].step == 7
    assert bench.engine.status()["state"] == "ready"
    assert len(caplog.records) == 1


def test_graph_that_is_refused_is_said(bench, eye):
    graph = eye.graph()
    node = msgspec.structs.replace(graph.graph.nodes[0], op="aten.system.default")
    bench.put(msgspec.structs.replace(graph, graph=msgspec.structs.replace(graph.graph, nodes=(node,))))
    bench.put(eye.weights(version=2))
    status = bench.engine.status()
    assert status["state"] == "unable" and "aten.system.default" in status["problem"]
    bench.step(1)
    assert bench.engine.work() is None
    bench.put(eye.graph())
    bench.put(eye.weights(version=3))
    assert bench.engine.status()["state"] == "ready"


def test_weights_that_do_not_fit_leave_the_old_ones(bench, eye):
    weights = eye.weights(version=2)
    name = next(iter(weights.arrays))
    bench.put(msgspec.structs.replace(weights, arrays={**weights.arrays, name: np.zeros(3, np.float32)}))
    status = bench.engine.status()
    assert status["state"] == "unable" and name in status["problem"] and status["policy_version"] == 1


def test_replica_that_fails_for_any_reason_is_said(bench, eye, monkeypatch):
    def fail(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("agentwrap_viewer.replica.Replica.load", fail)
    bench.put(eye.weights(version=2))
    assert bench.engine.status()["problem"] == "RuntimeError: out of memory"
    bench.step(1)
    assert bench.work_all()[-1].policy_version == 1


def test_missing_weights_are_asked_for(bench):
    bench.step(1, policy_version=4)
    assert bench.engine.resend == {"weights"}
    assert bench.work_all()[-1].policy_version == 1  # meanwhile with what is there


def test_missed_messages_are_counted(bench, eye):
    bench.step(1)
    bench.put(eye.step(9), seq=8)
    assert bench.engine.status()["missed"] == 7


def test_restarted_agent_is_followed_with_nothing_of_the_old_one(bench, eye):
    bench.step(1)
    bench.work_all()
    hello = fakes.hello("b" * 32, policy=PolicyInfo(type="Eye"))
    bench.engine.receive(hello)
    status = bench.engine.status()
    assert (status["state"], status["source"], status["policy_version"]) == ("pending", "b" * 32, 0)
    assert not bench.engine.busy and isinstance(bench.engine.hello, Hello)


def test_silent_agent_is_said(bench):
    bench.engine.advance()
    bench.time += 6
    bench.engine.advance()
    assert bench.engine.status()["problem"] == "nothing is heard of fake"


def test_rate_of_maps_is_per_step(bench):
    for number in range(6):
        bench.step(number)
        bench.work_all()
        bench.time += 0.5
    assert bench.engine.status()["maps_per_second"] == pytest.approx(5 / 3, abs=0.4)
    bench.time += 10
    assert bench.engine.status()["maps_per_second"] == 0


def test_unexpected_error_is_a_failure_not_the_end(bench, monkeypatch):
    from agentwrap_viewer.saliency import perturbation

    def fail(*_):
        raise ZeroDivisionError("method of somebody else")

    monkeypatch.setattr(perturbation.Perturbation, "score", fail)
    bench.step(1)
    assert bench.work_all() == []
    assert "ZeroDivisionError: method of somebody else" in bench.engine.status()["problem"]


def test_target_is_explained_named_and_titled(bench):
    bench.put(fakes.hello(action_space=Discrete(n=3), action_meanings=("NOOP", "FIRE", "LEFT"), policy=exported()))
    bench.configure(target="fire")
    assert bench.engine.status()["target"] == "1"
    bench.step(1)
    last = bench.work_all()[-1]
    assert (last.target, last.targets, last.titles) == ("1", ("1",), {"1": "FIRE"})
    assert {name for name in last.arrays if name.startswith("heatmap")} == {"heatmap/1"}
    bench.configure(target="chosen")
    (title,) = bench.work_all()[-1].titles.values()
    assert title.endswith("(preferred)") and title.removesuffix(" (preferred)") in ("NOOP", "FIRE", "LEFT")
    bench.configure(target="default")
    assert bench.work_all()[-1].targets == ("actor", "critic")


def test_target_that_is_not_possible_is_refused_and_what_was_asked_stays(bench):
    bench.configure(target="critic")
    for request in ({"target": "honk"}, {"target": "choice:0"}, {"method": "sarfa", "target": "critic"}):
        with pytest.raises(SaliencyError, match="this policy offers|does not explain target 'critic', but default"):
            bench.configure(**request)
    assert bench.engine.status()["target"] == "critic" and bench.engine.status()["method"] == "perturbation"


def test_target_that_does_not_suit_what_comes_later_waits_and_says_so(bench):
    bench.configure(target="critic")
    bench.configure(method="sarfa")
    status = bench.engine.status()
    assert (status["target"], status["state"]) == ("default", "ready")
    assert "sarfa does not explain target 'critic'" in status["problem"]
    bench.step(1)
    assert bench.work_all()[-1].targets == ("chosen",)
    bench.configure(method="perturbation")
    assert bench.engine.status()["target"] == "critic" and bench.engine.status()["problem"] is None
    assert bench.work_all()[-1].targets == ("critic",)


def test_masked_option_is_not_chosen(bench):
    bench.put(fakes.hello(action_space=Discrete(n=3), action_meanings=("A", "B", "C"), policy=exported()))
    bench.configure(target="chosen")
    bench.step(1)
    free = bench.work_all()[-1].titles["chosen"]
    step = bench.trained.step(1)
    mask = np.array([name != free[0] for name in "ABC"])
    bench.put(msgspec.structs.replace(step, step=2, arrays={**step.arrays, "action_mask": mask}))
    assert bench.work_all()[-1].titles["chosen"] != free


def exported():
    return PolicyInfo(type="Eye", graph="exported")
