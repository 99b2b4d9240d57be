"""Any policy as one kind of function: a batch of one entry of the observation in, named outputs out.

Accepted are a ``torch.nn.Module`` or another callable, and a graph policy (the viewer's replica): something with a
``graph`` that names its inputs, called with a dict of tensors, in which a batch axis of one stands for the whole batch.
"""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch

from agentwrap_export.errors import PolicyTypeError
from agentwrap_export.pytree import fields_of, leaves_with_paths
from agentwrap_export.results import named_leaves

from .choices import Choices
from .errors import NotIncremental, SaliencyError
from .exported import replica_of
from .incremental import Incremental
from .layout import Layout, is_counting
from .method import MaskedImages
from .outputs import Outputs

Array = np.ndarray[Any, Any] | torch.Tensor
#: One array, or a dict of named arrays; without batch axis.
Observation = Array | Mapping[str, Array]
Named = Mapping[str, torch.Tensor]
T = TypeVar("T")

#: Name of the entry when the observation is a single array.
WHOLE = ""

#: Names of outputs that have none of their own, by where they stand in what a policy returns.
_OWN_PLACES: Mapping[tuple[str | int, ...], str] = {(): "logits", (0,): "logits", (1,): "value"}

#: Element types that a module was found to compute the same from as from float32, by entry.
_SEEN: WeakKeyDictionary[torch.nn.Module, set[tuple[str, torch.dtype]]] = WeakKeyDictionary()

#: Whether a module computes with floats in the place of an observation of integers.
_TAKES_FLOATS: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()

#: How far a replica's outputs may be from the module's, as a share of the largest.
_SAME = 1e-4


class BoundPolicy:
    """A policy together with the observation and the recurrent state it is asked about.

    A module in training mode is evaluated through a copy in evaluation mode that shares its weights: the module itself
    is never altered. Nothing here keeps gradients, but for what ``differentiable`` returns.

    Attributes:
        entries: The observation's arrays by name (``""`` for a single array), without batch axis, on the policy's
            device.
        policy: The policy as it was given.
        module: The module that is evaluated, or None where the policy is none.
        graph_policy: The graph policy, or None where the policy is none.
        choices: How its logits are options.
    """

    def __init__(
        self,
        policy: Any,
        observation: Observation,
        *,
        state: Any = None,
        state_axis: int = 0,
        choices: Choices | None = None,
    ) -> None:
        """Bind.

        Args:
            policy: See the module's docstring.
            observation: One observation, without batch axis; a dict where the policy takes a dict.
            state: Recurrent state that enters the step: a tensor or nested tuples, lists and dicts of tensors, with a
                batch axis of one; the policy is then called as ``policy(observation, state)``. For a graph policy a
                dict by input name.
            state_axis: The batch axis of the state's tensors (1 for ``torch.nn.LSTM``).
            choices: How its logits are options, where that is known.
        """
        if not callable(policy):
            raise SaliencyError(f"a policy is a torch.nn.Module, a replica or a callable, not {type(policy).__name__}")
        self.device = _device_of(policy)
        self._single = not isinstance(observation, Mapping)
        arrays = observation if isinstance(observation, Mapping) else {WHOLE: observation}
        self.entries = {name: _as_tensor(name, array).to(self.device) for name, array in arrays.items()}
        self._discrete = {name for name in self.entries if name != WHOLE and self._counts(name)}
        self._state, self._state_axis, self.choices = state, state_axis, choices or Choices()
        self.policy = policy
        self._is_graph = not isinstance(policy, torch.nn.Module) and hasattr(policy, "graph")
        self.graph_policy: Any = policy if self._is_graph else None
        self._takes_arrays = False
        evaluated = None if self._is_graph else _evaluation_mode(policy)
        self.module = evaluated if isinstance(evaluated, torch.nn.Module) else None
        self._call = self._graph_call(policy) if evaluated is None else self._plain_call(evaluated)

    def evaluate(self, entry: str, batch: torch.Tensor) -> Outputs:
        """Evaluate a batch (B, *shape) of one entry with the other entries and the state held.

        Raises:
            SaliencyError: The policy raised an exception (which is the cause), or returned what is not a policy's.
        """
        with torch.no_grad():  # not inference_mode: a tensor that a user's module keeps must stay usable in training
            return self.outputs(self._evaluated(entry, batch), len(batch))

    def differentiable(self, entry: str, batch: torch.Tensor) -> Outputs:
        """Evaluate as ``evaluate`` does, with outputs that gradients can be taken of with respect to ``batch``.

        Raises:
            SaliencyError: As ``evaluate``; for example because the policy leaves torch.
        """
        with torch.enable_grad():  # a copy, for policies that scale their input in place
            return self.outputs(self._evaluated(entry, batch.clone()), len(batch), grad=True)

    def outputs(self, named: Named, batch: int, *, grad: bool = False) -> Outputs:
        """Pick actor and critic out of what the policy returned; see `Outputs.from_named`."""
        return Outputs.from_named(named, batch, grad=grad, choices=self.choices)

    def _evaluated(self, entry: str, batch: torch.Tensor) -> Named:
        size = len(batch)
        inputs = {
            name: self._rows(name, batch) if name == entry else _recordable(tensor)[None].expand(size, *tensor.shape)
            for name, tensor in self.entries.items()
        }
        try:
            return self._call(inputs, size)
        except SaliencyError:
            raise
        except Exception as error:
            raise SaliencyError(f"the policy refuses {_describe(inputs)}: {error}") from error

    def _rows(self, entry: str, batch: torch.Tensor) -> torch.Tensor:
        """Turn a batch of an entry, float32 (B, n) also where that is a single number, into what the policy takes."""
        tensor = self.entries[entry]
        if not tensor.ndim:
            batch = batch.reshape(len(batch))
        return batch.round().to(tensor.dtype) if entry in self._discrete and not self._is_graph else batch

    def is_discrete(self, entry: str) -> bool:
        """Whether the policy looks an entry's numbers up, so that none between two of them means anything to it.

        Integers in a dict are taken to be such. Those of an observation that is nothing else are where the policy
        refuses floats.
        """
        if entry == WHOLE and self._counts(entry) and not self._takes_floats():
            self._discrete.add(entry)
        return entry in self._discrete

    def _counts(self, entry: str) -> bool:
        return is_counting(tuple(self.entries[entry].shape), self.entries[entry].dtype)

    def _takes_floats(self) -> bool:
        """Whether the policy computes with floats where the observation is of integers."""
        if self._is_graph:
            return not hasattr(self.policy, "takes_floats") or bool(self.policy.takes_floats)
        known = _TAKES_FLOATS.get(self.policy) if isinstance(self.policy, torch.nn.Module) else None
        if known is None:
            row = self.entries[WHOLE][None]
            try:
                self.evaluate(WHOLE, row.to(torch.float32))
                known = True
            except SaliencyError:
                self.evaluate(WHOLE, row)  # or else it is the observation that it refuses
                known = False
            if isinstance(self.policy, torch.nn.Module):
                _TAKES_FLOATS[self.policy] = known
        return known

    def incremental(
        self, entry: str, layout: Layout, images: MaskedImages, clean: Outputs | None, *, low: bool = False
    ) -> tuple[BoundPolicy, Incremental, Outputs]:
        """Return what evaluates masks over an entry, computing only what they change.

        Args:
            entry: The entry.
            layout: Its layout.
            images: What masks make of it.
            clean: What the policy computes without a mask, where that is known.
            low: Whether what masks change is multiplied in bfloat16.

        Returns:
            The policy as a graph (itself, or a module's replica); what evaluates masks; and what that computes without
            one.

        Raises:
            NotIncremental: There is no such thing; the text says why.
            SaliencyError: The policy refuses the observation.
        """
        if self._is_graph:
            return self._masked(entry, layout, images, low)
        if not isinstance(self.policy, torch.nn.Module):
            raise NotIncremental("what a plain callable computes is not known; give the torch.nn.Module itself")
        assert clean is not None
        entries = {name: _recordable(tensor) for name, tensor in self.entries.items()}
        entries[entry] = entries[entry].to(torch.float32)
        rows = {name: tensor[None] for name, tensor in entries.items()}
        arguments: list[Any] = [rows[WHOLE] if self._single else rows]
        if self._state is not None:
            arguments.append(_expand(self._state, self._state_axis, 1, self.device))
        found: list[tuple[BoundPolicy, Incremental, Outputs]] = []

        def same(replica: Any, state: dict[str, torch.Tensor]) -> bool:
            bound = BoundPolicy(replica, entries[WHOLE] if self._single else entries, state=state, choices=self.choices)
            found[:] = [bound._masked(entry, layout, images, low)]
            return _agree(clean, found[0][2])

        replica_of(self.policy, arguments, tuple(clean.named), same)
        return found[0]

    def _masked(
        self, entry: str, layout: Layout, images: MaskedImages, low: bool
    ) -> tuple[BoundPolicy, Incremental, Outputs]:
        inputs = self.graph_inputs(entry)
        if inputs is None:
            raise NotIncremental("the policy's graph can be run on batches alone")
        assert layout.axes is not None  # masked, so an image
        incremental = Incremental(
            self.graph_policy, *inputs, change=images.difference, masks=images.masks, axes=layout.axes, low=low
        )
        clean = self._refused(incremental.clean)
        if clean is None:
            raise NotIncremental("the policy takes one observation at a time, or computes with integers")
        other = self._refused(incremental.other_precision)
        if other is not None:
            raise NotIncremental(f"the policy computes in {str(other).removeprefix('torch.')}")
        return self, incremental, self.outputs(clean, 1)

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
        named = self._refused(lambda: incremental.evaluate(indices))
        return None if named is None else self.outputs(named, len(indices))

    def first_order(self, incremental: Incremental, directions: Named) -> torch.Tensor | None:
        """Return what each mask adds to sums of outputs, to first order; see `Incremental.first_order`.

        Raises:
            SaliencyError: As ``evaluate``.
        """
        return self._refused(lambda: incremental.first_order(directions))

    def _refused(self, compute: Callable[[], T | None]) -> T | None:
        with torch.no_grad():
            try:
                return compute()
            except Exception as error:
                raise SaliencyError(f"the policy refuses {_describe(self.entries)}: {error}") from error

    def clean(self, entry: str) -> Outputs:
        """Evaluate the observation as it is, in float32 as the perturbed ones will be.

        Raises:
            SaliencyError: The policy computes something else from the original element type.
        """
        original = self.entries[entry][None]
        outputs = self.evaluate(entry, original.to(torch.float32, copy=True))  # the policy may scale it in place
        if original.dtype != torch.float32 and not self._is_graph:  # a graph cannot look at the element type
            checked = _SEEN.setdefault(self.policy, set()) if isinstance(self.policy, torch.nn.Module) else set()
            if (entry, original.dtype) not in checked:
                self._check_element_type(entry, original, outputs)
                checked.add((entry, original.dtype))
        return outputs

    def _check_element_type(self, entry: str, original: torch.Tensor, outputs: Outputs) -> None:
        try:
            from_original = self.evaluate(entry, original.clone())
        except SaliencyError:
            return  # it takes float32 alone, which is as good
        self._check_same(outputs, from_original, original.dtype)

    def _check_same(self, one: Outputs, other: Outputs, dtype: torch.dtype) -> None:
        for a, b in ((one.q, other.q), (one.value, other.value)):
            if a is not None and b is not None and not torch.allclose(a, b, rtol=1e-3, atol=1e-4):
                raise SaliencyError(
                    f"the policy computes something else from float32 than from {dtype} observations of the same "
                    "values; perturbed ones are float32: let the policy convert and scale them whatever the dtype"
                )

    def _plain_call(self, policy: Callable[..., Any]) -> Callable[[dict[str, torch.Tensor], int], Named]:
        def call(inputs: dict[str, torch.Tensor], size: int) -> Named:
            argument: Any = inputs[WHOLE] if self._single else inputs
            if self._state is None:
                return named_outputs(self._called(policy, argument))
            return named_outputs(policy(argument, _expand(self._state, self._state_axis, size, self.device)))

        return call

    def _called(self, policy: Callable[..., Any], argument: Any) -> Any:
        """Call a policy with tensors, or with arrays where it is a function that does not take tensors (NumPy, JAX)."""
        if self.module is not None:
            return policy(argument)
        if not self._takes_arrays:
            try:
                with warnings.catch_warnings():  # NumPy's functions make something of tensors, and say that it is none
                    warnings.filterwarnings("error", ".*__array_wrap__", DeprecationWarning)
                    return policy(argument)
            except (TypeError, DeprecationWarning):
                if torch.is_grad_enabled():
                    raise
        result = policy(_as_arrays(argument))
        self._takes_arrays = True  # what it raises otherwise is about something else, and is not tried again
        return result

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
    """Name what a policy returned: logits, (logits, value, …), or a dict or dataclass that bears the names.

    What has no name of its own is named by where it stands. A distribution stands for its parameters.

    Raises:
        SaliencyError: It is something else.
    """
    named: dict[str, torch.Tensor] = {}
    for path, leaf in leaves_with_paths(dict(result) if isinstance(result, Mapping) else fields_of(result) or result):
        name = _OWN_PLACES.get(path) or "/".join(map(str, path))
        if isinstance(leaf, np.ndarray | torch.Tensor):
            named[name] = torch.as_tensor(leaf)
        elif hasattr(leaf, "__array__"):  # JAX's
            named[name] = torch.from_numpy(np.array(leaf))
        elif isinstance(leaf, torch.distributions.Distribution):
            named.update((own if name == "logits" else f"{name}/{own}", part) for own, part in _parameters(leaf))
    if not named and not isinstance(result, Mapping):
        raise SaliencyError(
            f"a policy returns logits, (logits, value) or a dict of outputs, not {type(result).__name__}"
        )
    return named


def _parameters(distribution: torch.distributions.Distribution) -> list[tuple[str, torch.Tensor]]:
    try:
        return named_leaves(distribution)
    except PolicyTypeError as error:
        raise SaliencyError(str(error)) from None


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
        parts = [_expand(part, axis, size, device) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)  # a named tuple takes several
    tensor = _recordable(torch.as_tensor(state, device=device))
    if tensor.ndim <= axis or tensor.shape[axis] != 1:
        raise SaliencyError(
            f"state of shape {tuple(tensor.shape)} has no batch axis of one at axis {axis} (state_axis)"
        )
    shape = list(tensor.shape)
    shape[axis] = size
    return tensor.expand(shape)


def _as_arrays(argument: torch.Tensor | Mapping[str, torch.Tensor]) -> Any:
    if isinstance(argument, torch.Tensor):
        return argument.cpu().numpy()
    return {name: tensor.cpu().numpy() for name, tensor in argument.items()}


def _agree(one: Outputs, other: Outputs) -> bool:
    """Whether two evaluations gave the same but for rounding."""
    for a, b in ((one.q, other.q), (one.value, other.value)):
        if (a is None) != (b is None):
            return False
        if a is not None and b is not None and not bool((a - b).abs().max() <= _SAME * a.abs().max() + 1e-6):
            return False
    return True


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
