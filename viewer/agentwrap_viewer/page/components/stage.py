"""The stage: the frame, and the heat over it."""

from __future__ import annotations

from typing import Any

import param
from numpy.typing import NDArray

from agentwrap_protocol.messages import SaliencyMap
from agentwrap_viewer.page.packet import Packet
from agentwrap_viewer.page.pictures import observation_of, picture_of, quantise
from agentwrap_viewer.page.view import News, View

from .element import Element

#: Methods whose maps are means of random draws, ``n`` of them, and what these are.
DRAWS = {"rise": "masks", "smoothgrad": "noisy copies"}


class StageElement(Element):
    """Draws the frame with the heat over it, on a canvas as large as the frame.

    Attributes:
        targets: Which heat is drawn: ``actor``, ``critic``, ``both`` or ``none``.
        opacity: Opacity of the strongest heat, 0…1.
        smooth: Interpolate the heat between its pixels.
        scale: What the strongest colour stands for: the largest score of each ``map``; the one that ``most`` of its
            scores, 99 %, stay below, as a few of a gradient's dwarf the rest (Smilkov et al. 2017, section 3.2); or the
            largest of the ``recent`` maps.
        wait: While live, show the newest step that has a map instead of the newest step.
        version: Version of the policy that a recording's steps are explained with; 0 for each step's own.
        source: Section of the message to the tab that is drawn.
        heading: The card's title.
        side: Which of two policies it belongs to: ``left``, ``right``, ``difference``, or nothing.
    """

    targets = param.Selector(default="both", objects=["both", "actor", "critic", "none"])
    opacity = param.Number(default=0.75, bounds=(0, 1))
    smooth = param.Boolean(default=True)
    scale = param.Selector(default="map", objects=["map", "most", "recent"])
    wait = param.Boolean(default=False)
    version = param.Integer(default=0, bounds=(0, None))
    source = param.String(default="stage")
    heading = param.String(default="Agent view")
    side = param.Selector(default="", objects=["", "left", "right", "difference"])

    _module = "stage"


class Stage:
    """Source of the stage for one tab; sends a frame or a map only where the tab has another."""

    name = "stage"

    def __init__(self) -> None:
        self._frame, self._heat, self._lag = News(), News(), News()

    def update(self, view: View) -> dict[str, Any] | None:
        """Return ``frame`` and ``heat`` where they changed; a value of None clears what is shown."""
        source: dict[str, Any] = {}
        chosen = view.cursor.picture
        if self._frame.of(view, view.step, chosen):
            source["frame"] = frame_of(view)
            source["vector"] = view.step is not None and source["frame"] is None
        if self._heat.of(view, view.saliency_map, chosen):
            source["heat"] = heat_of(view)
        if self._lag.of(view, view.saliency_map, view.step):
            source["lag"] = _lag(view)
        return source or None


def frame_of(view: View) -> dict[str, Any] | None:
    """Return the picture of the step shown, or None where there is none."""
    if view.step is None:
        return None
    chosen = view.cursor.picture
    picture = picture_of(view.step, view.hello.observation_space if view.hello else None, chosen)
    if picture is None:
        return None
    return view.packet.array(picture, (view.step.stream, view.step.step, f"frame {chosen}"))


def heat_of(view: View) -> list[dict[str, Any]] | None:
    """Return a layer for each target of the map shown, as the browser draws them; None where there is none."""
    message = view.saliency_map
    if message is None:
        return None
    observation = None if view.step is None else observation_of(view.step, view.cursor.picture)
    shown = "" if observation is None else observation[0].partition("/")[2]
    layers = []
    for target in message.targets:
        name = _heat_of(message, target, shown)
        if name is not None:
            layers.append(layer_of(view.packet, message, target, name, message.arrays[name]))
    return layers or None


def layer_of(packet: Packet, message: SaliencyMap, target: str, name: str, heat: NDArray[Any]) -> dict[str, Any]:
    """Return a target's heat (H, W) as the browser draws it: that of a map's array of this name, or one of its kind."""
    scale = message.scale_of(name)
    quantised, full = quantise(heat, scale)
    return {
        "target": target,
        "title": message.title_of(target),
        "heat": packet.array(quantised),
        "full": full,
        "scale": scale,
        "method": message.method_of(name),
    }


def _heat_of(message: SaliencyMap, target: str, shown: str) -> str | None:
    """Return the name of a target's heat: of several entries that of the one shown; the first where that is unknown."""
    heat = f"heatmap/{target}"
    names = [
        name
        for name, array in message.arrays.items()
        if (name == heat or name.startswith(f"{heat}/")) and array.ndim == 2 and array.size
    ]
    if shown and heat not in names:
        return f"{heat}/{shown}" if f"{heat}/{shown}" in names else None
    return next(iter(names), None)


def _lag(view: View) -> dict[str, Any] | None:
    """Say which step the map explains, how far behind and how far refined it is, and when what became of it."""
    message, step = view.saliency_map, view.step
    if message is None or step is None:
        return None
    return {
        "step": message.step,
        "steps": step.step - message.step,
        "time": message.step_time,
        "sent": message.time,
        "seconds": message.seconds,
        "refined": message.refined,
        "drawn": drawn_of(message),
    }


def drawn_of(message: SaliencyMap) -> dict[str, Any] | None:
    """Return how many of the random draws an unfinished map is the mean of, ``of`` how many, and ``what`` they are.

    Such a map looks like a finished one but for its noise: of other methods, and of finished maps, None.
    """
    what, count = DRAWS.get(message.method), message.options.get("n")
    if what is None or message.refined >= 1 or not isinstance(count, int):
        return None
    return {"done": int(message.refined * count), "of": count, "what": what}
