"""Leaves the random states of libraries as they are, whatever a policy draws when it is called for others."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import numpy as np


@contextmanager
def kept_random_states(devices: Sequence[int] = ()) -> Iterator[None]:
    """Give back the states of Python's, NumPy's and, where it is loaded, PyTorch's own generators.

    Args:
        devices: CUDA devices whose states are kept too.
    """
    python, numpy_state = random.getstate(), np.random.get_state()
    torch = sys.modules.get("torch")
    with nullcontext() if torch is None else torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)
