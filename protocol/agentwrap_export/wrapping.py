"""Modules that stand around another, to run it faster: what counts is the one inside."""

from __future__ import annotations

from torch import nn


def unwrapped(module: nn.Module) -> nn.Module:
    """Return what ``torch.compile``, ``DataParallel`` and ``DistributedDataParallel`` have been given, however deep."""
    while True:
        if hasattr(module, "_orig_mod"):
            inner = module._orig_mod
        elif isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = module.module
        else:
            return module
        assert isinstance(inner, nn.Module)
        module = inner
