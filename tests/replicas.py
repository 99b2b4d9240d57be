"""Replicas of modules, without a wire in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from agentwrap_export.export import export_policy
from agentwrap_viewer.replica import Replica


def replica_of(module: nn.Module, *args: Any, names: Sequence[str] = ("logits", "value")) -> Replica:
    """Export a module, called with batches of one, and return what computes the same."""
    policy = export_policy(module.eval(), args, {}, output_names=names, batched=True)
    parameters = {name: tensor.detach().numpy() for name, tensor in policy.parameters.items()}
    return Replica(policy.graph, policy.constants, parameters)
