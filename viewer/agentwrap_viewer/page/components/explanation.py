"""How the explanation does: how fast, how old, how far refined, and whether the replica agrees with the agent."""

from __future__ import annotations

from typing import Any

from agentwrap_protocol.messages import SaliencyMap, Step
from agentwrap_viewer.page.store import Store
from agentwrap_viewer.page.view import View

from .element import Element

#: Largest difference of outputs, relative to none, that still counts as the same computation in float32.
TOLERANCE = 1e-3


class ExplanationElement(Element):
    """Draws the explainer's figures."""

    _module = "explanation"


class Explanation:
    """Source of the explainer's figures for one tab."""

    name = "explanation"

    def update(self, view: View) -> dict[str, Any]:
        """Return the explainer's state and the figures of the map shown."""
        explainer, shown = view.store.explainer, view.saliency_map
        source: dict[str, Any] = {
            "state": explainer_state(view.store),
            "rate": explainer.maps_per_second if explainer else None,
            "device": explainer.device if explainer else None,
            "missed": explainer.missed if explainer else None,
            "budget": explainer.budget_ms if explainer else None,
            "weights_age": _weights_age(view.store, view.step),
            "policy_version": explainer.policy_version if explainer else None,
            "replica": replica_check(shown, view.step),
            "probed": probed(view.store),
            "map": None,
        }
        if shown is not None and view.step is not None:
            source["map"] = _figures(shown, view.step)
        return source


def explainer_state(store: Store) -> str:
    """Return ``none``, ``down``, ``starting``, or its own state: ``waiting``, ``pending``, ``ready``, ``unable``."""
    if store.explainer_alive is None:
        return "none"
    if not store.explainer_alive:
        return "down"
    return store.explainer.state if store.explainer else "starting"


def probed(store: Store) -> dict[str, Any] | None:
    """Return why the policy is probed, and the time for it in ms per second; None where it is not."""
    policy = store.hello.policy if store.hello else None
    if policy is None or policy.probe is None:
        return None
    return {"ms_per_s": policy.probe.ms_per_s, "why": policy.problem or ""}


def replica_check(message: SaliencyMap | None, step: Step | None) -> dict[str, Any]:
    """Compare the viewer's replica with what the agent computed: ``unknown``, ``same``, ``stale`` or ``differs``.

    A map by another version of the policy than the step's says nothing of that: it is meant to differ.
    """
    difference = message.replica_max_abs_diff if message else None
    other = message is not None and step is not None and message.policy_version != step.policy_version
    if message is None or difference is None or (other and message.step == (step.step if step else None)):
        return {"state": "unknown", "difference": None}
    if difference <= TOLERANCE:
        return {"state": "same", "difference": difference}
    return {"state": "stale" if message.policy_stale else "differs", "difference": difference}


def _weights_age(store: Store, step: Step | None) -> float | None:
    """Seconds for which the step's version of the policy had acted; None while the policy has had no other."""
    first = 1 if store.hello is None or store.hello.policy.probe is None else 0  # what is probed begins without one
    began = store.version_began(step.policy_version) if step is not None else None
    return None if step is None or began is None or step.policy_version <= first else max(0.0, step.time - began)


def _figures(message: SaliencyMap, step: Step) -> dict[str, Any]:
    return {
        "step": message.step,
        "behind": step.step - message.step,
        "age": max(0.0, step.time - message.step_time),
        "refined": message.refined,
        "seconds": message.seconds,
        "forwards": message.forwards,
        "methods": list(dict.fromkeys((message.method, *message.entry_methods.values()))),
        "version": message.policy_version,
    }
