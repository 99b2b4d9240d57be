"""Where the state of PyTorch's recurrent layers is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentwrap.policy import State, Watch

if TYPE_CHECKING:
    import torch
    from torch import nn


def states_of(layer: nn.RNNBase, module: str, *, prefix: str = "", used_by: tuple[str, ...] = ()) -> dict[str, State]:
    """Describe the state of an ``nn.LSTM``, ``nn.GRU`` or ``nn.RNN`` that is called with features and state.

    Args:
        layer: The layer.
        module: Its name in the agent.
        prefix: Of the names of the state.
        used_by: Outputs that need it, see ``State``.

    Returns:
        ``hidden``, and of an LSTM ``cell``, each after the prefix, in the order in which the layer takes them.
    """
    directions = 2 if layer.bidirectional else 1
    size = layer.num_layers * directions
    hidden = (size, 1, layer.proj_size or layer.hidden_size)
    if layer.mode != "LSTM":
        return {f"{prefix}hidden": _state(module, (1,), hidden, used_by)}
    cell = (size, 1, layer.hidden_size)
    return {
        f"{prefix}hidden": _state(module, (1, 0), hidden, used_by),
        f"{prefix}cell": _state(module, (1, 1), cell, used_by),
    }


def given_to(layer: nn.RNNBase, state: Any, *, prefix: str = "") -> Any:
    """Return state by name as the layer takes it: a pair of tensors for an LSTM, else a tensor."""
    hidden: torch.Tensor = state[f"{prefix}hidden"]
    return (hidden, state[f"{prefix}cell"]) if layer.mode == "LSTM" else hidden


def _state(module: str, at: tuple[int, ...], shape: tuple[int, ...], used_by: tuple[str, ...]) -> State:
    entering = Watch(module, "input", at=at, axis=1)
    return State(entering, Watch(module, "output", at=at, axis=1), shape, used_by)
