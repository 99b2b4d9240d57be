"""Leaves the random states of libraries as they are, whatever a policy draws when it is called for others."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@contextmanager
def kept_random_states(given: Iterable[torch.Tensor] = ()) -> Iterator[None]:
    """Give back the states of Python's, NumPy's and, where it is loaded, PyTorch's own generators.

    Args:
        given: What the policy is called with: the generators of GPUs on which any of it lies are kept too.
    """
    devices = sorted({tensor.get_device() for tensor in given if tensor.is_cuda})
    python, numpy_state = random.getstate(), np.random.get_state()
    loaded = sys.modules.get("torch")
    with nullcontext() if loaded is None else loaded.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)
