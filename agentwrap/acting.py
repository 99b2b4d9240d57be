"""A library's own function of the observation, made into a module that can be exported: named outputs come out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from .errors import PolicyTypeError
from .hooks import Hook, device_of, find_layers, first_tensor
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
        self.before.to(device_of(view.agent))  # its statistics and the like: an adapter makes them anywhere
        self._act, self._entry, self._watch = view.act or _call, view.entry, dict(view.watch or {})
        self._state = dict(view.state)
        self._kept = {name: each.shape for name, each in view.kept.items()}  # what reads it is the library's
        memory = [place for each in view.state.values() for place in (each.enters, each.leaves)]
        places = (*self._watch.values(), *memory)
        find_layers(view.agent, [name for name in (view.entry, *(place.module for place in places)) if name])

    def forward(self, observation: Observation, state: Mapping[str, torch.Tensor] | None = None) -> dict[str, Any]:
        """Return the outputs for observations of the environment, batch first; with state, what becomes of it.

        Args:
            observation: The observations.
            state: Recurrent state that enters, by name, for a policy that has any.

        Returns:
            Outputs by name, and under ``state`` the new state by name.

        Raises:
            PolicyTypeError: An output was not computed.
        """
        given = dict(state or {})
        leaving = {f"state/{name}": self._state[name].leaves for name in given if name in self._state}
        watch = {**self.watched(given), **leaving}
        found: dict[str, torch.Tensor] = {}
        hooked = {name: each for name, each in watch.items() if each.of != "act"}
        with _hooks(self.agent, hooked, lambda name, tensor: found.setdefault(name, tensor)):
            prepared, kept = self._prepared(observation, given)
            result = self._run(prepared, given)
        for name, each in watch.items():
            tensor = seen_at(each, (), result) if each.of == "act" else None
            if tensor is not None:
                found[name] = tensor
        missing = [name for name in watch if name not in found]
        if missing:
            where = ", ".join(f"{name} at {watch[name].module or 'the agent itself'!r}" for name in missing)
            raise PolicyTypeError(f"{type(self.agent).__name__} computed nothing where it should be seen: {where}")
        outputs: dict[str, Any] = {name: made_of(watch[name], self.agent, found[name]) for name in watch}
        if given:
            outputs["state"] = {name: kept[name] if name in kept else outputs.pop(f"state/{name}") for name in given}
        return outputs

    def _prepared(
        self, observation: Observation, state: Mapping[str, torch.Tensor]
    ) -> tuple[Observation, Mapping[str, torch.Tensor]]:
        """Return the observation as the library prepares it, and what is kept of it for the next act."""
        if not self._kept:
            return self.before(observation), {}
        prepared: tuple[Observation, Mapping[str, torch.Tensor]] = self.before(observation, state)
        return prepared

    def watched(self, state: Collection[str]) -> dict[str, Watch]:
        """Return where the outputs are to be seen that can be computed where this state is known."""
        unknown = {name for key, each in self._state.items() if key not in state for name in each.used_by}
        return {name: watch for name, watch in self._watch.items() if name not in unknown}

    def initial(self) -> dict[str, torch.Tensor]:
        """Return the recurrent state that an episode begins with, for one environment."""
        device = device_of(self.agent)
        shapes = {name: each.shape for name, each in self._state.items()} | self._kept
        return {name: torch.zeros(shape, device=device) for name, shape in shapes.items()}

    def _run(self, observation: Observation, state: Mapping[str, torch.Tensor]) -> Any:
        return self._act(self.agent, observation, state) if self._state else self._act(self.agent, observation)

    def prepare(self, observation: Observation, kept: Mapping[str, torch.Tensor] | None = None) -> Observation:
        """Return what ``entry`` is called with for observations of the environment; nothing after that is computed.

        Args:
            observation: The observations.
            kept: Earlier observations by name, zeros where they are left out.

        Raises:
            PolicyTypeError: The entry was not reached.
        """
        with torch.no_grad(), _stopped_at(self.agent.get_submodule(self._entry)):
            try:
                state = {**self.initial(), **(kept or {})}
                self._run(self._prepared(observation, state)[0], state)
            except _Reached as reached:
                given: Observation = reached.given
                return given
        raise PolicyTypeError(
            f"{type(self.agent).__name__} acted without calling {self._entry or 'itself'!r}, where an act should begin"
        )


def made_of(watch: Watch, agent: nn.Module, tensor: torch.Tensor) -> torch.Tensor:
    """Return the output that a watched tensor stands for."""
    return tensor if watch.then is None else watch.then(agent, tensor)


def seen_at(watch: Watch, args: tuple[Any, ...], result: Any) -> torch.Tensor | None:
    """Return the tensor that is to be seen in a module's call, None where there is none."""
    value: Any = args if watch.of == "input" else result
    for place in watch.at:
        if not isinstance(value, tuple | list) or place >= len(value):
            return None
        value = value[place]
    return first_tensor(value)


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

    def look(name: str, each: Watch, module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        tensor = seen_at(each, args, result)
        if tensor is not None:
            found(name, tensor)

    handles = [
        agent.get_submodule(each.module).register_forward_hook(Hook(look, name, each)) for name, each in watch.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _call(agent: nn.Module, observation: Any, *state: Any) -> Any:
    return agent(observation, *state)
