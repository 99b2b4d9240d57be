"""A library's own function of the observation, made into a module that can be exported: named outputs come out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from .errors import PolicyTypeError
from .hooks import Hook, find_layers, first_tensor
from .policy import PolicyView, Watch

#: A tensor, or a dict of tensors.
Observation = torch.Tensor | dict[str, torch.Tensor]


class Acting(nn.Module):
    """Runs ``view.act`` and returns what is to be seen at ``view.watch``.

    Args:
        view: What to run and where to look. It is not kept, so that copies hold nothing that is not copied.

    Raises:
        UnknownLayerError: The agent has no submodule of a name in ``view``.
    """

    def __init__(self, view: PolicyView) -> None:
        super().__init__()
        self.agent, self.before = view.agent, view.before or nn.Identity()
        self._act, self._entry, self._watch = view.act or _call, view.entry, dict(view.watch or {})
        find_layers(view.agent, [name for name in (view.entry, *(w.module for w in self._watch.values())) if name])

    def forward(self, observation: Observation) -> dict[str, torch.Tensor]:
        """Return the outputs for observations of the environment, batch first.

        Raises:
            PolicyTypeError: An output was not computed.
        """
        found: dict[str, torch.Tensor] = {}
        with _hooks(self.agent, self._watch, lambda name, tensor: found.setdefault(name, tensor)):
            self._act(self.agent, self.before(observation))
        missing = [name for name in self._watch if name not in found]
        if missing:
            where = ", ".join(f"{name} at {self._watch[name].module or 'the agent itself'!r}" for name in missing)
            raise PolicyTypeError(f"{type(self.agent).__name__} computed nothing where it should be seen: {where}")
        return {name: made_of(watch, self.agent, found[name]) for name, watch in self._watch.items()}

    def prepare(self, observation: Observation) -> Observation:
        """Return what ``entry`` is called with for observations of the environment; nothing after that is computed.

        Raises:
            PolicyTypeError: The entry was not reached.
        """
        with torch.no_grad(), _stopped_at(self.agent.get_submodule(self._entry)):
            try:
                self._act(self.agent, self.before(observation))
            except _Reached as reached:
                given: Observation = reached.given
                return given
        raise PolicyTypeError(
            f"{type(self.agent).__name__} acted without calling {self._entry or 'itself'!r}, where an act should begin"
        )


def made_of(watch: Watch, agent: nn.Module, tensor: torch.Tensor) -> torch.Tensor:
    """Return the output that a watched tensor stands for."""
    return tensor if watch.then is None else watch.then(agent, tensor)


def first_called(agent: nn.Module, act: Callable[[Any, Any], Any], observation: Observation) -> str:
    """Return the name of the first submodule that is called when an agent acts; nothing after that is computed.

    Raises:
        PolicyTypeError: None is.
    """
    names: dict[nn.Module, str] = {module: name for name, module in agent.named_modules() if name}
    with torch.no_grad(), _stopped_at(*names):
        try:
            act(agent, observation)
        except _Reached as reached:
            return names[reached.module]
    raise PolicyTypeError(f"{type(agent).__name__} acted without calling a submodule: there is nothing to see")


class _Reached(Exception):
    """A module was called that was not meant to run."""

    def __init__(self, module: nn.Module, given: Any) -> None:
        super().__init__()
        self.module, self.given = module, given


@contextmanager
def _stopped_at(*modules: nn.Module) -> Iterator[None]:
    """Have the call of any of these modules raise ``_Reached`` before anything is computed or any other hook runs."""

    def stop(module: nn.Module, args: tuple[Any, ...]) -> None:
        raise _Reached(module, args[0] if args else None)

    handles = [module.register_forward_pre_hook(Hook(stop), prepend=True) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _hooks(
    agent: nn.Module, watch: Mapping[str, Watch], found: Callable[[str, torch.Tensor], object]
) -> Iterator[None]:
    """Tell what is to be seen at each place."""

    def look(name: str, of: str, module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        tensor = first_tensor(args if of == "input" else result)
        if tensor is not None:
            found(name, tensor)

    handles = [
        agent.get_submodule(each.module).register_forward_hook(Hook(look, name, each.of))
        for name, each in watch.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _call(agent: nn.Module, observation: Any) -> Any:
    return agent(observation)
