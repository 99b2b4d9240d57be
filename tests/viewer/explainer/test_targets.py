"""What of a policy is explained, as messages ask for it."""

import fakes
import pytest

from agentwrap_protocol.graph import Input
from agentwrap_protocol.messages import MOST_TARGETS, DistributionInfo, PolicyInfo, ProbeInfo
from agentwrap_protocol.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from agentwrap_viewer.explainer.settings import Settings
from agentwrap_viewer.explainer.targets import Targets
from agentwrap_viewer.saliency import SaliencyError, methods


def targets(space, *outputs, **told):
    """The targets of a policy with these outputs, whose agent has this action space."""
    taken = Input(name="observation", array="observation", dtype="float32", shape=(-1, 4))
    signature = ProbeInfo(inputs=(taken,), outputs=outputs, rows=1, ms_per_s=1.0)
    return Targets.of(signature, fakes.hello(action_space=space, **{"action_meanings": None, **told}))


def offered(found, method="perturbation"):
    return {info.name: info.title for info in found.offered(methods()[method]())}


def test_actions_are_offered_by_their_names_and_found_by_them():
    found = targets(Discrete(n=3, start=1), "logits", "value", action_meanings=("NOOP", "FIRE"))
    assert offered(found) == {
        "default": "actor and critic", "actor": "actor", "chosen": "preferred action", "critic": "critic",
        "0": "NOOP", "1": "FIRE", "2": "action 3",
    }  # fmt: skip
    assert [found.find(text) for text in ("fire", "1", "critic", "ACTION 3")] == [1, 1, "critic", 2]
    assert offered(found, "sarfa") == {"default": "preferred action", "0": "NOOP", "1": "FIRE", "2": "action 3"}
    with pytest.raises(
        SaliencyError, match="target '3': this policy offers actor, chosen, critic, NOOP, FIRE, action 3"
    ):
        found.find("3")


def test_dimensions_of_continuous_actions_are_means():
    space = Box(shape=(2,), dtype="float32", low=-1, high=1)
    found = targets(space, "mean", "log_std", "state_action_value", action_meanings=("hip", "knee"))
    assert offered(found) == {
        "default": "actor and critic Q(s, a)", "actor": "actor", "critic": "critic Q(s, a)",
        "0": "mean of hip", "1": "mean of knee",
    }  # fmt: skip
    assert found.find("knee") == found.find("Mean of knee") == 1


def test_choices_are_offered_whole_and_by_option():
    found = targets(MultiDiscrete(counts=(2, 3)), "logits")
    assert list(offered(found)) == ["default", "chosen", "choice:0", "choice:1", "0", "1", "2", "3", "4"]
    assert offered(found)["choice:1"] == "choice 1" and offered(found)["4"] == "choice 1: 2"
    assert found.find("choice:1") == "choice:1" and found.find("choice 1: 2") == 4
    assert found.title("chosen", (1, 4)) == "choice 0: 1, choice 1: 2 (preferred)"
    told = PolicyInfo(type="Policy", distribution=DistributionInfo(kind="multi_categorical", counts=(2, 2)))
    assert targets(MultiBinary(shape=(2,)), "logits", policy=told).counts == (2, 2)


def test_the_chosen_action_of_switches_says_of_each_whether_it_is_on():
    found = targets(MultiBinary(shape=(2,)), "logits", action_meanings=("left", "fire"))
    assert list(offered(found)) == ["default", "chosen", "0", "1"]
    assert found.title("chosen", (~0, 1)) == "not left, fire (preferred)"


def test_methods_about_a_chosen_action_explain_a_continuous_one_as_a_whole():
    box = Box(shape=(2,), dtype="float32", low=-1, high=1)
    for name in ("occlusion", "chosen_action", "rise"):
        assert "actor" not in offered(targets(Discrete(n=2), "logits"), name)
        found = offered(targets(box, "mean", "log_std"), name)
        assert found["default"] == "actor" and {"0", "1"} <= found.keys()
    named = {"knee": 0, "hip": 1}
    signature = ProbeInfo(
        inputs=(Input(name="observation", array="observation", dtype="float32", shape=(-1, 3, 9, 9)),),
        outputs=("mean",),
        rows=1,
        ms_per_s=1.0,
    )
    hello = fakes.hello(action_space=box, action_meanings=tuple(named))
    for method in ("occlusion", "chosen_action", "rise"):
        assert Settings().changed(signature, method=method, target="actor", hello=hello).target == "actor"
    with pytest.raises(SaliencyError, match="'sarfa' is not possible here: it sets one action against.*perturbation"):
        Settings().changed(signature, method="sarfa")


def test_what_a_stranger_says_of_his_actions_is_bounded():
    for space in (
        Discrete(n=2**60),
        MultiDiscrete(counts=(2**60, 2**60)),
        Box(shape=(2**40,), dtype="f", low=0, high=1),
    ):
        found = targets(space, "mean" if isinstance(space, Box) else "logits")
        assert len(found.offered(methods()["perturbation"]())) == MOST_TARGETS


def test_target_is_taken_on_trust_until_the_policy_is_known():
    assert Settings().changed(None, target="honk").target == "honk"
