"""What a policy's layers compute on the way, whether it is a module or a graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .errors import SaliencyError
from .outputs import Outputs
from .policies import BoundPolicy

Activations = dict[str, torch.Tensor]


def layer_names(bound: BoundPolicy) -> tuple[list[str], list[str]]:
    """Return the names of the policy's convolutions over pictures, and of all its layers.

    A module's layers are its submodules, a graph's are its nodes.

    Raises:
        SaliencyError: The policy is a plain callable: its layers are not known.
    """
    if bound.module is not None:
        modules = {name: module for name, module in bound.module.named_modules() if name}
        return [name for name, module in modules.items() if isinstance(module, torch.nn.Conv2d)], list(modules)
    if bound.graph_policy is not None:
        nodes = bound.graph_policy.graph.nodes
        return [node.name for node in nodes if node.op.startswith("aten.conv")], [node.name for node in nodes]
    raise SaliencyError(
        "layers are known of a torch.nn.Module or a replica, not of a plain callable: give the module itself"
    )


def has_recurrent_layers(bound: BoundPolicy) -> bool:
    """Whether the policy has layers that cuDNN runs as recurrent networks."""
    if bound.module is not None:
        return any(isinstance(module, torch.nn.RNNBase) for module in bound.module.modules())
    nodes = () if bound.graph_policy is None else bound.graph_policy.graph.nodes
    return any(node.op.startswith(("aten.lstm", "aten.gru", "aten.rnn")) for node in nodes)


def run_with_activations(
    bound: BoundPolicy, entry: str, leaf: torch.Tensor, names: list[str]
) -> tuple[Outputs, Activations]:
    """Evaluate one observation, differentiably.

    Args:
        bound: The policy.
        entry: The entry that ``leaf`` is.
        leaf: float32 (1, *shape).
        names: Layers to look at.

    Returns:
        The outputs, and what those of the layers gave that were run: the last time where they were run several times,
        in the order in which they were run.

    Raises:
        SaliencyError: The policy cannot be evaluated, or is a graph that takes one observation at a time.
    """
    if bound.module is None:
        return _traced(bound, entry, leaf, names)
    with _recording(bound.module, names) as activations:
        return bound.differentiable(entry, leaf), activations


@contextmanager
def _recording(module: torch.nn.Module, names: list[str]) -> Iterator[Activations]:
    activations: Activations = {}

    def record(name: str) -> Any:
        def hook(_module: torch.nn.Module, _arguments: Any, output: Any) -> Any:
            activations.pop(name, None)
            if not isinstance(output, torch.Tensor):
                return None
            activations[name] = output
            return output.clone()  # a following operation in place must not change what was recorded

        return hook

    handles = [module.get_submodule(name).register_forward_hook(record(name)) for name in names]
    try:
        yield activations
    finally:
        for handle in handles:
            handle.remove()


def _traced(bound: BoundPolicy, entry: str, leaf: torch.Tensor, names: list[str]) -> tuple[Outputs, Activations]:
    found, policy = bound.graph_inputs(entry), bound.graph_policy
    prepared = None if found is None else policy.prepared(*found, rows=1)
    if prepared is None:
        raise SaliencyError("this replica's layers cannot be looked at one observation at a time: give the module")
    tensors = [leaf if place == prepared.place else tensor for place, tensor in enumerate(prepared.single)]
    program = prepared.program
    try:
        values = program.trace(prepared.filled, tensors)
    except Exception as error:
        raise SaliencyError(f"the policy refuses the observation: {error}") from error
    named = policy.named([values[slot] for slot in program.outputs], 1)
    wanted = [step for step in program.steps if step.node.name in names]
    return bound.outputs(named, 1, grad=True), {step.node.name: values[step.out] for step in wanted}
