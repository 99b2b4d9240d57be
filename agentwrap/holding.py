"""Holds what a policy computed until a step is sent: few are, so nothing is copied before."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

#: A tensor and its ``_version`` when it was seen, None for a copy.
Held = tuple["torch.Tensor", int | None]


class Holding:
    """Holds tensors by name. One that was changed in place (agents mask logits, layers work in place) is left out once.

    From then on what bears its name is copied at once.
    """

    __slots__ = ("_copied",)

    def __init__(self) -> None:
        self._copied: set[str] = set()

    def hold(self, name: str, tensor: torch.Tensor) -> Held:
        """Take a tensor as it is now."""
        if name in self._copied or tensor.is_inference():  # inference tensors do not count their changes
            return tensor.detach().clone(), None
        return tensor, tensor._version

    def is_whole(self, name: str, held: Held) -> bool:
        """Whether a tensor still is what it was when it was taken."""
        tensor, version = held
        if version is None or tensor._version == version:
            return True
        self._copied.add(name)
        return False
