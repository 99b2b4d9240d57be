"""The sidebar is drawn from what the explainer offers, and asks only for what a person chose."""

from __future__ import annotations

from typing import Any

import msgspec
import panel_material_ui as pmui
import pytest
from fakes import METHODS, hello, step

from agentwrap_protocol.announcement import Announcement
from agentwrap_protocol.messages import Explainer, MethodInfo, OptionInfo, TargetInfo
from agentwrap_viewer.explainer.catalogue import describe
from agentwrap_viewer.page.components.stage import StageElement
from agentwrap_viewer.page.controls import Controls, control_of
from agentwrap_viewer.page.store import Store
from agentwrap_viewer.saliency import methods


class FakeReceiver:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.store, self.endpoint = Store(), "tcp://127.0.0.1:1"
        self.streams: list[Announcement] = []
        self.asked: list[dict[str, Any]] = []

    def configure(self, **settings: Any) -> None:
        self.asked.append(settings)


@pytest.fixture
def receiver() -> FakeReceiver:
    made = FakeReceiver()
    made.store.add(hello())
    made.store.add(step(0))
    return made


def say(receiver: FakeReceiver, **changes: Any) -> None:
    fields = {
        "state": "ready",
        "methods": METHODS,
        "method": "perturbation",
        "options": {"radius": 7},
        "budget_ms": 50.0,
    }
    receiver.store.add(Explainer(stream="e" * 32, **{**fields, **changes}))


def test_controls_show_what_the_explainer_says_and_ask_for_nothing(receiver: FakeReceiver) -> None:
    controls = Controls(receiver, StageElement())
    controls.update()
    assert controls.method.disabled
    say(receiver)
    controls.update()
    assert controls.method.options == {"Perturbation": "perturbation", "SARFA": "sarfa"}
    assert [control.label for control in controls.options.objects] == ["radius", "blur", "newest only", "cut"]
    assert controls.options.objects[0].value == 7 and not controls.method.disabled
    say(receiver, budget_ms=33.0)
    controls.update()
    assert controls.budget.value == 33.0
    assert receiver.asked == []


def test_where_no_method_suits_the_menu_says_so(receiver: FakeReceiver) -> None:
    controls = Controls(receiver, StageElement())
    say(receiver, state="unable", methods=(), method="")
    controls.update()
    assert (controls.method.options, controls.method.value) == ({"none": ""}, "")
    say(receiver)
    controls.update()
    assert controls.method.value == "perturbation"
    assert receiver.asked == []


def test_action_is_asked_for_by_its_name_for_the_next_agent_has_another_at_its_index(receiver: FakeReceiver) -> None:
    controls = Controls(receiver, StageElement())
    say(receiver, targets=tuple(TargetInfo(name=name, title=title) for name, title in (("0", "left"), ("1", "7"))))
    controls.update()
    controls.target.value = "0"
    controls.target.value = "1"
    assert receiver.asked == [{"target": "left"}, {"target": "1"}]


def test_targets_are_offered_by_their_titles(receiver: FakeReceiver) -> None:
    controls = Controls(receiver, StageElement())
    offered = [("default", "actor and critic"), ("0", "FIRE"), ("1", "FIRE")]
    say(receiver, targets=tuple(TargetInfo(name=name, title=title) for name, title in offered))
    controls.update()
    assert controls.target.options == {"actor and critic": "default", "FIRE": "0", "FIRE (1)": "1"}
    controls.target.value = "1"
    assert receiver.asked == [{"target": "1"}], "another action is called the same"
    say(receiver, target="critic", targets=())
    controls.update()
    assert controls.target.value == "critic" and receiver.asked == [{"target": "1"}]


def test_what_a_person_chooses_is_asked_for(receiver: FakeReceiver) -> None:
    controls = Controls(receiver, StageElement())
    say(receiver)
    controls.update()
    controls.method.value = "sarfa"
    controls.budget.value = 200.0
    controls.options.objects[2].value = True
    assert receiver.asked == [{"method": "sarfa"}, {"budget_ms": 200.0}, {"options": {"newest_only": True}}]


def test_a_new_method_appears_by_itself(receiver: FakeReceiver) -> None:
    controls = Controls(receiver, StageElement())
    new = MethodInfo(name="new", title="New one", options=(OptionInfo(name="depth", default=2),))
    other = MethodInfo(name="features", title="Not for pictures", observations=("vector",))
    say(receiver, methods=(*METHODS, new, other), method="new", options={})
    controls.update()
    assert "New one" in controls.method.options and "Not for pictures" not in controls.method.options
    assert [control.label for control in controls.options.objects] == ["depth"]


@pytest.mark.parametrize(
    ("option", "kind"),
    [
        (OptionInfo(name="a", default=5, minimum=1, maximum=9), pmui.IntSlider),
        (OptionInfo(name="a", default=0.5, minimum=0, maximum=1), pmui.FloatSlider),
        (OptionInfo(name="a", default=5, minimum=1), pmui.IntInput),
        (OptionInfo(name="a", default=0.5), pmui.FloatInput),
        (OptionInfo(name="a", default=True), pmui.Switch),
        (OptionInfo(name="a", default="x", choices=("x", "y")), pmui.Select),
        (OptionInfo(name="a", default="text"), pmui.TextInput),
        (OptionInfo(name="a", default=None), pmui.TextInput),
    ],
)
def test_an_option_gets_a_control_of_its_kind(option: OptionInfo, kind: type) -> None:
    control = control_of(option)
    assert type(control) is kind
    assert control.value == ("" if option.default is None else option.default)


def test_lengths_in_pixels_end_at_a_quarter_of_the_picture() -> None:
    size = OptionInfo(name="size", default=5.0, minimum=0.1, maximum=64, unit="pixels")
    slider = control_of(size, side=84)
    assert (slider.end, slider.step, slider.label) == (21, 0.1, "size, px")
    assert control_of(size).end == 64, "no picture, no bound of its own"
    assert control_of(OptionInfo(name="s", default=8, minimum=1, maximum=64), side=84).end == 64, "not a length"
    assert control_of(OptionInfo(name="s", default=9, minimum=1, maximum=64, unit="pixels"), side=16).end == 9


def test_a_range_too_wide_for_a_slider_is_typed() -> None:
    assert type(control_of(OptionInfo(name="n", default=512, minimum=1, maximum=16_384))) is pmui.IntInput
    assert type(control_of(OptionInfo(name="sigma", default=0.15, minimum=0, maximum=10))) is pmui.FloatInput
    patch = OptionInfo(name="patch", default=6, minimum=1, maximum=4096, unit="pixels")
    assert type(control_of(patch, side=84)) is pmui.IntSlider


def test_every_option_of_every_method_has_a_control_at_its_default() -> None:
    for method in methods().values():
        sent = msgspec.msgpack.decode(msgspec.msgpack.encode(describe(method)), type=MethodInfo)
        for option in sent.options:
            assert control_of(option, side=84).value == option.default, f"{method.name}: {option.name}"


def test_a_value_beyond_the_slider_widens_it(receiver: FakeReceiver) -> None:
    controls = Controls(receiver, StageElement())
    radius = OptionInfo(name="radius", default=5, minimum=1, maximum=64, unit="pixels")
    method = MethodInfo(name="spots", title="Spots", options=(radius,))
    say(receiver, methods=(method,), method="spots", options={"radius": 40})
    controls.update()
    slider = controls.options.objects[0]
    assert (slider.value, slider.end) == (40, 40)
    assert receiver.asked == []


def test_defaults_are_offered_where_an_option_differs_and_asked_for_all_at_once(receiver: FakeReceiver) -> None:
    controls = Controls(receiver, StageElement())
    say(receiver, options={"radius": 5, "blur": 3.0, "newest_only": False})
    controls.update()
    assert not controls.defaults.visible
    say(receiver, options={"radius": 7, "blur": 3.0, "newest_only": False})
    controls.update()
    assert controls.defaults.visible
    controls.defaults.clicks += 1
    assert receiver.asked == [{"options": {"radius": 5, "blur": 3.0, "newest_only": False, "cut": 0.0}}]


def test_heat_controls_set_the_stage(receiver: FakeReceiver) -> None:
    stage = StageElement()
    controls = Controls(receiver, stage)
    controls.targets.value, controls.opacity.value = "critic", 0.2
    controls.scale.value, controls.smooth.value = "recent", False
    assert (stage.targets, stage.opacity, stage.scale, stage.smooth) == ("critic", 0.2, "recent", False)


def test_streams_are_told_apart_by_name_and_environment(receiver: FakeReceiver) -> None:
    known = {"stream": "0" * 32, "env_id": "CartPole-v1", "pid": 1, "started": 0.0, "version": (1, 0)}
    for port, name in ((1, "CartPole-v1"), (2, "mine")):
        receiver.streams.append(Announcement(name=name, endpoint=f"tcp://127.0.0.1:{port}", **known))
    controls = Controls(receiver, StageElement())
    controls.update()
    assert controls.stream.options == {
        "CartPole-v1": "tcp://127.0.0.1:1",
        "mine · CartPole-v1": "tcp://127.0.0.1:2",
    }
