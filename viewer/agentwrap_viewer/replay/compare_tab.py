"""One tab over a recording that two versions of the policy are compared on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from agentwrap_protocol.messages import Hello, SaliencyMap, Step
from agentwrap_protocol.spaces import Discrete
from agentwrap_viewer.comparison.measures import map_difference
from agentwrap_viewer.page.compare_layout import FEATURES, SIDES
from agentwrap_viewer.page.components.features import Features
from agentwrap_viewer.page.components.policy import describe
from agentwrap_viewer.page.components.stage import Stage
from agentwrap_viewer.page.components.timeline import Marked, Timeline
from agentwrap_viewer.page.packet import EncodedCache
from agentwrap_viewer.page.receiver import Receiver
from agentwrap_viewer.page.view import Component, View

from .columns import reduced
from .contrast import Contrast
from .store import RecordedStore
from .tab import ReplayTab

#: Parts of the page over one policy that the one over two has no place for.
LEFT_OUT = ("stage", "features", "policy", "inputs", "series", "episodes", "explanation", "pinned", "timeline", "marks")


class Side:
    """A part of the page as one of the policies has it.

    Args:
        name: The section that it is sent as.
        part: Draws it.
        maps: Returns the map to draw for a step.
        caption: What is said beside the heading for a position, or None where nothing is.
    """

    def __init__(
        self,
        name: str,
        part: Component,
        maps: Callable[[Step], SaliencyMap | None],
        *,
        caption: Callable[[int], str] | None = None,
    ) -> None:
        self.name = name
        self._part, self._maps, self._caption = part, maps, caption
        self._said: str | None = None

    def update(self, view: View) -> dict[str, Any] | None:
        """Return what the part sends for this side, and a ``caption`` where it has changed."""
        shown = self._maps(view.step) if view.step is not None else None
        section = self._part.update(dataclasses.replace(view, saliency_map=shown))
        said = self._caption(view.cursor.position) if self._caption is not None else None
        if said is not None and (view.fresh or said != self._said):
            self._said = said
            section = {**(section or {}), "caption": said}
        return section


class DifferenceStage(Stage):
    """The stage with the difference of two maps."""

    def __init__(self, names: tuple[str, str]) -> None:
        super().__init__()
        self._names = names

    def update(self, view: View) -> dict[str, Any] | None:
        """Return what the stage does; heat says whose ``names`` its two colours stand for."""
        source = super().update(view)
        for layer in (source or {}).get("heat") or ():
            layer.update(scale="difference", names=list(self._names))
        return source


class DifferenceFeatures(Features):
    """The features with the difference of two maps."""

    def __init__(self, names: tuple[str, str]) -> None:
        super().__init__()
        self._names = names

    def update(self, view: View) -> dict[str, Any] | None:
        """Return what the features do, and whose ``names`` the two directions of their bars stand for."""
        source = super().update(view)
        return source if source is None else {**source, "names": list(self._names)}


class Compared:
    """Source of what both policies compute, for one tab.

    Args:
        contrast: What they compute.
    """

    name = "contrast"

    def __init__(self, contrast: Contrast) -> None:
        self._contrast = contrast
        self._sent: tuple[Step | None, int] | None = None

    def update(self, view: View) -> dict[str, Any] | None:
        """Return ``left`` and ``right`` as the policy's bars have them, ``actions``, ``distance``, figures of all."""
        contrast, position = self._contrast, view.cursor.position
        wanted = (view.step, contrast.changes)
        if self._sent is not None and self._sent[0] is wanted[0] and self._sent[1] == wanted[1] and not view.fresh:
            return None
        self._sent = wanted
        actions = contrast.actions(position)
        return {
            "names": list(contrast.names),
            "left": self._described(view, 0),
            "right": self._described(view, 1),
            "actions": [contrast.action(each) for each in actions] if actions is not None else [None, None],
            "recorded": self._recorded(view),
            "distance": float(contrast.distance[position]) if actions is not None else None,
            "disagree": bool(contrast.disagree[position]) if actions is not None else None,
            "values": [_value(contrast.outputs(position, side)) for side in (0, 1)],
            "problem": contrast.problem,
            **contrast.figures(),
        }

    def _described(self, view: View, side: int) -> dict[str, Any] | None:
        outputs = self._contrast.outputs(view.cursor.position, side)
        actions = self._contrast.actions(view.cursor.position)
        if outputs is None or actions is None or view.step is None or view.hello is None:
            return None
        arrays = {f"output/{name}": values for name, values in outputs.items()}
        arrays["action"] = actions[side] + _start(view.hello)
        if (mask := view.step.arrays.get("action_mask")) is not None:
            arrays["action_mask"] = mask
        return describe(msgspec.structs.replace(view.step, arrays=arrays), view.hello)

    def _recorded(self, view: View) -> str | None:
        action = view.step.arrays.get("action") if view.step is not None else None
        if action is None or view.hello is None:
            return None
        return self._contrast.action(action.reshape(-1) - _start(view.hello))


def _start(hello: Hello) -> int:
    return hello.action_space.start if isinstance(hello.action_space, Discrete) else 0


def _value(outputs: dict[str, NDArray[Any]] | None) -> float | None:
    if outputs is None:
        return None
    if "value" in outputs:
        return float(np.asarray(outputs["value"]).reshape(-1)[0])
    return float(np.max(outputs["q_values"])) if "q_values" in outputs else None


class ComparedTimeline(Timeline):
    """Source of the timeline for one tab: with how far the policies are apart, as that is computed."""

    def __init__(self, store: RecordedStore, contrast: Contrast) -> None:
        super().__init__(lambda: store.columns)
        self._contrast = contrast
        self._known = (-1, 0)

    def update(self, view: View) -> dict[str, Any] | None:
        """Return what ``Timeline`` does, with a lane ``distance``; again whenever there is more, or more is known."""
        known = (self._contrast.known, len(self._contrast.distance))
        if self._known == known and not view.fresh:
            return None
        self._known = known
        source = super().update(dataclasses.replace(view, fresh=True))
        assert source is not None
        lane = {"name": "distance", "values": view.packet.array(reduced(self._contrast.distance.astype(np.float32)))}
        return {**source, "lanes": [lane, *(other for other in source["lanes"] if other["name"] != "entropy")]}


class CompareTab(ReplayTab):
    """One tab's state: its place in the recording; both policies' maps of the step there.

    Args:
        receiver: Its store is a recording with two policies that are compared.
        cache: Encoded arrays, shared by all tabs.
    """

    def __init__(self, receiver: Receiver, cache: EncodedCache) -> None:
        store = receiver.store
        assert isinstance(store, RecordedStore) and store.contrast is not None
        self._contrast = store.contrast
        self._difference: tuple[SaliencyMap, SaliencyMap, SaliencyMap] | None = None
        super().__init__(receiver, cache)

    def _parts(self) -> list[Component]:
        names = self._contrast.names
        kept = [part for part in super()._parts() if part.name not in LEFT_OUT]
        return [
            *kept,
            Side(SIDES["left"], Stage(), self._left, caption=lambda position: self._would(position, 0)),
            Side(SIDES["right"], Stage(), self._right, caption=lambda position: self._would(position, 1)),
            Side(SIDES["difference"], DifferenceStage(names), self._between, caption=lambda _: ""),
            Side(FEATURES["left"], Features(), self._left),
            Side(FEATURES["right"], Features(), self._right),
            Side(FEATURES["difference"], DifferenceFeatures(names), self._between),
            Compared(self._contrast),
            ComparedTimeline(self._recorded, self._contrast),
            Marked(self._recorded.marks, lambda step: self._recorded.columns.position_of(step)),
        ]

    def _left(self, step: Step) -> SaliencyMap | None:
        return self._place.map_by(step, self._contrast.versions[0])

    def _right(self, step: Step) -> SaliencyMap | None:
        return self._place.map_by(step, self._contrast.versions[1])

    def _between(self, step: Step) -> SaliencyMap | None:
        """The difference of both maps where they are of the same step, made once for each pair."""
        left, right = self._left(step), self._right(step)
        if left is None or right is None or left.step != right.step:
            return None
        if (left.method, left.targets) != (right.method, right.targets):
            return None
        if self._difference is None or self._difference[0] is not left or self._difference[1] is not right:
            found = msgspec.structs.replace(
                right,
                scale="signed",
                refined=min(left.refined, right.refined),
                titles=dict(left.titles.items() & right.titles.items()),  # what each chooses may differ
                arrays={name: array for name, array in map_difference(left, right).items()},
            )
            self._difference = (left, right, found)
        return self._difference[2]

    def _would(self, position: int, side: int) -> str:
        actions = self._contrast.actions(position)
        return f"→ {self._contrast.action(actions[side])}" if actions is not None else ""

    def ask(self, view: View) -> None:
        """Ask for both policies' maps of the step shown, and for outputs around it first."""
        self._contrast.near = view.cursor.position
        if view.step is None:
            return
        for version in self._contrast.versions:
            known = self._recorded.map_of(view.step.step, version)
            if known is None or known.refined < 1:
                self._receiver.explain(view.step, version=version)
