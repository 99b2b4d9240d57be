"""Any policy as one kind of function: a batch of one entry of the observation in, named outputs out.

Accepted are a ``torch.nn.Module`` or another callable, and a graph policy (the viewer's replica): something with a
``graph`` that names its inputs, called with a dict of tensors, in which a batch axis of one stands for the whole batch.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from .errors import SaliencyError
from .incremental import Incremental
from .layout import Layout
from .method import MaskedImages
from .outputs import Outputs

Array = np.ndarray[Any, Any] | torch.Tensor
#: One array, or a dict of named arrays; without batch axis.
Observation = Array | Mapping[str, Array]
Named = Mapping[str, torch.Tensor]

#: Name of the entry when the observation is a single array.
WHOLE = ""


class BoundPolicy:
    """A policy together with the observation and the recurrent state it is asked about.

    A module in training mode is evaluated through a copy in evaluation mode that shares its weights: the module itself
    is never altered. Nothing here keeps gradients, but for what ``differentiable`` returns.

    Attributes:
        entries: The observation's arrays by name (``""`` for a single array), without batch axis, on the policy's
            device.
        module: The module that is evaluated, or None where the policy is none.
        graph_policy: The graph policy, or None where the policy is none.
    """

    def __init__(self, policy: Any, observation: Observation, *, state: Any = None, state_axis: int = 0) -> None:
        """Bind.

        Args:
            policy: See the module's docstring.
            observation: One observation, without batch axis; a dict where the policy takes a dict.
            state: Recurrent state that enters the step: a tensor or nested tuples, lists and dicts of tensors, with a
                batch axis of one; the policy is then called as ``policy(observation, state)``. For a graph policy a
                dict by input name.
            state_axis: The batch axis of the state's tensors (1 for ``torch.nn.LSTM``).
        """
        if not callable(policy):
            raise SaliencyError(f"a policy is a torch.nn.Module, a replica or a callable, not {type(policy).__name__}")
        self.device = _device_of(policy)
        self._single = not isinstance(observation, Mapping)
        arrays = observation if isinstance(observation, Mapping) else {WHOLE: observation}
        self.entries = {name: _as_tensor(name, array).to(self.device) for name, array in arrays.items()}
        self._state, self._state_axis = state, state_axis
        self._is_graph = not isinstance(policy, torch.nn.Module) and hasattr(policy, "graph")
        self.graph_policy: Any = policy if self._is_graph else None
        evaluated = None if self._is_graph else _evaluation_mode(policy)
        self.module = evaluated if isinstance(evaluated, torch.nn.Module) else None
        self._call = self._graph_call(policy) if evaluated is None else self._plain_call(evaluated)

    def evaluate(self, entry: str, batch: torch.Tensor) -> Outputs:
        """Evaluate a batch (B, *shape) of one entry with the other entries and the state held.

        Raises:
            SaliencyError: The policy raised an exception (which is the cause), or returned what is not a policy's.
        """
        with torch.no_grad():  # not inference_mode: a tensor that a user's module keeps must stay usable in training
            return Outputs.from_named(self._evaluated(entry, batch), len(batch))

    def differentiable(self, entry: str, batch: torch.Tensor) -> Outputs:
        """Evaluate as ``evaluate`` does, with outputs that gradients can be taken of with respect to ``batch``.

        Raises:
            SaliencyError: As ``evaluate``; for example because the policy leaves torch.
        """
        with torch.enable_grad():  # a copy, for policies that scale their input in place
            return Outputs.from_named(self._evaluated(entry, batch.clone()), len(batch), grad=True)

    def _evaluated(self, entry: str, batch: torch.Tensor) -> Named:
        size = len(batch)
        inputs = {
            name: batch if name == entry else _recordable(tensor)[None].expand(size, *tensor.shape)
            for name, tensor in self.entries.items()
        }
        try:
            return self._call(inputs, size)
        except SaliencyError:
            raise
        except Exception as error:
            raise SaliencyError(f"the policy refuses {_describe(inputs)}: {error}") from error

    def incremental(self, entry: str, layout: Layout, perturbations: object) -> Incremental | None:
        """Return what evaluates masks over an entry, computing what they change; None where there is no such thing."""
        found = self.graph_inputs(entry)
        if not isinstance(perturbations, MaskedImages) or found is None:
            return None
        assert layout.axes is not None  # masked, so an image
        return Incremental(
            self.graph_policy,
            *found,
            change=perturbations.difference,
            masks=perturbations.masks,
            axes=layout.axes,
        )

    def graph_inputs(self, entry: str) -> tuple[dict[str, torch.Tensor], str] | None:
        """Return a graph's inputs for the one observation, and the name of that which ``entry`` fills, in float32.

        None where the policy is no graph that can be run otherwise than on batches, or the entry fills no single input.
        """
        if not hasattr(self.graph_policy, "prepared"):
            return None
        names = [name for name, source in self._sources.items() if source == entry]
        if len(names) != 1:
            return None
        inputs = {
            name: self._graph_state[name] if source is None else self.entries[source][None]
            for name, source in self._sources.items()
        }
        inputs[names[0]] = inputs[names[0]].to(torch.float32)
        return inputs, names[0]

    def evaluate_masked(self, incremental: Incremental, indices: torch.Tensor) -> Outputs | None:
        """Evaluate a block of masks; None where that does not pay.

        Raises:
            SaliencyError: As ``evaluate``.
        """
        with torch.no_grad():
            try:
                named = incremental.evaluate(indices)
            except Exception as error:
                raise SaliencyError(f"the policy refuses {_describe(self.entries)}: {error}") from error
        return None if named is None else Outputs.from_named(named, len(indices))

    def clean(self, entry: str) -> Outputs:
        """Evaluate the observation as it is, in float32 as the perturbed ones will be.

        Raises:
            SaliencyError: The policy computes something else from the original element type.
        """
        original = self.entries[entry][None]
        outputs = self.evaluate(entry, original.to(torch.float32, copy=True))  # the policy may scale it in place
        if original.dtype != torch.float32 and not self._is_graph:  # a graph cannot look at the element type
            try:
                from_original = self.evaluate(entry, original.clone())
            except SaliencyError:
                return outputs  # it takes float32 alone, which is as good
            self._check_same(outputs, from_original, original.dtype)
        return outputs

    def _check_same(self, one: Outputs, other: Outputs, dtype: torch.dtype) -> None:
        for a, b in ((one.q, other.q), (one.value, other.value)):
            if a is not None and b is not None and not torch.allclose(a, b, rtol=1e-3, atol=1e-4):
                raise SaliencyError(
                    f"the policy computes something else from float32 than from {dtype} observations of the same "
                    "values; perturbed ones are float32: let the policy convert and scale them whatever the dtype"
                )

    def _plain_call(self, policy: Callable[..., Any]) -> Callable[[dict[str, torch.Tensor], int], Named]:
        def call(inputs: dict[str, torch.Tensor], size: int) -> Named:
            argument = inputs[WHOLE] if self._single else inputs
            if self._state is None:
                return named_outputs(policy(argument))
            return named_outputs(policy(argument, _expand(self._state, self._state_axis, size, self.device)))

        return call

    def _graph_call(self, policy: Any) -> Callable[[dict[str, torch.Tensor], int], Named]:
        sources = {item.name: _source(item, tuple(self.entries), self._state) for item in policy.graph.inputs}
        state = {name: torch.as_tensor(value, device=self.device) for name, value in (self._state or {}).items()}
        self._sources, self._graph_state = sources, state

        def call(inputs: dict[str, torch.Tensor], size: int) -> Named:
            filled = {}
            for item in policy.graph.inputs:
                source = sources[item.name]
                if source is None:
                    filled[item.name] = _recordable(state[item.name])  # a batch axis of one stands for all rows
                else:
                    filled[item.name] = inputs[source].movedim(0, item.shape.index(-1) if -1 in item.shape else 0)
            run = partial(policy.run, grad=True) if torch.is_grad_enabled() and hasattr(policy, "run") else policy
            named: Named = run(filled)
            return named

        return call


def named_outputs(result: Any) -> Named:
    """Name what a policy returned: logits, (logits, value, …), or a dict that bears the names.

    Raises:
        SaliencyError: It is something else.
    """
    if isinstance(result, Mapping):
        return {
            name: torch.as_tensor(value)
            for name, value in result.items()
            if isinstance(value, np.ndarray | torch.Tensor)
        }
    if isinstance(result, np.ndarray | torch.Tensor):
        return {"logits": torch.as_tensor(result)}
    if isinstance(result, tuple | list) and result and isinstance(result[0], np.ndarray | torch.Tensor):
        named = {"logits": torch.as_tensor(result[0])}
        if len(result) > 1 and isinstance(result[1], np.ndarray | torch.Tensor):
            named["value"] = torch.as_tensor(result[1])
        return named
    raise SaliencyError(f"a policy returns logits, (logits, value) or a dict of outputs, not {type(result).__name__}")


def _source(item: Any, entries: tuple[str, ...], state: Any) -> str | None:
    """Return the entry of the observation that fills a graph's input, or None where the state does."""
    if item.role == "state":
        if not (isinstance(state, Mapping) and item.name in state):
            raise SaliencyError(f"the policy's state {item.name!r} is missing: give it as state={{{item.name!r}: …}}")
        return None
    if entries == (WHOLE,):
        return WHOLE
    candidates: tuple[str, ...] = (
        item.name,
        item.array.removeprefix("observation/"),
        item.array.removeprefix("input/"),
    )
    for name in candidates:
        if name in entries:
            return name
    raise SaliencyError(f"the policy's input {item.name!r} is not in the observation, which has {', '.join(entries)}")


def _expand(state: Any, axis: int, size: int, device: torch.device) -> Any:
    if isinstance(state, Mapping):
        return {name: _expand(part, axis, size, device) for name, part in state.items()}
    if isinstance(state, tuple | list):
        return type(state)(_expand(part, axis, size, device) for part in state)
    tensor = _recordable(torch.as_tensor(state, device=device))
    if tensor.ndim <= axis or tensor.shape[axis] != 1:
        raise SaliencyError(
            f"state of shape {tuple(tensor.shape)} has no batch axis of one at axis {axis} (state_axis)"
        )
    shape = list(tensor.shape)
    shape[axis] = size
    return tensor.expand(shape)


def _recordable(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor that gradients can be recorded with though it was made in inference mode, as agents act in."""
    return tensor.clone() if tensor.is_inference() and not torch.is_inference_mode_enabled() else tensor


def _describe(inputs: Mapping[str, torch.Tensor]) -> str:
    return ", ".join(f"{name or 'observation'} {tensor.dtype} {tuple(tensor.shape)}" for name, tensor in inputs.items())


def _as_tensor(name: str, array: Any) -> torch.Tensor:
    where = f"observation {name!r}" if name else "observation"
    try:
        tensor = array.detach().clone() if isinstance(array, torch.Tensor) else torch.from_numpy(np.array(array))
    except TypeError as error:
        raise SaliencyError(f"{where}: {error}") from None
    if tensor.is_complex():
        raise SaliencyError(f"{where} is complex")
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise SaliencyError(f"{where} has values that are NaN or infinite")
    return tensor


def _device_of(policy: Any) -> torch.device:
    device = getattr(policy, "device", None)
    if isinstance(device, str | torch.device):
        return torch.device(device)
    if isinstance(policy, torch.nn.Module):
        tensors = itertools.chain(policy.parameters(), policy.buffers())
        return next((tensor.device for tensor in tensors), torch.device("cpu"))
    return torch.device("cpu")


def _evaluation_mode(policy: Callable[..., Any]) -> Callable[..., Any]:
    if not isinstance(policy, torch.nn.Module) or not any(module.training for module in policy.modules()):
        return policy
    shared = {id(tensor): tensor for tensor in itertools.chain(policy.parameters(), policy.buffers())}
    try:
        return copy.deepcopy(policy, shared).eval()
    except Exception as error:
        raise SaliencyError(
            f"the policy is in training mode and cannot be copied ({error}): call its eval() first"
        ) from error
