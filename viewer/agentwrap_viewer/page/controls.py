"""The sidebar: which stream, how it is explained, how the heat is drawn."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import panel_material_ui as pmui
from panel.viewable import Viewable

from agentwrap_protocol.announcement import Announcement
from agentwrap_protocol.messages import Explainer, MethodInfo, OptionInfo, Scalar, TargetInfo

from .components.stage import StageElement
from .discovery import names_of
from .pictures import is_vector, observation_of, size_of
from .receiver import Receiver

#: Milliseconds offered for one step. The explainer accepts 1 to 60,000.
BUDGETS = (10, 20, 30, 50, 100, 200, 500, 1000)

#: Streams offered in the sidebar. Of more, one is found in the list that the header opens.
MOST_STREAMS = 12

#: What a select shows before there is anything to choose from.
NOTHING = {"none yet": ""}

#: What a menu offers where nothing suits.
NONE = {"none": ""}

TARGETS = {"Both": "both", "Actor": "actor", "Critic": "critic", "None": "none"}
#: A slider whose default lies below this part of its range could not be set finely: then a number is typed.
FINEST = 20

SCALES = {"largest of this map": "map", "99 % of this map": "most", "largest of recent maps": "recent"}


#: What the choice of a version shows first.
OWN = "the one of each step"

#: Versions offered at most.
MOST_VERSIONS = 500


class Controls:
    """The controls of one tab. What they ask of the explainer holds for all tabs; ``update`` shows what it answered.

    Args:
        receiver: Takes the requests.
        stage: The stage whose drawing they set.
        others: Further stages that are drawn alike.
        versions: Versions of a recording's policy by name; with more than one, which of them explains can be chosen.
        live: Whether there are streams to choose from and steps to wait for; not so over a recording.
    """

    def __init__(
        self,
        receiver: Receiver,
        stage: StageElement,
        *,
        live: bool = True,
        others: Sequence[StageElement] = (),
        versions: Mapping[str, int] | None = None,
    ) -> None:
        self._receiver = receiver
        self._stage, self._others = stage, others
        self._versions = {OWN: 0, **spread(versions or {})}
        self._live = live
        self._updating = False
        self._drawn_for: tuple[Any, ...] | None = None
        self._settings: dict[str, Any] = {}
        self._defaults: dict[str, Scalar] = {}
        wide: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": 0}
        self.stream = pmui.Select(label="Stream", options=NOTHING, value="", size="small", **wide)
        self.method = pmui.Select(label="Method", options=NOTHING, value="", size="small", **wide)
        self.target = pmui.Select(label="Target", options=NOTHING, value="", size="small", **wide)
        self.method_doc = pmui.Typography("", variant="caption", margin=0, sizing_mode="stretch_width")
        self.options = pmui.Column(sizing_mode="stretch_width", margin=0, sx={"gap": "12px"})
        self.defaults = pmui.Button(label="Defaults", variant="text", size="small", margin=0, visible=False)
        self.budget = pmui.Select(
            label="Time for one step", options={f"{ms} ms": float(ms) for ms in BUDGETS}, size="small", **wide
        )
        self.version = pmui.Select(label="Policy version", options=self._versions, value=0, size="small", **wide)
        self.targets = pmui.RadioButtonGroup(label="Show", options=TARGETS, value=stage.targets, size="small", **wide)
        self.opacity = pmui.FloatSlider(
            label="Opacity", start=0.0, end=1.0, step=0.05, value=stage.opacity, size="small", **wide
        )
        self.scale = pmui.Select(label="Full colour", options=SCALES, value=stage.scale, size="small", **wide)
        self.smooth = pmui.Switch(label="Smooth", value=stage.smooth, size="small", margin=0)
        self.wait = pmui.Switch(label="Wait for the map", value=stage.wait, size="small", margin=0)
        self._connect()
        self.root = self._layout()

    def _connect(self) -> None:
        for name in ("targets", "opacity", "scale", "smooth", "wait"):
            for stage in (self._stage, *self._others):
                getattr(self, name).link(stage, value=name)
        self.version.link(self._stage, value="version")
        self.stream.param.watch(lambda event: self._choose_stream(event.new), "value")
        self.method.param.watch(lambda event: self._ask(method=event.new), "value")
        self.target.param.watch(lambda event: self._ask(target=_lasting(event.new, self.target.options)), "value")
        self.budget.param.watch(lambda event: self._ask(budget_ms=event.new), "value")
        self.defaults.on_click(lambda _: self._ask(options=dict(self._defaults)))

    def _layout(self) -> list[Viewable]:
        version = (self.version,) if len(self._versions) > 2 else ()
        explanation = (*version, self.method, self.method_doc, self.target, self.options, self.defaults, self.budget)
        heat = (self.targets, self.opacity, self.scale, self.smooth, *((self.wait,) if self._live else ()))
        self._heat = _section("Heat", *heat)
        self._source = _section("Source", self.stream)
        source = (self._source,) if self._live else ()
        return [*source, _section("Explanation", *explanation), self._heat]

    def update(self) -> None:
        """Show the streams announced and what the explainer says of itself, without asking it for anything."""
        self._updating = True
        try:
            self._update_streams()
            self._update_explainer()
            self._heat.visible = self._observation == "image"
        finally:
            self._updating = False

    def _update_streams(self) -> None:
        streams, endpoint = self._receiver.streams, self._receiver.endpoint
        self._source.visible = len(streams) <= MOST_STREAMS
        names = names_of(streams)
        options = {_label(stream, names[stream.endpoint]): stream.endpoint for stream in streams[:MOST_STREAMS]}
        if endpoint is not None and endpoint not in options.values():
            options[endpoint] = endpoint
        options = options or NOTHING
        _offer(self.stream, options, endpoint if endpoint is not None else next(iter(options.values())))

    def _update_explainer(self) -> None:
        explainer = self._receiver.store.explainer
        for control in (self.method, self.target, self.budget, self.options, self.defaults):
            control.disabled = explainer is None
        if explainer is None:
            return
        offered = [method for method in explainer.methods if self._observation in method.observations]
        chosen = next((method for method in explainer.methods if method.name == explainer.method), None)
        if chosen is not None and chosen not in offered:
            offered.append(chosen)
        drawn_for = (tuple(method.name for method in offered), chosen.name if chosen else None, self._side)
        if drawn_for != self._drawn_for:
            self._drawn_for = drawn_for
            self._draw_methods(offered, chosen)
        self._show_settings(explainer.options, explainer.budget_ms)
        self._show_target(explainer)

    @property
    def _observation(self) -> str:
        newest = self._receiver.store.newest
        observation = None if newest is None else observation_of(newest)
        return "vector" if observation is not None and is_vector(observation[1]) else "image"

    @property
    def _side(self) -> int | None:
        """The shorter side of the observation's picture, in pixels."""
        hello = self._receiver.store.hello
        size = size_of(hello.observation_space) if hello is not None else None
        return min(size) if size is not None else None

    def _draw_methods(self, offered: list[MethodInfo], chosen: MethodInfo | None) -> None:
        _offer(self.method, {method.title: method.name for method in offered} or NONE, chosen.name if chosen else "")
        self.method_doc.object = " ".join(filter(None, (chosen.doc, chosen.source))) if chosen else ""
        options = chosen.options if chosen else ()
        self._settings = {option.name: control_of(option, side=self._side) for option in options}
        self._defaults = {option.name: option.default for option in options}
        for name, control in self._settings.items():
            # an entry's value is set by Enter alone, and by its buttons; its throttled one never is
            what = "value_throttled" if isinstance(control, pmui.IntSlider | pmui.FloatSlider) else "value"
            control.param.watch(lambda event, name=name: self._ask_option(name, event.new), what)
        self.options.objects = list(self._settings.values())

    def _show_settings(self, options: dict[str, Scalar], budget_ms: float) -> None:
        self.defaults.visible = any(options.get(name, value) != value for name, value in self._defaults.items())
        for name, control in self._settings.items():
            if name in options and control.value != options[name]:
                _make_room(control, options[name])
                with contextlib.suppress(ValueError):  # an option outside the bounds that its method announced
                    control.value = options[name]
        if budget_ms and budget_ms not in self.budget.options.values():
            budgets = sorted({*self.budget.options.values(), budget_ms})
            self.budget.options = {f"{budget:g} ms": budget for budget in budgets}
        if budget_ms:
            self.budget.value = budget_ms

    def _show_target(self, explainer: Explainer) -> None:
        offered = {title: name for name, title in _distinct(explainer.targets).items()}
        if explainer.target not in offered.values():
            offered[explainer.target] = explainer.target
        _offer(self.target, offered, explainer.target)

    def _choose_stream(self, endpoint: str) -> None:
        if not self._updating and endpoint:
            self._receiver.follow(endpoint)

    def _ask_option(self, name: str, value: Scalar | None) -> None:
        if value is not None:  # an entry that was emptied
            self._ask(options={name: value})

    def _ask(self, **settings: Any) -> None:
        if not self._updating and "" not in (settings.get("method"), settings.get("target")):
            self._receiver.configure(**settings)


def _offer(select: pmui.Select, options: dict[str, str], value: str) -> None:
    """Show these options, by their labels, and the one that holds."""
    renamed = options != select.options
    if renamed:
        select.options = options
    select.value = value
    if renamed:  # the browser holds the label, which may be another one for the same value
        select.param.trigger("value")


def control_of(option: OptionInfo, *, side: int | None = None) -> Viewable:
    """Return a control for one option of a method: by its choices, else by the type of its default and its bounds.

    Args:
        option: The option.
        side: The shorter side of the observation's picture, which bounds lengths in pixels; None where it is not known.
    """
    common: dict[str, Any] = {
        "label": option.name.replace("_", " ") + (", px" if option.unit == "pixels" else ""),
        "description": option.doc,
        "sizing_mode": "stretch_width",
        "size": "small",
        "margin": 0,
    }
    if option.choices:
        return pmui.Select(options={str(choice): choice for choice in option.choices}, value=option.default, **common)
    if isinstance(option.default, bool):
        return pmui.Switch(value=option.default, **common)
    if isinstance(option.default, int | float):
        return _number_control(option, side, common)
    return pmui.TextInput(value="" if option.default is None else str(option.default), **common)


def _number_control(option: OptionInfo, side: int | None, common: dict[str, Any]) -> Viewable:
    assert isinstance(option.default, int | float)
    whole, number = isinstance(option.default, int), type(option.default)
    low, high = (None if bound is None else number(bound) for bound in (option.minimum, option.maximum))
    entry, slider = (pmui.IntInput, pmui.IntSlider) if whole else (pmui.FloatInput, pmui.FloatSlider)
    if low is None or high is None:
        return entry(value=option.default, start=low, end=high, **common)
    end = number(_useful(option, side))
    step = 1 if whole else 10.0 ** math.floor(math.log10((end - low) / 50))  # a round number, for 50 to 500 places
    if option.default - low < (end - low) / FINEST:
        return entry(value=option.default, start=low, end=high, step=step, **common)
    return slider(value=option.default, start=low, end=end, step=step, **common)


def _useful(option: OptionInfo, side: int | None) -> float:
    """Return the upper end of a slider: what the method accepts, of a length in pixels a quarter of the picture."""
    assert option.maximum is not None and isinstance(option.default, int | float)
    if option.unit != "pixels" or side is None:
        return option.maximum
    return min(option.maximum, max(side // 4, option.default))


def _distinct(targets: Sequence[TargetInfo]) -> dict[str, str]:
    """Return the targets' titles by name; of those that are called alike the later ones with their names."""
    titles: dict[str, str] = {}
    for target in targets:
        alike = target.title in titles.values()
        titles[target.name] = f"{target.title} ({target.name})" if alike else target.title
    return titles


def _lasting(target: str, offered: Mapping[str, str]) -> str:
    """Return an action by its name, where that tells it from the others: the next agent's index means another."""
    title = next((known for known, name in offered.items() if name == target), target)
    alike = title.isdecimal() or title.endswith(f" ({target})")
    return title if target.isdecimal() and not alike else target


def _make_room(control: Viewable, value: Scalar) -> None:
    """Widen a slider where another tab, or the command line, set more than it reaches."""
    end = getattr(control, "end", None)
    if isinstance(value, int | float) and end is not None and value > end:
        control.end = value


def spread(versions: Mapping[str, int]) -> dict[str, int]:
    """Return the versions to offer: all, or as many as there is room for, evenly spread from the first to the last."""
    names, count = list(versions), min(len(versions), MOST_VERSIONS)
    kept = {names[index * (len(names) - 1) // max(count - 1, 1)] for index in range(count)}
    return {name: version for name, version in versions.items() if name in kept}


def _label(stream: Announcement, name: str) -> str:
    return name if stream.name == stream.env_id else f"{name} · {stream.env_id}"


def _section(title: str, *parts: Viewable) -> Viewable:
    heading = pmui.Typography(title, variant="overline", margin=0, sx={"lineHeight": 1.4, "color": "text.secondary"})
    spacing = {"gap": "12px", "padding": "14px 16px 2px"}
    return pmui.Column(heading, *parts, sizing_mode="stretch_width", margin=0, sx=spacing)
