"""A PyTorch policy that cannot be exported, called in the agent's process for whoever asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from agentwrap_export.arrays import tensor_to_array
from agentwrap_export.call import close, find_layout, isolated_copy, prepare, single
from agentwrap_export.random_states import kept_random_states
from agentwrap_protocol.graph import Input

from .arrays import Array
from .black_box import MOST_ROWS
from .errors import PolicyTypeError


class ModuleBox:
    """A copy of a module, in evaluation mode, that shares its parameters and nothing that calling it could alter.

    Args:
        module: The policy.
        args: Positional arguments of a call of it.
        kwargs: Keyword arguments.
        names: Names of its outputs.
        batched: Whether the observation had a batch axis (of length 1).

    Raises:
        PolicyTypeError: It takes more than an observation, or computes something else each time.
        ExportError: The copy cannot be called.
    """

    def __init__(
        self,
        module: nn.Module,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        names: tuple[str, ...],
        batched: bool,
    ) -> None:
        self._module, self._batched = module, batched
        self._call = prepare(module, args, kwargs, names)
        self._copied_at = self._versions()
        states = [given.name for given in self._call.inputs if given.role == "state"]
        if states:
            raise PolicyTypeError(f"a policy that is called with {states[0]} beside the observation is not probed yet")
        with self._undisturbed():
            layout = find_layout(self._call, batched=batched)
            self._layout = layout or single(self._call)
            self._check()
            self._dtypes = self._find_dtypes()
        self.most_rows = 1 if layout is None else MOST_ROWS
        self.outputs = tuple(names[index] for index in self._layout.kept)
        self.inputs = tuple(
            Input(
                name=given.name,
                array=given.array,
                dtype=str(given.tensor.dtype).removeprefix("torch."),
                shape=(-1, *(given.tensor.shape[1:] if batched else given.tensor.shape)),
            )
            for given in self._call.inputs
        )

    def __call__(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the outputs, rows first."""
        self._follow()
        rows = len(next(iter(arrays.values())))
        with self._undisturbed():
            tensors = [
                _converted(arrays[given.name], given.tensor.device, dtype)
                for given, dtype in zip(self._call.inputs, self._dtypes, strict=True)
            ]
            if self.most_rows > 1:
                return self._named(self._call(tensors), rows)
            alone = [
                self._named(self._call([each[row : row + 1] if self._batched else each[row] for each in tensors]), 1)
                for row in range(rows)
            ]
        return {name: np.concatenate([outputs[name] for outputs in alone]) for name in self.outputs}

    def _named(self, tensors: list[torch.Tensor], rows: int) -> dict[str, Array]:
        named = {}
        for name, index in zip(self.outputs, self._layout.kept, strict=True):
            shared = index in self._layout.shared and rows > 1
            tensor = tensors[index].expand(rows, *tensors[index].shape) if shared else tensors[index]
            named[name] = tensor_to_array(tensor).reshape(rows, -1)
        return named

    def _check(self) -> None:
        with _sets(self._call.policy) as names:
            again = self._call(self._layout.rows[0])
        if all(close(again[index], self._layout.expected[0][index]) for index in self._layout.kept):
            return
        kept = f" in {', '.join(names)}, which it sets when it is called" if names else ""
        raise PolicyTypeError(
            f"the policy computes something else each time: it draws random numbers, or keeps a state{kept}; a "
            "state has to be an argument, and returned: logits, state = policy(observation, state)"
        )

    def _find_dtypes(self) -> list[torch.dtype]:
        """The element types to call with: floats where the policy computes the same of them, since perturbed are."""
        row, expected = self._layout.rows[0], self._layout.expected[0]
        dtypes = [tensor.dtype for tensor in row]
        for place, dtype in enumerate(dtypes):
            if dtype.is_floating_point:
                continue
            try:
                found = self._call([each.float() if other == place else each for other, each in enumerate(row)])
            except Exception:  # it takes integers alone: perturbed observations are rounded
                continue
            if all(close(found[index], expected[index]) for index in self._layout.kept):
                dtypes[place] = torch.float32
        return dtypes

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        given = (each.tensor for each in self._call.inputs)
        with kept_random_states(given), torch.inference_mode(False), torch.no_grad():
            yield

    def _follow(self) -> None:
        """Copy anew where parameters were replaced, or buffers changed, which a copy does not share."""
        versions = self._versions()
        if versions != self._copied_at:
            self._call, self._copied_at = replace(self._call, policy=isolated_copy(self._module)), versions

    def _versions(self) -> list[tuple[int, int]]:
        parameters = [(id(parameter), 0) for parameter in self._module.parameters()]
        return parameters + [(id(buffer), buffer._version) for buffer in self._module.buffers()]


@contextmanager
def _sets(module: nn.Module) -> Iterator[list[str]]:
    """Fill a list with the names of the attributes that are set meanwhile, other than parameters."""
    before = {name: dict(vars(child)) for name, child in module.named_modules()}
    found: list[str] = []
    yield found
    for name, child in module.named_modules():
        known = before.get(name, {})
        found += (f"{name}.{key}".lstrip(".") for key, value in vars(child).items() if known.get(key) is not value)


def _converted(array: Array, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    tensor = torch.from_numpy(array.copy()).to(device)  # a copy: what came is not to be written to
    return tensor.to(dtype) if dtype.is_floating_point or not tensor.is_floating_point() else tensor.round().to(dtype)
