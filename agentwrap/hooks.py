"""What is hung on a policy: hooks that leave no trace in its copies, and the search for its latent."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from .errors import UnknownLayerError

if TYPE_CHECKING:
    import torch
    from torch import nn


class Hook(partial[None]):
    """A hook that does not follow the policy into copies: there, and in pickles, stands one that does nothing."""

    __agentwrap__ = True  # by this mark an export leaves it out

    def __reduce__(self) -> tuple[Any, ...]:
        # takes any arguments, returns None, and is there where agentwrap is not installed
        return getattr, (contextlib.nullcontext(), "__exit__")


class HookSwitch:
    """A hook around a module's forward pass that is put on and taken off once for each step that is sent; at first on.

    That costs a tenth of registering it anew, which counts at sixty steps a second.

    Args:
        module: The module.
        hook: What is called after it.
        before: Have it called before the module instead.
    """

    __slots__ = ("_hook", "_hooks", "_number")

    def __init__(self, module: nn.Module, hook: Hook, *, before: bool = False) -> None:
        self._hook = hook
        self._hooks: dict[int, Any] = module._forward_pre_hooks if before else module._forward_hooks
        register = module.register_forward_pre_hook if before else module.register_forward_hook
        self._number = register(hook).id

    def put_on(self) -> None:
        """Have it called from the next call of the module on, after the hooks that are there."""
        self._hooks[self._number] = self._hook

    def take_off(self) -> None:
        """Leave no trace of it on the module."""
        self._hooks.pop(self._number, None)


class CompiledHook:
    """Stands around a policy after ``policy.compile()``, which leaves PyTorch's own hooks no say."""

    def __init__(self, policy: nn.Module, before: Callable[..., None], after: Callable[..., None]) -> None:
        self._policy, self._compiled = policy, policy._compiled_call_impl
        compiled: Callable[..., Any] = policy._compiled_call_impl  # type: ignore[assignment]  # who asks has looked

        def call(*args: Any, **kwargs: Any) -> Any:
            before(policy, args, kwargs)
            result = compiled(*args, **kwargs)
            after(policy, args, kwargs, result)
            return result

        self._call = policy._compiled_call_impl = call  # copies and pickles of a module leave this attribute out

    def remove(self) -> None:
        """Leave the policy as it was, unless it has been compiled again meanwhile."""
        if self._policy._compiled_call_impl is self._call:
            self._policy._compiled_call_impl = self._compiled


class LatentSearch:
    """Watches all innermost modules during one call, to find the one whose output is the policy's."""

    def __init__(self, policy: nn.Module) -> None:
        self._made: list[tuple[nn.Module, torch.Tensor, torch.Tensor]] = []
        inner = [module for module in policy.modules() if module is not policy and not list(module.children())]
        self._handles = [module.register_forward_hook(Hook(self._on_module)) for module in inner]

    def find(self, output: torch.Tensor) -> tuple[nn.Module, torch.Tensor] | None:
        """Return the last module with weights on the way to ``output``, and what it was given."""
        for module, given, made in reversed(self._made):
            if made is output or (made.numel() == output.numel() and made.data_ptr() == output.data_ptr()):
                if any(True for _ in module.parameters()):
                    return module, given
                output = given  # an activation at the end: what counts is before it
        return None

    def close(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._made.clear()

    def _on_module(self, module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        given, made = first_tensor(args), first_tensor(result)
        if given is not None and made is not None:
            self._made.append((module, given, made))


def device_of(policy: nn.Module) -> torch.device | None:
    """Return where a policy computes; None where it has no parameters that would say it."""
    parameter = next(policy.parameters(), None)
    return None if parameter is None else parameter.device


def find_layers(policy: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """Return the submodules of these names.

    Raises:
        UnknownLayerError: There is none of such a name; the text names the nearest.
    """
    modules = {name: module for name, module in policy.named_modules() if name}
    for name in names:
        if name not in modules:
            near = difflib.get_close_matches(name, modules, n=5, cutoff=0.4) or list(modules)[:10]
            others = f"it has {', '.join(near)}" if near else "it has no submodules, so leave layers= out"
            raise UnknownLayerError(f"the policy has no layer {name!r}; {others}")
    return {name: modules[name] for name in names}


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor, without importing torch."""
    return hasattr(value, "data_ptr")


def first_tensor(value: Any) -> torch.Tensor | None:
    """Return a tensor, or the first in nested sequences of such."""
    while isinstance(value, tuple | list) and value:
        value = value[0]
    return value if is_tensor(value) else None
