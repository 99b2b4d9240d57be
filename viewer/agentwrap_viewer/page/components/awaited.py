"""What the page still waits for between an agent's first sign of life and its first map, in words."""

from __future__ import annotations

from agentwrap_viewer.page.store import Store

from .explanation import explainer_state

#: What is awaited, in the order in which it comes. While the policy is exported the agent makes no steps.
WORDS = {
    "explainer": "starting the explainer",
    "call": "no call of the policy seen yet",
    "export": "exporting the policy, the agent is held meanwhile",
    "replica": "rebuilding the policy for the explainer",
    "map": "computing the first map",
}


def awaited(store: Store) -> str | None:
    """Return which of ``WORDS`` is awaited before there can be maps; None where there are some, or never will be."""
    policy, state = store.hello.policy if store.hello else None, explainer_state(store)
    if (
        policy is None
        or (policy.graph == "failed" and policy.probe is None)
        or store.connection not in ("connected", "silent", "recorded")
    ):
        return None
    if state in ("none", "down", "unable") or store.maps.newest is not None:
        return None
    if state == "starting":
        return "explainer"
    if policy.graph == "pending":
        # the outputs are told when the first call is seen, right before it is exported
        return "export" if policy.outputs else "call"
    return "map" if state == "ready" else "replica"


def gives_value(store: Store) -> bool | None:
    """Whether the policy gives a value of the state, V(s) or Q-values; None while a call of it may still be seen."""
    outputs = store.hello.policy.outputs if store.hello else ()
    return bool({"value", "q_values"} & set(outputs)) if outputs or store.connection == "recorded" else None
