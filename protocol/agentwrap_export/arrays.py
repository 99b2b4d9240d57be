"""Tensors as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, Any]


def tensor_to_array(tensor: torch.Tensor) -> Array:
    """Copy a tensor on any device into an array of the same shape; bfloat16, which NumPy lacks, becomes float32."""
    import torch

    tensor = tensor.detach()
    if tensor.dtype is torch.bfloat16:
        tensor = tensor.float()
    return np.array(tensor.cpu().numpy())
