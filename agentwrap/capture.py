"""Sees what a PyTorch policy really computed, through forward hooks, in the calls that the user's own code makes.

Nothing of the policy is changed: not its mode, gradients, weights or random state, nor the hooks that others have put
on it. Our hooks are there only between ``attach`` and ``detach``, and copies of the policy do not have them.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from agentwrap_export.inputs import CallInput, arrays_to_tensors, call_inputs
from agentwrap_export.results import output_tensors

from .arrays import Array, shapes, to_array
from .errors import UnknownLayerError
from .guard import Guard
from .matching import Shapes, inputs_to_send, single_observation
from .outputs import doubts, output_names

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Outputs whose layer tells the latent: the input of the layer that computes the first of these.
HEADS = ("logits", "q_values", "mean")

#: Parts of the instrument, as warnings name them.
SEEING, CAPTURING = "seeing the policy's calls", "capturing the policy's outputs"

_UNKNOWN: Any = object()

#: Calls that may go by without a single observation before the user is told.
PATIENCE = 1000


@dataclass(slots=True)
class Call:
    """One call of the policy with a single observation.

    Attributes:
        args: Positional arguments, not copied.
        kwargs: Keyword arguments, not copied.
        batched: Whether the observation had a batch axis (of length 1).
        version: ``Tensor._version`` of the observation when the policy was called, None where it is not known.
        names: Names of the outputs.
        held: The outputs, ``latent`` and named layers, each with its version when it was seen (None for a copy).
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    batched: bool
    version: int | None = None
    names: tuple[str, ...] = ()
    held: dict[str, tuple[torch.Tensor, int | None]] = field(default_factory=dict)


class PolicyCapture:
    """Captures the newest call of a policy with a single observation.

    Tensors are held, not copied, until a step is sent: few are. Where one was changed in place by then (agents mask
    logits, layers work in place) it is left out this once, and copied at once from the next call on.

    Args:
        policy: The policy.
        action_space: For the names of outputs.
        outputs: Names of outputs to use instead, see ``output_names``.
        layers: Names of submodules whose outputs are captured too, as ``layer/<name>``.
        guard: Told of what goes wrong; nothing is raised in the policy's forward pass.

    Raises:
        UnknownLayerError: The policy has no submodule of that name.
    """

    def __init__(
        self,
        policy: nn.Module,
        action_space: gym.Space[Any],
        *,
        outputs: Sequence[str] | str | None = None,
        layers: Sequence[str] = (),
        guard: Guard | None = None,
    ) -> None:
        self._policy, self._action_space, self._names_given = policy, action_space, outputs
        self._guard = guard or Guard()
        self._inner: nn.Module = getattr(policy, "_orig_mod", policy)  # what torch.compile wraps
        self._layers = find_layers(self._inner, layers)
        self._expected: Shapes = {}
        self._verdicts: dict[Any, bool | None] = {}  # by shape
        self._names: tuple[str, ...] = ()
        self._head: nn.Module | None = None
        self._search: _LatentSearch | None = None
        self._searched = self._inner is not policy  # a compiled policy's layers are not run as modules
        self._handles: list[Any] = []
        self._open: Call | None = None
        self._newest: Call | None = None
        self._copied: set[str] = set()  # names of what is changed in place
        self._calls_unlike = 0

    @property
    def problem(self) -> str | None:
        """Why nothing of the policy's calls can be shown, for people; None where nothing stands in the way."""
        return next(filter(None, map(self._guard.reason, (SEEING, CAPTURING))), None)

    @property
    def attached(self) -> bool:
        """Whether hooks are on the policy."""
        return bool(self._handles)

    def attach(self) -> None:
        """Put hooks on the policy.

        Raises:
            RuntimeError: The policy was compiled in place, which leaves hooks no say.
        """
        if self._handles:
            return
        if getattr(self._policy, "_compiled_call_impl", None) is not None:
            raise RuntimeError("hooks on a policy after policy.compile() are not called: use torch.compile(policy)")
        self._handles += [
            self._policy.register_forward_pre_hook(_Hook(self._before), with_kwargs=True),
            self._policy.register_forward_hook(_Hook(self._after)),
        ]
        for name, layer in self._layers.items():
            self._handles.append(layer.register_forward_hook(_Hook(self._on_layer, f"layer/{name}")))
        if self._head is not None:
            self._handles.append(self._head.register_forward_hook(_Hook(self._on_head)))

    def detach(self) -> None:
        """Take all our hooks off, and forget what was captured."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._end_search()
        self._open = self._newest = None

    def expect(self, observation: Any) -> None:
        """Tell what the environment's observations look like: calls are compared with that."""
        expected = shapes(observation)
        if expected != self._expected:
            self._expected = expected
            self._verdicts.clear()

    def take(self) -> Call | None:
        """Return the newest call since the last time, None where there was none."""
        call, self._newest = self._newest, None
        return call

    def arrays(self, call: Call, observation: Mapping[str, Array]) -> dict[str, Array]:
        """Return what a call computed and, where it cannot be told from the observation, what it was given.

        Args:
            call: The call.
            observation: The environment's observation, by array name.

        Returns:
            ``output/<name>`` and ``input/<name>``, as a step message holds them.
        """
        found: dict[str, Array | None] = {}
        for name, (tensor, version) in call.held.items():
            if version is not None and tensor._version != version:
                self._copied.add(name)
            else:
                found[f"output/{name}"] = to_array(_without_batch(name, tensor, call.batched))
        if len(call.args) == 1 and not call.kwargs and _is_tensor(call.args[0]):
            inputs = [CallInput("observation", "observation", "observation", call.args[0])]  # what call_inputs returns
        else:
            inputs = call_inputs(self._inner, *arrays_to_tensors((call.args, call.kwargs)))
        changed = call.version is not None and call.version != _version(call.args[0])
        found.update(inputs_to_send(inputs, observation, batched=call.batched, changed=changed))
        return {name: array for name, array in found.items() if array is not None}

    # Hooks. What they return would replace the policy's result, so they return nothing.

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._search is not None:
            self._end_search()  # of a call that raised
        self._open = self._guard.run(SEEING, self._opened, args, kwargs)
        if self._open is not None and not self._searched:
            self._search = _LatentSearch(self._inner)

    def _opened(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        first = args[0] if args else None
        shape = getattr(first, "shape", None)
        if shape is not None:  # nearly always
            batched = self._verdicts.get(shape, _UNKNOWN)
            if batched is _UNKNOWN:
                batched = self._verdicts[shape] = single_observation({"observation": tuple(shape)}, self._expected)
        else:
            inputs = call_inputs(self._inner, *arrays_to_tensors((args, kwargs)))
            given = {each.array: tuple(each.tensor.shape) for each in inputs if each.role == "observation"}
            batched = single_observation(given, self._expected)
        if batched is None:
            self._note_unlike(first)
            return None
        return Call(args, kwargs, batched, _version(first))

    def _after(self, module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        call, self._open = self._open, None
        if call is not None:
            self._guard.run(CAPTURING, self._close, call, result)

    def _close(self, call: Call, result: Any) -> None:
        if type(result) is tuple and len(result) == len(self._names) and all(map(_is_tensor, result)):
            tensors = list(result)  # what output_tensors would return, in a seventh of the time
        else:
            tensors = output_tensors(result)
        if len(tensors) != len(self._names):
            self._names = output_names(result, self._action_space, self._names_given)
            doubt = None if self._names_given else doubts(self._names, tensors, self._action_space)
            if doubt is not None:
                self._guard.warn_once("output names", doubt)
        if self._search is not None:
            self._use_latent(call, self._search.find(self._head_output(tensors)))
        call.names = self._names
        for name, tensor in zip(self._names, tensors, strict=True):
            self._hold(call, name, tensor)
        self._newest = call

    def _hold(self, call: Call, name: str, tensor: torch.Tensor) -> None:
        if name in self._copied or tensor.is_inference():  # inference tensors do not count their changes
            call.held[name] = tensor.detach().clone(), None
        else:
            call.held[name] = tensor, tensor._version

    def _on_layer(self, name: str, module: nn.Module, args: Any, result: Any) -> None:
        self._guard.run(f"capturing {name}", self._keep, name, result)

    def _on_head(self, module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        self._guard.run("capturing the latent", self._keep, "latent", args)

    def _keep(self, name: str, value: Any) -> None:
        call, tensor = self._open, _first_tensor(value)
        if call is not None and tensor is not None:
            self._hold(call, name, tensor)

    def _head_output(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        index = next((self._names.index(name) for name in HEADS if name in self._names), 0)
        return tensors[index]

    def _use_latent(self, call: Call, found: tuple[nn.Module, torch.Tensor] | None) -> None:
        self._end_search()
        self._searched = True
        if found is not None and "latent" not in self._names:
            self._head, latent = found
            self._hold(call, "latent", latent)
            self._handles.append(self._head.register_forward_hook(_Hook(self._on_head)))

    def _end_search(self) -> None:
        if self._search is not None:
            self._search.close()
            self._search = None

    def _note_unlike(self, first: Any) -> None:
        self._calls_unlike += 1
        if self._calls_unlike == PATIENCE and not self._names:
            given, expected = tuple(getattr(first, "shape", ())), dict(self._expected)
            self._guard.warn_once(
                "matching",
                f"the policy has been called {PATIENCE} times, but never with one observation of the environment "
                f"{expected}; the last call had {given}: there is nothing to show of it",
            )


class _Hook(partial[None]):
    """A hook that does not follow the policy into copies: there, and in pickles, stands one that does nothing."""

    __agentwrap__ = True  # by this mark an export leaves it out

    def __reduce__(self) -> tuple[Any, ...]:
        # takes any arguments, returns None, and is there where agentwrap is not installed
        return getattr, (contextlib.nullcontext(), "__exit__")


class _LatentSearch:
    """Watches all innermost modules during one call, to find the one whose output is the policy's."""

    def __init__(self, policy: nn.Module) -> None:
        self._made: list[tuple[nn.Module, torch.Tensor, torch.Tensor]] = []
        inner = [module for module in policy.modules() if module is not policy and not list(module.children())]
        self._handles = [module.register_forward_hook(_Hook(self._on_module)) for module in inner]

    def find(self, output: torch.Tensor) -> tuple[nn.Module, torch.Tensor] | None:
        """Return the last module with weights on the way to ``output``, and what it was given."""
        for module, given, made in reversed(self._made):
            if made is output or (made.numel() == output.numel() and made.data_ptr() == output.data_ptr()):
                if any(True for _ in module.parameters()):
                    return module, given
                output = given  # an activation at the end: what counts is before it
        return None

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._made.clear()

    def _on_module(self, module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        given, made = _first_tensor(args), _first_tensor(result)
        if given is not None and made is not None:
            self._made.append((module, given, made))


def find_layers(policy: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """Return the submodules of these names.

    Raises:
        UnknownLayerError: There is none of such a name; the text names the nearest.
    """
    modules = {name: module for name, module in policy.named_modules() if name}
    for name in names:
        if name not in modules:
            near = difflib.get_close_matches(name, modules, n=5, cutoff=0.4) or list(modules)[:10]
            raise UnknownLayerError(f"the policy has no layer {name!r}; it has {', '.join(near) or 'none'}")
    return {name: modules[name] for name in names}


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "data_ptr")


def _first_tensor(value: Any) -> torch.Tensor | None:
    while isinstance(value, tuple | list) and value:
        value = value[0]
    return value if _is_tensor(value) else None


def _version(value: Any) -> int | None:
    """How often a tensor was changed in place; None for what is no tensor and for inference tensors."""
    if not hasattr(value, "is_inference") or value.is_inference():
        return None
    return int(value._version)


def _without_batch(name: str, tensor: torch.Tensor, batched: bool) -> torch.Tensor:
    if name == "value" and tensor.numel() == 1:
        return tensor.reshape(())
    return tensor[0] if batched and tensor.ndim > 1 and tensor.shape[0] == 1 else tensor
