"""The saliency methods as messages describe them, and which of them suit a policy."""

from __future__ import annotations

from typing import Any

from agentwrap_protocol import GraphError
from agentwrap_protocol.graph import Graph, Input
from agentwrap_protocol.messages import MethodInfo, OptionInfo, ProbeInfo
from agentwrap_viewer.operators import dtype
from agentwrap_viewer.saliency import DEFAULT_METHODS, GradientMethod, Method, SaliencyError, layout_of, methods
from agentwrap_viewer.saliency.layout import layout_of_entry
from agentwrap_viewer.saliency.outputs import CRITIC_NAMES

#: What tells a policy's inputs and outputs: its graph, or how it is asked where it has none.
Signature = Graph | ProbeInfo


def describe(method: type[Method]) -> MethodInfo:
    """Return what a page needs to offer a method and its options."""
    return MethodInfo(
        name=method.name,
        title=method.title,
        doc=method.doc,
        source=method.source,
        observations=method.observations,
        options=tuple(
            OptionInfo(
                name=option.name,
                default=option.default,
                doc=option.doc,
                unit=option.unit,
                minimum=option.minimum,
                maximum=option.maximum,
                choices=option.choices,
            )
            for option in method.options().values()
            if option.live
        ),
    )


def plain_options(method: Method) -> dict[str, Any]:
    """Return the values of those options that travel in a message."""
    return {name: method.values[name] for name, option in method.options().items() if option.live}


def default_method(graph: Signature | None) -> str:
    """Return the method taken for a policy when none is named: that for images, where it sees any."""
    kinds = kinds_of(graph)
    return DEFAULT_METHODS["vector" if "vector" in kinds and "image" not in kinds else "image"]


def suitable(graph: Signature | None) -> dict[str, type[Method]]:
    """Return the methods that explain what a policy sees and what comes out of it; all where it is not known."""
    known = methods()
    if graph is None:
        return known
    if isinstance(graph, ProbeInfo):
        known = {name: method for name, method in known.items() if not issubclass(method, GradientMethod)}
    kinds, targets = kinds_of(graph), _targets(output_names(graph))
    return {
        name: method
        for name, method in known.items()
        if kinds & set(method.observations) and targets & {*method.targets, *method.fallback}
    }


def refusal(method: str, graph: Signature | None) -> str:
    """Say why a method is not possible for a policy, and which are."""
    wanted = methods().get(method)
    gradients = isinstance(graph, ProbeInfo) and wanted is not None and issubclass(wanted, GradientMethod)
    why = ": it takes gradients, and a policy that is probed gives only its outputs" if gradients else ""
    if wanted is not None and not gradients and _is_continuous(graph) and "chosen" in wanted.targets:
        why = ": it sets one action against the others, and actions are continuous here"
    return f"method {method!r} is not possible here{why}; possible are {', '.join(suitable(graph)) or 'none'}"


def _is_continuous(graph: Signature | None) -> bool:
    outputs = set() if graph is None else output_names(graph)
    return "mean" in outputs and not outputs & {"logits", "q_values"}


def output_names(graph: Signature) -> set[str]:
    """Return the names of a policy's outputs."""
    return set(graph.outputs) if isinstance(graph, ProbeInfo) else {output.name for output in graph.outputs}


def kinds_of(graph: Signature | None) -> set[str]:
    """Return the kinds of observation that a policy sees: ``image``, ``vector``."""
    inputs = graph.inputs if graph is not None else ()
    return {kind for item in inputs if item.role == "observation" and (kind := kind_of(item)) is not None}


def kind_of(item: Input) -> str | None:
    """Return the kind of observation that an input of a graph is, or None where it is neither image nor vector."""
    shape = tuple(length for length in item.shape if length != -1)
    try:
        layout = layout_of(shape) if item.array == "observation" else layout_of_entry(shape, dtype(item.dtype))
    except (SaliencyError, GraphError):
        return None
    return None if layout is None else layout.kind


def _targets(outputs: set[str]) -> set[str]:
    discrete = bool(outputs & {"logits", "q_values"})
    found = {"actor"} if discrete or "mean" in outputs else set()
    return found | ({"chosen"} if discrete else set()) | ({"critic"} if outputs & set(CRITIC_NAMES) else set())
