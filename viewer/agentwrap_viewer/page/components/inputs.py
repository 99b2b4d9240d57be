"""What the network sees: the pictures that the observation is a stack of, or the frames that a policy remembers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentwrap_protocol.messages import SaliencyMap, Step
from agentwrap_viewer.page.pictures import Picture, network_input, observation_of, picture_of, pictures_of
from agentwrap_viewer.page.view import News, View

from .element import Element

#: Pixels of the larger side of a remembered frame at most, for there are several.
SIDE = 96


class InputsElement(Element):
    """Draws the observation's newest pictures in a row, oldest first, and how much each matters where that is known."""

    _module = "inputs"


class Inputs:
    """Source of the network's input for one tab."""

    name = "inputs"

    def __init__(self) -> None:
        self._pictures, self._scores = News(), News()
        self._source: str | None = None
        self._choice: dict[str, Any] | None = None

    def update(self, view: View) -> dict[str, Any] | None:
        """Return the pictures where they are others, the scores where they are.

        Returns:
            ``planes``, uint8 (k, H, W) or (k, H, W, 3), and the observation's ``shape``, both None where there is no
            picture; ``pictures``, where the observation has several, each with ``name`` and ``title``, and ``picture``,
            the name of the one shown; and ``past``, of the map shown, which may be that of a step before: ``kind``,
            ``layers`` with ``target``, ``title`` and ``weights`` as shares of the largest, and ``problem``; None where
            no map says anything of that.
        """
        step, found = view.step, view.saliency_map
        remembered = found is not None and found.past == "steps"  # by the step of the map, not the one shown
        changed: dict[str, Any] = {}
        chosen = view.cursor.picture
        if self._pictures.of(view, found if remembered else step, chosen):
            observation = observation_of(step, chosen) if step is not None else None
            choice = _choice(step, observation)
            if view.fresh or choice != self._choice:
                self._choice = choice
                changed |= choice
            changed["shape"] = None if observation is None else list(observation[1].shape)
            changed["planes"] = None
            if step is not None and observation is not None:
                changed["planes"] = _remembered(view, found) if found and remembered else _stack(view, step)
        if self._scores.of(view, found) and not (self._awaits(found) and not view.fresh):
            self._source = None if found is None else found.source
            changed["past"] = None if found is None else _past(found)
        return changed or None

    def _awaits(self, found: SaliencyMap | None) -> bool:
        """Whether a map may say more of the frames before when it is finer: until then the last one's shares stay."""
        return found is not None and found.past is None and found.refined < 1 and found.source == self._source


def _choice(step: Step | None, shown: tuple[str, NDArray[Any]] | None) -> dict[str, Any]:
    names = [] if step is None else pictures_of(step)
    several = [{"name": name, "title": name.partition("/")[2]} for name in names] if len(names) > 1 else []
    return {"pictures": several, "picture": None if shown is None else shown[0]}


def _stack(view: View, step: Step) -> dict[str, Any] | None:
    chosen = view.cursor.picture
    stack = network_input(step, view.hello.observation_space if view.hello else None, chosen)
    return None if stack is None else view.packet.array(stack, (step.stream, step.step, f"input {chosen}"))


def _remembered(view: View, found: SaliencyMap) -> dict[str, Any] | None:
    frames = _frames(view, found)
    return None if frames is None else view.packet.array(frames, (found.source, found.step, "past"))


def _past(message: SaliencyMap) -> dict[str, Any] | None:
    """Return what a map says of the frames before."""
    if message.past is None:
        return None
    layers = []
    for name, scores in message.arrays.items():
        if name.startswith("past/") and scores.ndim == 1 and scores.size:
            known = np.nan_to_num(np.asarray(scores, np.float64), posinf=0.0, neginf=0.0).clip(min=0)
            weights = (known / max(float(known.max()), 1e-300)).tolist()
            target = name.removeprefix("past/")
            layers.append({"target": target, "title": message.title_of(target), "weights": weights})
    return {"kind": message.past, "layers": layers[:2], "problem": message.past_problem}


def _frames(view: View, message: SaliencyMap) -> NDArray[np.uint8] | None:
    """Return small pictures of the steps that a map looks back on, oldest first; None where there are none."""
    count = max((array.size for name, array in message.arrays.items() if name.startswith("past/")), default=1)
    space = view.hello.observation_space if view.hello else None
    pictures: list[Picture] = []
    for number in range(message.step - count + 1, message.step + 1):
        position = view.store.steps.position_of(number)
        step = None if position is None else view.store.steps.at(position)
        picture = None if step is None else picture_of(step, space)
        if picture is None and not pictures:
            return None
        small = _small(picture) if picture is not None else np.zeros_like(pictures[-1])
        pictures.append(small if not pictures or small.shape == pictures[0].shape else np.zeros_like(pictures[0]))
    return np.stack(pictures)


def _small(picture: Picture) -> Picture:
    stride = -(-max(picture.shape[:2]) // SIDE)
    return picture[::stride, ::stride]
