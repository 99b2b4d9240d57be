"""What each part of the page is given to draw."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from fakes import ACTIONS, hello, saliency_map, step
from sb3_contrib.common.maskable.distributions import MaskableMultiCategoricalDistribution
from stable_baselines3.common.distributions import BernoulliDistribution, SquashedDiagGaussianDistribution

from agentwrap_protocol.graph import Input
from agentwrap_protocol.messages import (
    Bye,
    DistributionInfo,
    EpisodeEnd,
    Explainer,
    Heartbeat,
    Hello,
    PolicyInfo,
    ProbeInfo,
    SaliencyMap,
    Step,
)
from agentwrap_protocol.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from agentwrap_viewer.page.components import all_components
from agentwrap_viewer.page.components.awaited import awaited, gives_value
from agentwrap_viewer.page.components.episodes import Episodes
from agentwrap_viewer.page.components.explanation import Explanation
from agentwrap_viewer.page.components.features import Features
from agentwrap_viewer.page.components.inputs import Inputs
from agentwrap_viewer.page.components.notices import Notices
from agentwrap_viewer.page.components.policy import Policy, describe
from agentwrap_viewer.page.components.stage import Stage
from agentwrap_viewer.page.components.status import Status
from agentwrap_viewer.page.cursor import Cursor
from agentwrap_viewer.page.episodes import KEPT
from agentwrap_viewer.page.packet import EncodedCache, Packet
from agentwrap_viewer.page.store import Store
from agentwrap_viewer.page.view import View


def view(
    *steps: Step, maps: tuple[SaliencyMap, ...] = (), introduction: Hello | None = None, store: Store | None = None
) -> View:
    store = store or Store()
    if introduction is not None or steps:
        store.add(introduction or hello())
    for message in (*steps, *maps):
        store.add(message)
    return View.of(store, Cursor(store), Packet(EncodedCache()), fresh=True)


def again(before: View) -> View:
    return View.of(before.store, before.cursor, Packet(EncodedCache()), fresh=False)


def notices(shown: View) -> dict[str, dict[str, Any]]:
    source = Notices().update(shown)
    assert source is not None
    return {item["id"]: item for item in source["items"]}


def test_every_part_copes_with_nothing_and_with_everything() -> None:
    names = [component.name for component in all_components()]
    assert len(set(names)) == len(names)
    for shown in (view(), view(introduction=hello()), view(step(0)), view(step(0), maps=(saliency_map(step(0)),))):
        for component in all_components():
            component.update(shown)
        shown.packet.finish({})


def test_stage_sends_what_changed_and_no_more() -> None:
    stage, shown = Stage(), view(step(0), maps=(saliency_map(step(0)),))
    first = stage.update(shown)
    assert first["frame"]["shape"] == [210, 160, 3]
    assert [(layer["target"], layer["full"]) for layer in first["heat"]] == [("actor", 2.0), ("critic", 0.5)]
    assert stage.update(again(shown)) is None
    shown.store.add(step(1))
    second = stage.update(again(shown))
    assert "heat" not in second and second["frame"] is not None
    assert (second["lag"]["steps"], second["lag"]["refined"]) == (1, 1.0)


def test_stage_and_network_input_show_the_picture_that_is_chosen() -> None:
    eyes = {"observation/left": np.zeros((84, 84), np.uint8), "observation/right": np.ones((64, 64), np.uint8)}
    sent = step(0, arrays={**eyes, "action": np.array(0)})
    heat = {"heatmap/actor/left": np.ones((84, 84), np.float32)}
    shown = view(sent, maps=(saliency_map(sent, targets=("actor",), arrays=heat),), introduction=hello())
    stage, inputs = Stage(), Inputs()
    assert stage.update(shown)["heat"] is not None
    source = inputs.update(shown)
    assert [each["title"] for each in source["pictures"]] == ["left", "right"]
    assert source["picture"] == "observation/left" and source["shape"] == [84, 84]
    shown.cursor.picture = "observation/right"
    changed = stage.update(again(shown))
    assert changed["frame"]["shape"] == [64, 64] and changed["heat"] is None, "heat of the other says nothing of it"
    source = inputs.update(again(shown))
    assert source["picture"] == "observation/right" and source["shape"] == [64, 64]
    shown.cursor.picture = "observation/none"
    assert stage.update(again(shown))["frame"]["shape"] == [84, 84], "a picture that is not there is the first"
    assert Inputs().update(view(step(0)))["pictures"] == []


def test_stage_draws_a_map_that_is_negative_throughout() -> None:
    against = {"heatmap/chosen": np.linspace(-4, -1, 84 * 84, dtype=np.float32).reshape(84, 84)}
    sent = step(0)
    shown = view(sent, maps=(saliency_map(sent, targets=("chosen",), arrays=against, scale="signed"),))
    (layer,) = Stage().update(shown)["heat"]
    assert (layer["scale"], layer["full"], layer["heat"]["dtype"]) == ("signed", 4.0, "|i1")


def test_policy_shows_probabilities_with_the_action_taken() -> None:
    source = Policy().update(view(step(3)))
    assert source["kind"] == "probabilities" and not source["invalid"]
    assert [row["name"] for row in source["rows"]] == list(ACTIONS)
    assert sum(row["value"] for row in source["rows"]) == pytest.approx(1)
    assert [row["taken"] for row in source["rows"]].index(True) == 3
    assert max(range(9), key=lambda index: source["rows"][index]["value"]) == 3


def test_policy_counts_actions_from_the_spaces_start_and_names_those_without_a_name() -> None:
    sent = step(0, arrays={"action": np.array(5), "output/q_values": np.array([0.5, -2.0])})
    source = describe(sent, hello(action_space=Discrete(n=2, start=5), action_meanings=None))
    assert source["kind"] == "q_values"
    assert [(row["name"], row["value"], row["taken"]) for row in source["rows"]] == [
        ("action 5", 0.5, True),
        ("action 6", -2.0, False),
    ]


def test_policy_shows_intervals_for_a_box() -> None:
    sent = step(
        0,
        arrays={
            "action": np.array([0.1, -0.2], np.float32),
            "output/mean": np.array([0.0, 0.5]),
            "output/log_std": np.log([0.1, 0.2]),
        },
    )
    space = Box(shape=(2,), dtype="float32", low=-1, high=1)
    source = describe(sent, hello(action_space=space, action_meanings=("steer", "gas")))
    assert (source["kind"], source["low"], source["high"]) == ("gaussian", -1, 1)
    row = source["rows"][1]
    assert row["name"] == "gas" and row["deviation"] == pytest.approx(0.2) and row["action"] == pytest.approx(-0.2)


@pytest.mark.parametrize("mean, log_std", [(0.3, -1.0), (-2.0, 0.5)])
def test_intervals_of_a_squashed_gaussian_hold_what_the_librarys_own_samples_do(mean: float, log_std: float) -> None:
    distribution = SquashedDiagGaussianDistribution(2).proba_distribution(
        torch.full((20_000, 2), mean), torch.full((20_000, 2), log_std)
    )
    torch.manual_seed(0)
    low, high = np.array([-2.0, 0.0]), np.array([2.0, 5.0])
    samples = low + (distribution.sample().numpy() + 1) / 2 * (high - low)
    arrays = {"action": samples[0], "output/mean": np.full(2, mean), "output/log_std": np.full(2, log_std)}
    told = DistributionInfo(kind="squashed_gaussian", low=tuple(low), high=tuple(high))
    space = Box(shape=(2,), dtype="float32", low=-2, high=5)
    source = describe(step(0, arrays=arrays), hello(action_space=space, policy=PolicyInfo(type="P", distribution=told)))
    for element, row in enumerate(source["rows"]):
        own = samples[:, element]
        assert (row["low"], row["high"]) == (low[element], high[element])
        assert np.mean(own < row["value"]) == pytest.approx(0.5, abs=0.02)
        assert np.mean((own > row["from"]) & (own < row["to"])) == pytest.approx(0.683, abs=0.02)


def test_an_action_without_bounds_has_an_axis_that_its_interval_fits() -> None:
    arrays = {"action": np.array([8.0]), "output/mean": np.array([6.0]), "output/log_std": np.log([2.0])}
    space = Box(shape=(1,), dtype="float32", low=-np.inf, high=np.inf)
    (row,) = describe(step(0, arrays=arrays), hello(action_space=space))["rows"]
    assert (row["from"], row["value"], row["to"]) == pytest.approx((4, 6, 8)) and row["high"] == -row["low"] > 8


def test_masked_actions_are_not_told_a_probability() -> None:
    logits, mask = np.array([5.0, 0.0, 1.0, 0.5, 2.0]), np.array([False, True, True, True, False])
    arrays = {"action": np.array([1, 0]), "action_mask": mask, "output/logits": logits}
    source = describe(step(0, arrays=arrays), hello(action_space=MultiDiscrete(counts=(3, 2))))
    library = MaskableMultiCategoricalDistribution([3, 2]).proba_distribution(torch.from_numpy(logits)[None])
    library.apply_masking(torch.from_numpy(mask))
    own = torch.cat([part.probs[0] for part in library.distributions]).numpy()
    assert [row.get("masked", False) for row in source["rows"]] == [True, False, False, False, True]
    for row, probability in zip(source["rows"], own, strict=True):
        assert row["value"] == (None if row.get("masked") else pytest.approx(probability))
    assert [row["group"] for row in source["rows"]] == ["choice 0"] * 3 + ["choice 1"] * 2


def test_switches_are_each_as_likely_on_as_their_own_logit_says() -> None:
    logits = np.array([0.0, 2.0, -1.0])
    arrays = {"action": np.array([0, 1, 0], np.int8), "output/logits": logits}
    source = describe(step(0, arrays=arrays), hello(action_space=MultiBinary(shape=(3,))))
    own = BernoulliDistribution(3).proba_distribution(torch.from_numpy(logits)).distribution.probs.numpy()
    assert [row["value"] for row in source["rows"]] == pytest.approx(own)
    assert [row["taken"] for row in source["rows"]] == [False, True, False]


def test_policy_splits_several_choices() -> None:
    sent = step(0, arrays={"action": np.array([1, 0]), "output/logits": np.zeros(5)})
    source = describe(sent, hello(action_space=MultiDiscrete(counts=(3, 2))))
    assert [row["value"] for row in source["rows"]] == pytest.approx([1 / 3] * 3 + [1 / 2] * 2)
    assert [row["taken"] for row in source["rows"]] == [False, True, False, True, False]


@pytest.mark.parametrize(
    ("space", "target", "explained"),
    [
        (Discrete(n=5), "3", [3]),
        (Discrete(n=5), "chosen", [2]),
        (Discrete(n=5), "actor", []),
        (MultiDiscrete(counts=(3, 2)), "choice:1", [3, 4]),
        (MultiDiscrete(counts=(3, 2)), "chosen", [2, 4]),
        (MultiBinary(shape=(5,)), "chosen", []),
        (MultiBinary(shape=(5,)), "4", [4]),
    ],
)
def test_rows_that_the_map_is_about_are_told(space: Any, target: str, explained: list[int]) -> None:
    sent = step(0, arrays={"action": np.array(1), "output/logits": np.zeros(5)})
    arrays = {f"heatmap/{target}": np.ones((84, 84), np.float32), "output/logits": np.array([0, 1, 3, -1, 2.0])}
    found = saliency_map(sent, targets=(target,), arrays=arrays)
    policy, shown = Policy(), view(sent, introduction=hello(action_space=space, action_meanings=None))
    assert policy.update(shown)["explained"] == []
    shown.store.add(found)
    told = policy.update(again(shown))
    assert (told is None and not explained) or told["explained"] == explained
    shown.store.add(saliency_map(sent, targets=(target,), arrays=arrays, seconds=1.0))
    assert policy.update(again(shown)) is None, "the same rows are no news"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_outputs_are_told_and_drawn_as_nothing(bad: float) -> None:
    logits = np.array([0.0, bad] + [0.0] * 7, np.float32)
    shown = view(step(0, arrays={"action": np.array(1), "output/logits": logits}))
    assert Policy().update(shown)["invalid"]
    assert "logits" in notices(shown)["nan"]["text"]
    unable = Explainer(stream="e" * 32, state="unable", problem="at step 0: logits is NaN")
    shown.store.explainer_alive = True
    shown.store.add(unable)
    assert list(notices(shown)) == ["nan", "unable"], "the most serious first"
    shown.packet.finish({"policy": Policy().update(shown)})


def test_without_outputs_the_action_alone_is_shown() -> None:
    source = describe(step(0, arrays={"action": np.array(2)}), hello())
    assert source["kind"] == "action" and source["rows"][0]["name"] == ACTIONS[2] and not source["probed"]


def test_features_have_names_values_and_shares() -> None:
    observation = np.array([0.5, -1.0, 2.0], np.float32)
    sent = step(0, arrays={"observation": observation, "action": np.array(0)})
    arrays = {"features/actor": np.array([1.0, 0.0, 4.0]), "features/critic": np.array([0.0, np.nan, 2.0])}
    shown = view(
        sent, maps=(saliency_map(sent, arrays=arrays),), introduction=hello(feature_names=("x", "speed", "angle"))
    )
    source = Features().update(shown)
    assert [layer["target"] for layer in source["layers"]] == ["actor", "critic"]
    assert source["methods"] == ["perturbation"]
    assert [row["name"] for row in source["rows"]] == ["x", "speed", "angle"]
    assert source["rows"][0]["scores"] == {"actor": 0.25, "critic": 0.0} and not source["signed"]
    assert Stage().update(shown)["frame"] is None


def test_what_a_map_is_of_and_by_is_said_with_it() -> None:
    arrays = {"heatmap/1/eye": np.ones((84, 84), np.float32), "features/1/body": np.array([1.0], np.float32)}
    sent = step(0, arrays={"observation/eye": np.zeros((84, 84), np.uint8), "observation/body": np.ones(1, np.float32)})
    told = {"method": "rise", "entry_methods": {"body": "feature_perturbation"}, "entry_scales": {"body": "magnitude"}}
    found = saliency_map(sent, arrays=arrays, target="1", targets=("1",), titles={"1": "FIRE"}, **told)
    shown = view(sent, maps=(found,))
    layer = Stage().update(shown)["heat"][0]
    assert (layer["target"], layer["title"], layer["method"]) == ("1", "FIRE", "rise")
    source = Features().update(shown)
    assert source["layers"] == [{"target": "1", "title": "FIRE"}] and source["methods"] == ["feature_perturbation"]
    assert Explanation().update(shown)["map"]["methods"] == ["rise", "feature_perturbation"]


def test_a_dict_observation_has_heat_and_features_at_once() -> None:
    space = Dict(spaces={
        "body": Box(shape=(2,), dtype="float32", low=-1.0, high=1.0),
        "eye": Box(shape=(84, 84), dtype="uint8", low=0.0, high=255.0),
        "goal": Box(shape=(1,), dtype="float32", low=-1.0, high=1.0),
        "mode": Discrete(n=3),
    })  # fmt: skip
    arrays = {
        "observation/body": np.array([0.5, -1.0], np.float32),
        "observation/eye": np.zeros((84, 84), np.uint8),
        "observation/goal": np.array([2.0], np.float32),
        "observation/mode": np.array(1),
    }
    scores = {
        "features/actor/body": np.array([1.0, 0.0]),
        "features/actor/goal": np.array([-4.0]),
        "heatmap/actor/eye": np.ones((84, 84)),
    }
    sent = step(0, arrays=arrays)
    explained = saliency_map(
        sent, method="rise", scale="relative", targets=("actor",), arrays=scores,
        entry_methods={"body": "gradient", "goal": "gradient"}, entry_scales={"body": "signed", "goal": "signed"},
    )  # fmt: skip
    shown = view(
        sent, maps=(explained,), introduction=hello(observation_space=space, feature_names=("x", "speed", "goal x"))
    )
    source = Features().update(shown)
    assert [row["name"] for row in source["rows"]] == ["x", "speed", "goal x", "mode"]
    assert [row["scores"]["actor"] for row in source["rows"]] == [0.25, 0.0, -1.0, None] and source["signed"]
    stage = Stage().update(shown)
    assert stage["frame"]["shape"] == [84, 84]
    assert [(layer["scale"], layer["method"]) for layer in stage["heat"]] == [("relative", "rise")]
    unnamed = Features().update(view(sent, introduction=hello(observation_space=space)))
    assert [row["name"] for row in unnamed["rows"]] == ["body 0", "body 1", "goal", "mode"]


def silent_after_a_step() -> View:
    now = [0.0]
    shown = view(step(0), store=Store(clock=lambda: now[0]))
    shown.store.add(Heartbeat(stream="0" * 32, steps_per_second=30.0))
    assert Status().update(shown)["rate"] == 30.0
    shown.store.advance()
    now[0] = 60.0
    shown.store.advance()
    return shown


def test_notices_name_what_stands_in_the_way() -> None:
    assert "InterpretWrapper(env, policy)" in notices(view())["waiting"]["code"]
    assert "no step seen yet" in notices(view(introduction=hello()))["connected"]["title"]

    policy = PolicyInfo(type="P", graph="failed", problem="aten.nonzero has an output of unknown size")
    failed = view(step(0), introduction=hello(policy=policy))
    assert "aten.nonzero" in notices(failed)["no-maps"]["text"]

    given = Input(name="observation", array="observation", dtype="float32", shape=(-1, 4))
    probe = ProbeInfo(inputs=(given,), outputs=("logits",), rows=64, ms_per_s=50.0)
    asked = view(step(0), introduction=hello(policy=msgspec.structs.replace(policy, probe=probe)))
    assert "no-maps" not in notices(asked)
    misfit = PolicyInfo(type="P", graph="exported", outputs=("logits",), problem="called with (2, 4)")
    assert notices(view(step(0), introduction=hello(policy=misfit)))["misfit"]["text"] == "called with (2, 4)"
    assert Explanation().update(asked)["probed"] == {"ms_per_s": 50.0, "why": policy.problem}
    assert Policy().update(asked)["probed"]

    crashed = view(step(0))
    crashed.store.explainer_alive, crashed.store.explainer_problem = False, "ended by signal 11"
    assert "signal 11" in notices(crashed)["explainer-down"]["text"]

    unable = view(step(0))
    unable.store.explainer_alive = True
    unable.store.add(Explainer(stream="e" * 32, state="unable", problem="no such operator"))
    assert "no such operator" in notices(unable)["unable"]["text"]

    differs = view(step(0), maps=(saliency_map(step(0), replica_max_abs_diff=0.5),))
    differs.store.explainer_alive = True
    assert "0.5" in notices(differs)["replica"]["text"]

    over = view(step(0))
    over.store.add(Bye(stream="0" * 32, reason="all steps taken"))
    assert "all steps taken" in notices(over)["ended"]["title"]

    lost = silent_after_a_step()
    assert "silent" in notices(lost) and "resumes" in notices(lost)["silent"]["text"]
    assert Status().update(lost)["rate"] is None
    lost.store.announced = False
    assert "without a goodbye" in notices(lost)["lost"]["title"]
    assert Status().update(lost)["connection"] == "gone"

    waits = view(step(0))
    waits.store.add(Heartbeat(stream="0" * 32, recorded=9))
    assert "held-up" not in notices(waits)
    waits.store.add(Heartbeat(stream="0" * 32, seq=1, recorded=9, recording_wait=4.25))
    assert "4.2 s so far" in notices(waits)["held-up"]["text"]

    other = view()
    other.store.problem = "the other side speaks protocol 2.0"
    assert "2.0" in notices(other)["version"]["text"]


def starting(**policy: Any) -> View:
    """An agent that has just been found, with an explainer that waits for its policy."""
    shown = view(introduction=hello(policy=PolicyInfo(type="P", **policy)))
    shown.store.explainer_alive = True
    shown.store.add(Explainer(stream="e" * 32, state="pending"))
    return shown


def test_what_is_awaited_follows_the_start_of_an_agent() -> None:
    store = starting().store
    assert awaited(store) == "call" and gives_value(store) is None
    exporting = starting(outputs=("logits",))
    assert awaited(exporting.store) == "export"
    assert "exporting" in notices(exporting)["exporting"]["title"] and "held" in Status().update(exporting)["awaiting"]

    store = starting(outputs=("logits", "value"), graph="exported").store
    assert awaited(store) == "replica" and gives_value(store) is True
    store.add(Explainer(stream="e" * 32, state="ready"))
    assert awaited(store) == "map"
    store.add(step(0))
    store.add(saliency_map(step(0)))
    assert awaited(store) is None


def test_nothing_is_awaited_where_no_map_will_come() -> None:
    store = starting(outputs=("logits",)).store
    store.explainer_alive = None
    assert awaited(store) is None
    assert awaited(starting(outputs=("logits",), graph="failed", problem="p").store) is None
    assert awaited(Store()) is None and gives_value(starting(outputs=("logits",)).store) is False


def test_an_agent_that_falls_silent_in_its_export_is_said_to() -> None:
    now = [0.0]
    store = Store(clock=lambda: now[0])
    store.explainer_alive = True
    shown = view(introduction=hello(policy=PolicyInfo(type="P", outputs=("logits",))), store=store)
    assert awaited(store) == "explainer"
    store.add(Explainer(stream="e" * 32, state="pending"))
    store.advance()
    now[0] = 60.0
    store.advance()
    silent = notices(again(shown))["silent"]
    assert "60 s" in silent["title"] and "exporting its policy" in silent["text"]


def test_notice_of_another_target_goes_away_once_it_has_been_read() -> None:
    now = 0.0
    component, shown = Notices(clock=lambda: now), view(step(0))
    shown.store.explainer_alive = True
    told = Explainer(stream="e" * 32, state="ready", problem="target 'right': this policy offers actor")
    shown.store.add(told)

    def ids() -> list[str]:
        source = component.update(dataclasses.replace(shown, fresh=True))
        assert source is not None
        return [item["id"] for item in source["items"]]

    assert ids() == ["target"]
    now = 19.0
    assert ids() == ["target"]
    now = 21.0
    assert ids() == []
    shown.store.add(msgspec.structs.replace(told, seq=1, problem=None))
    assert ids() == []
    shown.store.add(msgspec.structs.replace(told, seq=2))
    assert ids() == ["target"], "it happened again"


def test_agent_that_ended_names_one_that_runs_and_another_in_its_place_is_told() -> None:
    over = view(step(0))
    over.store.add(Bye(stream="0" * 32))
    assert "offer" not in notices(over)["ended"]
    over.store.others = (("tcp://127.0.0.1:5591", "Acrobot-v1"), ("tcp://127.0.0.1:5592", "older"))
    offer = notices(over)["ended"]["offer"]
    assert offer["endpoint"] == "tcp://127.0.0.1:5591" and "Acrobot-v1" in offer["text"]

    again_same = msgspec.structs.replace(hello(), stream="a" * 32)
    over.store.add(again_same)
    assert over.store.replaced is None, "the agent was started again"
    over.store.add(Bye(stream="a" * 32, seq=1))
    over.store.add(msgspec.structs.replace(hello(), stream="b" * 32, name="Acrobot-v1"))
    text = notices(over)["replaced"]["text"]
    assert "Acrobot-v1" in text and hello().name in text


def test_notices_are_sent_once() -> None:
    component, shown = Notices(), view()
    assert component.update(shown) is not None
    assert component.update(again(shown)) is None


def end(number: int, episode_return: float) -> EpisodeEnd:
    known = {"stream": "0" * 32, "step": number, "length": 7, "seconds": 1.0, "reason": "terminated"}
    return EpisodeEnd(seq=number, episode=number, episode_return=episode_return, **known)


def test_count_and_best_hold_for_episodes_that_are_no_longer_kept() -> None:
    shown, component = view(introduction=hello()), Episodes()
    assert component.update(shown)["count"] == 0
    for number in range(KEPT + 50):
        shown.store.add(end(number, 99.0 if number == 3 else number / 100))
    assert len(shown.store.episodes.results) == KEPT
    source = component.update(again(shown))
    assert (source["count"], source["heard"], source["best"], source["meant"]) == (KEPT + 50, KEPT + 50, 99.0, 100)
    assert source["mean"] == pytest.approx(np.mean(np.arange(KEPT - 50, KEPT + 50) / 100))
    assert component.update(again(shown)) is None


def test_a_late_viewer_says_of_how_many_episodes_it_heard() -> None:
    known = np.arange(5000, 5010)
    late = hello(arrays={"episodes/number": known, "episodes/return": known / 1.0, "episodes/length": np.full(10, 7)})
    shown = view(introduction=late)
    shown.store.add(hello(arrays=late.arrays))  # told again
    source = Episodes().update(shown)
    assert (source["count"], source["heard"], source["best"], source["meant"]) == (5010, 10, 5009.0, 10)


def test_the_age_of_the_weights_counts_from_the_first_step_made_with_them() -> None:
    store, ages = Store(), []
    for number, version in enumerate((1, 2, 2, 3)):
        shown = view(step(number, time=100.0 + number, policy_version=version), store=store)
        ages.append(Explanation().update(shown)["weights_age"])
    assert ages == [None, 0.0, 1.0, 0.0], "a policy that never changed has no age"


def test_the_age_of_a_probed_policy_counts_from_its_first_change() -> None:
    store, ages = Store(), []
    asked = ProbeInfo(inputs=(), outputs=("logits",), rows=8, ms_per_s=50.0)
    introduction = hello(policy=PolicyInfo(type="function", graph="failed", probe=asked))
    for number, version in enumerate((0, 1, 1)):
        shown = view(step(number, time=100.0 + number, policy_version=version), introduction=introduction, store=store)
        ages.append(Explanation().update(shown)["weights_age"])
    assert ages == [None, 0.0, 1.0]


def test_remembered_frames_have_their_pictures_and_shares() -> None:
    steps = [step(number) for number in range(4)]
    weights = {"past/actor": np.array([2.0, 0.5, 1.0], np.float32), "past/critic": np.zeros(3, np.float32)}
    told = {"past": "steps", "past_problem": "2 steps before step 1 were not sent"}
    source = Inputs().update(view(*steps, maps=(saliency_map(steps[3], arrays=weights, **told),)))
    assert source["planes"]["shape"][0] == 3 and max(source["planes"]["shape"][1:3]) <= 96  # of steps 1 to 3
    assert source["past"] == {
        "kind": "steps",
        "layers": [
            {"target": "actor", "title": "actor", "weights": [1.0, 0.25, 0.5]},
            {"target": "critic", "title": "critic", "weights": [0.0, 0.0, 0.0]},
        ],
        "problem": "2 steps before step 1 were not sent",
    }


def test_frames_of_a_stack_have_the_shares_of_the_map_shown() -> None:
    weights = {"past/actor": np.array([0.0, 1.0, 2.0, 4.0], np.float32)}
    shown = view(step(0), maps=(saliency_map(step(0), arrays=weights, past="stack"),))
    inputs = Inputs()
    source = inputs.update(shown)
    assert source["planes"]["shape"][0] == 4 and source["past"]["layers"] == [
        {"target": "actor", "title": "actor", "weights": [0.0, 0.25, 0.5, 1.0]}
    ]
    shown.store.add(step(1))
    assert inputs.update(again(shown)).keys() == {"planes", "shape"}, "the shares stay until another map is shown"
    assert inputs.update(again(shown)) is None
    shown.store.add(saliency_map(step(1), refined=0.2))
    assert inputs.update(again(shown)) is None, "what it owes to the frames before is not computed yet"
    shown.store.add(saliency_map(step(1), refined=1.0))
    assert inputs.update(again(shown)) == {"past": None}


@pytest.mark.parametrize(
    "method, refined, expected",
    [
        ("rise", 0.25, {"done": 100, "of": 400, "what": "masks"}),
        ("smoothgrad", 0.0, {"done": 0, "of": 400, "what": "noisy copies"}),
        ("rise", 1.0, None),
        ("perturbation", 0.25, None),
    ],
)
def test_an_unfinished_mean_of_random_draws_says_of_how_many(method: str, refined: float, expected: object) -> None:
    shown = step(3)
    made = saliency_map(shown, method=method, refined=refined, options={"n": 400})
    source = Stage().update(view(shown, maps=(made,)))
    assert source is not None and source["lag"]["drawn"] == expected
