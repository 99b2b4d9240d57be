"""What stands in the way, in words: waiting, silence, an explainer that is down or unable, NaN outputs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from agentwrap_viewer.page.store import Store
from agentwrap_viewer.page.view import View

from .awaited import awaited
from .element import Element
from .explanation import explainer_state, replica_check

#: The line that a user adds to a training or evaluation loop.
THE_LINE = "env = InterpretWrapper(env, policy)"

#: How serious a notice is, the most serious first.
LEVELS = ("error", "warning", "info")

#: Notices of what happened once, and the seconds for which they stay.
PASSING, STAYS = ("target", "replaced"), 20.0


class NoticesElement(Element):
    """Draws the notices above the page's parts."""

    _module = "notices"


class Notices:
    """Source of the notices for one tab.

    Args:
        clock: Monotonic seconds; tells how long a passing notice has been there.
    """

    name = "notices"

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._shown: dict[str, Any] | None = None
        self._since: dict[tuple[str, str], float] = {}  # of passing notices, by what they say

    def update(self, view: View) -> dict[str, Any] | None:
        """Return ``items``, most serious first; None if unchanged.

        Each has ``id``, ``about``, ``level``, ``title``, ``text``. One that is closed stays so while there is one with
        its ``id`` and ``about``. They are ``closable`` where there is more to see than they.
        """
        items = [*_about_agent(view), *_about_file(view.store), *_about_explainer(view), *_about_outputs(view)]
        items = self._without_passed(items)
        items.sort(key=lambda item: LEVELS.index(item["level"]))
        source = {"items": items, "closable": view.step is not None}
        if source == self._shown and not view.fresh:
            return None
        self._shown = source
        return source

    def _without_passed(self, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Leave out what has been there long enough to be read; it comes back when it happens again."""
        now = self._clock()
        passing = [(item["id"], item["text"]) for item in items if item["id"] in PASSING]
        self._since = {said: self._since.get(said, now) for said in passing}
        return [item for item in items if now - self._since.get((item["id"], item["text"]), now) < STAYS]


def _notice(key: str, level: str, title: str, text: str = "", **more: Any) -> dict[str, Any]:
    """A notice; ``about`` is given where its words change while it is about the same."""
    return {"id": key, "about": f"{title} {text}", "level": level, "title": title, "text": text, **more}


def _about_agent(view: View) -> list[dict[str, Any]]:
    store = view.store
    match store.connection:
        case "incompatible":
            return [_notice("version", "error", "Another version of the protocol", store.problem or "")]
        case "waiting":
            text = "Add this line to your program and run it. The page starts by itself."
            code = f"from agentwrap import InterpretWrapper\n\n{THE_LINE}"
            return [_notice("waiting", "info", "Waiting for an agent", text, code=code)]
        case "silent":
            was = (
                "It was exporting its policy, which takes long where that is large. "
                if awaited(store) == "export"
                else ""
            )
            text = f"{was}The page resumes by itself as soon as it streams again."
            return [_notice("silent", "warning", f"Agent silent for {store.silent_for:.0f} s", text, about="")]
        case "gone":
            text = "It was killed or crashed: look at its terminal. The page resumes when it is started again."
            more = _instead(store)
            return [_notice("lost", "warning", "The agent's process has ended without a goodbye", text, **more)]
        case "ended":
            reason = store.bye.reason if store.bye else ""
            text = "Play shows what is kept of it once more. The page resumes when the agent is started again."
            return [
                _notice(
                    "ended", "info", "The agent has ended" + (f": {reason}" if reason else ""), text, **_instead(store)
                )
            ]
    notices = [_about_start(store)] if store.newest is None else _about_disk(store)
    if store.replaced is not None and store.hello is not None:
        text = f"“{store.hello.name}” streams from the address where “{store.replaced}” did."
        notices.append(_notice("replaced", "info", "Another agent is shown now", text))
    return notices


def _instead(store: Store) -> dict[str, Any]:
    """Return what offers the newest of the other agents that run, where there is one."""
    if not store.others:
        return {}
    endpoint, name = store.others[0]
    return {"offer": {"endpoint": endpoint, "text": f"Show “{name}”, which runs"}}


def _about_disk(store: Store) -> list[dict[str, Any]]:
    if store.heartbeat is None or not store.held_up:
        return []
    text = (
        f"{store.heartbeat.recording_wait:.1f} s so far: it records more than the disk takes, and leaves nothing out. "
        'record_every=… records fewer steps; on_full="drop" drops what does not fit.'
    )
    return [_notice("held-up", "warning", "The agent waits for the disk that it records to", text, about="")]


def _about_file(store: Store) -> list[dict[str, Any]]:
    notes = [_notice("note", "warning", "Not all is there", _sentence(note)) for note in store.notes]
    if store.marks.problem is not None:
        notes.append(_notice("bookmarks", "warning", "Bookmarks are not saved", _sentence(store.marks.problem)))
    return notes


def _sentence(note: str) -> str:
    return note[:1].upper() + note[1:] + ("" if note.endswith(".") else ".")


def _about_start(store: Store) -> dict[str, Any]:
    name = store.hello.name if store.hello else "agent"
    match awaited(store):
        case "export":
            text = f"“{name}” is held meanwhile: a second or two, longer for a large policy. Then its steps follow."
            return _notice("exporting", "info", "The agent is exporting its policy", text)
        case "explainer":
            text = "The page begins with the agent's next step. Maps follow when the explainer has started."
        case _:
            text = "The page begins with the agent's next step. It waits for the program to call env.step()."
    return _notice("connected", "info", f"Connected to “{name}”, no step seen yet", text)


def _about_explainer(view: View) -> list[dict[str, Any]]:
    store = view.store
    state = explainer_state(store)
    if state == "down":
        text = f"Steps are shown without maps meanwhile. It {store.explainer_problem or 'ended'}."
        return [_notice("explainer-down", "warning", "The explainer stopped and is being started again", text)]
    if store.connection == "waiting":
        return []
    if store.without_maps is not None:
        return [_notice("no-policy", "info", "Replayed without maps", store.without_maps)]
    policy = store.hello.policy if store.hello else None
    if policy is not None and policy.graph == "failed" and policy.probe is None:
        text = policy.problem or "The policy could not be exported."
        return [_notice("no-maps", "warning", "No maps: this policy cannot be exported", text)]
    if policy is not None and policy.graph == "pending" and policy.problem:
        return [_notice("no-call", "warning", "Nothing of the policy to show yet", policy.problem)]
    if state == "unable":
        problem = store.explainer.problem if store.explainer else None
        return [_notice("unable", "warning", "No maps for this policy", problem or "")]
    if policy is not None and policy.graph == "exported" and policy.problem:
        return [_notice("misfit", "warning", "Maps may be of something else", policy.problem)]
    if state == "none":
        return [_notice("no-explainer", "info", "No explainer runs", "Steps are shown without maps.")]
    if state == "ready" and store.explainer is not None and store.explainer.problem:
        return [_notice("target", "warning", "Another target is explained", _sentence(store.explainer.problem))]
    if store.explainer_problem:
        return [_notice("request", "warning", "The explainer refused the settings", store.explainer_problem)]
    return _about_replica(view)


def _about_replica(view: View) -> list[dict[str, Any]]:
    check = replica_check(view.saliency_map, view.step)
    if check["state"] != "differs":
        return []
    text = (
        f"Outputs differ from the agent's by up to {check['difference']:.3g}: the maps explain something else than the "
        "policy that acts. Usual causes: preprocessing outside the policy, or dropout left on."
    )
    return [_notice("replica", "warning", "The replica does not compute what the agent computed", text, about="")]


def _about_outputs(view: View) -> list[dict[str, Any]]:
    if view.step is None:
        return []
    bad = [
        name.removeprefix("output/")
        for name, array in view.step.arrays.items()
        if name.startswith("output/") and array.dtype.kind == "f" and not np.isfinite(array).all()
    ]
    if not bad:
        return []
    text = f"Not a finite number at step {view.step.step}: {', '.join(bad[:8])}."
    return [_notice("nan", "error", "The policy's outputs contain NaN or infinity", text, about="")]
