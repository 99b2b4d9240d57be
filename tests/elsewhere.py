"""A device that is not the processor, without one: its tensors refuse what those of a GPU refuse.

Numbers lie in the processor's memory all the same. Tensors say that they are on `DEVICE`; operators that mix them with
others raise, as does what reads them without fetching them first. What a GPU allows is allowed: copying from one device
to the other, indices of the processor, and numbers of it that have no axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from agentwrap_export.decompositions import gru_cell, lstm_cell

_setup_privateuseone_for_python_backend("elsewhere")

#: A kind of device that PyTorch knows by name, and that does nothing of its own.
DEVICE = torch.device("elsewhere:0")

_MIXING = {"aten::_to_copy", "aten::copy_", "aten::_copy_from", "aten::index"}


class MixedDevicesError(RuntimeError):
    """Tensors of two devices met in an operator."""


class Elsewhere(torch.Tensor):
    """A tensor on `DEVICE`; ``here`` has its numbers."""

    here: torch.Tensor

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> Elsewhere:
        """Say of a tensor that it is elsewhere."""
        layout = {"strides": here.stride(), "storage_offset": here.storage_offset(), "dtype": here.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, here.shape, **layout, device=DEVICE)  # type: ignore[attr-defined]
        made.here = here
        return made  # type: ignore[no-any-return]

    def numpy(self, *, force: bool = False) -> Any:
        """Return the numbers if they are to be fetched."""
        if not force:
            raise TypeError("a tensor elsewhere has no numpy(): fetch it first")
        return self.detach().cpu().numpy()

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Sequence[Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operator that was given one."""
        return _run(func, *args, **(kwargs or {}))


def _run(func: Any, *args: Any, **kwargs: Any) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    away = [tensor for tensor in tensors if isinstance(tensor, Elsewhere)]
    name = func._schema.name
    if away and name not in _MIXING and any(tensor.ndim and not isinstance(tensor, Elsewhere) for tensor in tensors):
        raise MixedDevicesError(f"{func}: {[(str(tensor.device), tuple(tensor.shape)) for tensor in tensors]}")
    there = bool(away)
    if kwargs.get("device") is not None:
        there = torch.device(kwargs["device"]).type == DEVICE.type
        kwargs["device"] = torch.device("cpu") if there else kwargs["device"]
    if name == "aten::_copy_from":
        return args[1].copy_(args[0]) if not away else _here(args[1]).copy_(_here(args[0]))
    compute = _FUSED.get(name, func)
    result = compute(*tree_map(_here, args), **tree_map(_here, kwargs))
    written = _written(func, args, kwargs)
    return written if written is not None else tree_map(_there, result) if there else result


#: What PyTorch calls on devices like this one alone.
_FUSED = {"aten::_thnn_fused_lstm_cell": lstm_cell, "aten::_thnn_fused_gru_cell": gru_cell}


def _here(leaf: Any) -> Any:
    return leaf.here if isinstance(leaf, Elsewhere) else leaf


def _there(leaf: Any) -> Any:
    return Elsewhere(leaf) if isinstance(leaf, torch.Tensor) else leaf


def _written(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the argument that an operator writes into and returns, if it does."""
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            found = kwargs.get(argument.name) if argument.kwarg_only else args[place]
            if isinstance(found, torch.Tensor):
                return found
    return None


def _implement(name: str) -> None:
    """Let an operator reach us that PyTorch calls by itself, past what tensors say of themselves."""
    func = torch.ops.aten
    for part in name.split("."):
        func = getattr(func, part)
    _LIBRARY.impl(name.removesuffix(".default"), lambda *args, **kwargs: _run(func, *args, **kwargs), "PrivateUse1")


_LIBRARY = torch.library.Library("aten", "IMPL")
for _name in (
    "empty_strided.default",
    "empty.memory_format",
    "_copy_from.default",
    "_local_scalar_dense.default",
    "zero_.default",
    "_thnn_fused_gru_cell.default",
):
    _implement(_name)
