"""What agentwrap has to know of a policy, and where it asks: one contract for every library.

Libraries have no common method that computes a policy's outputs: Stable-Baselines3's ``predict`` calls
``policy.q_net`` for one algorithm and ``extract_features``, ``mlp_extractor`` and ``action_net`` for another, and never
the policy itself. So an adapter says, once for each library, where in its modules the outputs come out. Two things are
read there: what the library's own calls really computed, by hooks, and the computation that is exported, by tracing the
library's own function of the observation. The place is the same, so both are the same thing. Recurrent state is read
where it enters the memory (``State``): what a library does to it before, such as emptying it when an episode begins,
has happened by then.

An adapter is found by the type of the policy, without importing any library::

    from agentwrap.policy import PolicyView, Watch, register_adapter

    @register_adapter
    class MyLibrary:
        name = "my_library"

        def matches(self, policy):
            return any(cls.__module__.startswith("my_library.") for cls in type(policy).__mro__)

        def view(self, policy, env):
            return PolicyView(agent=policy.net, entry="body", watch={"logits": Watch("head"), "latent": Watch("body")})

``agentwrap.testing.check_policy(policy, env)`` says whether it is right.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import gymnasium as gym

from .distributions import Distribution
from .errors import AgentwrapError, MissingExtraError, PolicyTypeError
from .extras import Extra
from .guard import Guard

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Group of entry points by which an installed package offers its adapter.
ENTRY_POINTS = "agentwrap.adapters"

ACCEPTED = (
    "a torch.nn.Module whose forward returns logits or action means, (logits, value), or a dict of named outputs; or a "
    "function of the observation that returns the same as arrays"
)


@dataclass(frozen=True)
class Watch:
    """Where an output is to be seen.

    Attributes:
        module: Name of a submodule of the agent, as ``named_modules`` has it; ``""`` is the agent itself.
        of: Whether the output is what this submodule returns (``output``) or what it is called with (``input``); or
            what the view's ``act`` returns (``act``, of the agent itself), for what the library does not compute when
            it acts: only the exported module computes that.
        then: What makes the output of that, called with the agent and the tensor, in tensor operations: the mean over
            quantiles, a parameter that goes with a mean. A plain function: it works on copies of the agent too.
        at: Which tensor of several, as places in nested sequences: of ``(features, (hidden, cell))``, ``(1, 0)`` is the
            hidden state. By default the first.
        axis: Along which axis of it rows lie.
    """

    module: str
    of: Literal["output", "input", "act"] = "output"
    then: Callable[[nn.Module, torch.Tensor], torch.Tensor] | None = None
    at: tuple[int, ...] = ()
    axis: int = 0


@dataclass(frozen=True)
class State:
    """A tensor of recurrent state: what one act leaves to the next.

    Attributes:
        enters: Where it is seen as it enters the memory, after what resets it at the beginning of an episode.
        leaves: Where what becomes of it is seen.
        shape: Its shape in an act for one environment; it begins with zeros.
        used_by: Outputs that are computed only where it is known, for a state that not every act has (a critic's).
    """

    enters: Watch
    leaves: Watch
    shape: tuple[int, ...]
    used_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kept:
    """Earlier observations that a library keeps and gives to the policy together with the newest: a stack of frames.

    For the exported computation they are recurrent state: maps are of the newest observation, as the environment
    returned it, and the viewer carries the others on from step to step.

    Attributes:
        shape: Of what is kept, in an act for one environment: floats, and zeros to begin with.
        read: Returns it as it entered an act, given what the view's ``entry`` was called with: rows first, or without
            an axis for them where the library has none; None where it is not known.
    """

    shape: tuple[int, ...]
    read: Callable[[Any], torch.Tensor | None]


@dataclass(frozen=True)
class Preprocessed:
    """A policy together with what its library does with observations before, where the policy does not know of that.

    ``InterpretWrapper`` takes it in the place of the policy.

    Attributes:
        policy: What acts.
        by: The library's own object: RLlib's env-to-module pipeline, TorchRL's ``TransformedEnv``.
        agent: Whose observations, where ``by`` is there for several agents.
        agents: Where several share the policy: returns whose each row of its newest act was, None where that is not
            known.
    """

    policy: Any
    by: Any
    agent: Any = None
    agents: Callable[[], Sequence[Any] | None] | None = None


@dataclass(frozen=True, kw_only=True)
class PolicyView:
    """A policy as agentwrap sees it.

    Without ``watch`` the user's code calls the agent itself with observations, and what it returns are the outputs.

    Attributes:
        agent: The module that computes; ``layers=`` names submodules of it.
        watch: Outputs by name, those first that decide the action: ``logits``, ``q_values``, ``quantiles``, ``mean``,
            ``log_std``, ``value``, ``latent``. The first has to be computed whenever the agent acts, others need not.
        entry: Name of the submodule whose call begins an act in the library's own code, ``""`` for the agent itself.
            Its first argument is the observation, batch first, perhaps prepared.
        act: The library's own function of ``(agent, observation)``, and of the state by name where there is any, that
            reaches ``entry`` and all of ``watch``, without chance; by default the agent is called. A plain function: it
            works on copies of the agent too.
        state: Recurrent state by name.
        kept: Earlier observations, by name, which ``before`` joins with the newest.
        before: What the library does with the environment's observation, batch first, before ``act``: a module, so that
            it is part of the exported computation. With ``kept`` it is called with the observation and what is kept by
            name, and returns the observation prepared and what is kept of it for the next act.
        refresh: Brings what ``before`` holds (running statistics) up to date with an act: called with what ``entry``
            was called with and the row of it that is the environment's, where the library has an order of rows.
        row: Returns which row of the newest act that is, where the library says so; None where it does not.
        names: Names of the outputs where there is no ``watch``; None to find them by their sizes.
        distribution: The action distribution that follows from the outputs, where it is known.
        mask: Reads which options the library left free, called with the agent and the first output as it was seen,
            after the act that computed it: booleans shaped as that output, or None where none were masked or what is
            there to read is of another act. It only reads: nothing of the user's may be called.
        learns: Whether this very module learns too: calls with several observations while gradients are recorded are
            taken for that, and not for acts. False where it is a copy that only acts.
        predict: The action that the library itself takes for an observation of the environment, without exploring; for
            ``agentwrap.testing.check_policy``. With state, a function of ``(observation, state)`` that returns the
            action and what it knows of the state after it.
    """

    agent: nn.Module
    watch: Mapping[str, Watch] | None = None
    entry: str = ""
    act: Callable[..., Any] | None = None
    state: Mapping[str, State] = field(default_factory=dict)
    kept: Mapping[str, Kept] = field(default_factory=dict)
    before: nn.Module | None = None
    refresh: Callable[[Any, int], None] | None = None
    row: Callable[[], int | None] | None = None
    names: tuple[str, ...] | None = None
    distribution: Distribution | None = None
    mask: Callable[[nn.Module, torch.Tensor], torch.Tensor | None] | None = None
    learns: bool = True
    predict: Callable[..., Any] | None = None

    @property
    def carried(self) -> tuple[str, ...]:
        """Names of all that one act leaves to the next."""
        return (*self.state, *self.kept)

    @cached_property
    def module(self) -> nn.Module:
        """What is exported: the environment's observation, batch first, → the outputs."""
        if self.watch is None:
            return self.agent
        from .acting import Acting

        return Acting(self)


@dataclass(frozen=True, kw_only=True)
class CallableView:
    """A policy of which nothing is known but that it can be called: a function, whatever it computes with.

    Its calls by the user's code cannot be seen, so agentwrap calls it itself, within a budget (``probing.py``).

    Attributes:
        call: Takes an observation of the environment, with or without a batch axis, and returns outputs.
    """

    call: Callable[[Any], Any]


class Adapter(Protocol):
    """What makes a ``PolicyView`` of the policies of one library. Made anew for each policy, without arguments.

    It may have a ``library`` (``extras.Extra``) too, which is named where ``view`` fails.

    Attributes:
        name: What errors call it.
    """

    name: str

    def matches(self, policy: Any) -> bool:
        """Whether this adapter is for such an object: by its type and attributes, without importing anything."""

    def view(self, policy: Any, env: gym.Env[Any, Any]) -> PolicyView:
        """Describe a policy that acts in ``env``.

        Raises:
            PolicyTypeError: It cannot be watched in this environment; the text says why and what to do.
        """


A = TypeVar("A", bound=type[Adapter])

_registered: list[type[Adapter]] = []


def register_adapter(adapter: A) -> A:
    """Make an adapter known; a class decorator. It comes before those that agentwrap brings, as do entry points.

    A package that is installed offers its adapter without being imported, by an entry point in its ``pyproject.toml``:
    ``[project.entry-points."agentwrap.adapters"]``, ``my_library = "my_library.agentwrap:MyLibrary"``.

    Raises:
        TypeError: The class lacks ``name``, ``matches`` or ``view``.
    """
    missing = [part for part in ("name", "matches", "view") if not hasattr(adapter, part)]
    if missing:
        raise TypeError(f"an adapter has {', '.join(missing)} too: see agentwrap.policy.Adapter")
    _registered.append(adapter)
    return adapter


def unregister_adapter(adapter: type[Adapter]) -> None:
    """Forget an adapter that was registered.

    Raises:
        ValueError: It was not.
    """
    _registered.remove(adapter)


def view_policy(policy: Any, env: gym.Env[Any, Any]) -> PolicyView | CallableView:
    """Find the adapter for a policy and ask it.

    Args:
        policy: What the user acts with.
        env: The environment it acts in.

    Raises:
        PolicyTypeError: No adapter matches, or two do, or the one that does cannot make anything of this policy in this
            environment. The text says what was tried and how to write an adapter.
        MissingExtraError: The library is too old for its adapter.
    """
    from .adapters import BUILT_IN

    offered = _installed()  # which may register itself too
    own = [adapter() for adapter in dict.fromkeys((*_registered, *offered))]
    built_in = [adapter() for adapter in BUILT_IN]
    for adapters in (own, built_in):
        matching = [adapter for adapter in adapters if adapter.matches(policy)]
        if len(matching) > 1:
            names = " and ".join(adapter.name for adapter in matching)
            raise PolicyTypeError(
                f"a policy of type {type(policy).__name__} is claimed by the adapters {names}: one of them has to go, "
                "see agentwrap.policy.unregister_adapter"
            )
        if matching:
            return _ask(matching[0], policy, env)
    torch = sys.modules.get("torch")  # where nobody has imported it, nobody has a module either
    if callable(policy) and not isinstance(policy, type if torch is None else (type, torch.nn.Module)):
        return CallableView(call=policy)
    if isinstance(policy, Preprocessed):
        raise PolicyTypeError(
            f"no adapter knows what {type(policy.by).__name__} does before a policy of type "
            f"{type(policy.policy).__name__}; RLlib's pipelines with its modules and TorchRL's environments with its "
            "modules are known"
        )
    check_module(policy, tried=[adapter.name for adapter in (*own, *built_in)])
    return PolicyView(agent=policy)


def _ask(adapter: Adapter, policy: Any, env: gym.Env[Any, Any]) -> PolicyView:
    try:
        return adapter.view(policy, env)
    except Exception as error:  # mostly of a library that has other parts than the adapter knows
        library: Extra | None = getattr(adapter, "library", None)
        if library is not None and library.too_old:
            raise MissingExtraError(f"{library.problem}; with this one: {error}") from error
        if isinstance(error, AgentwrapError):
            raise
        version = f", with {library.name} {library.installed}" if library is not None and library.installed else ""
        raise PolicyTypeError(
            f"the adapter {adapter.name} failed with a policy of type {type(policy).__name__}{version}: "
            f"{type(error).__name__}: {error}"
        ) from error


def check_module(policy: Any, *, tried: list[str]) -> None:
    """Refuse what is no module that can be called with observations.

    Raises:
        PolicyTypeError: The text says what is accepted and which adapters were tried.
    """
    others = f"; no adapter matches it either (tried: {', '.join(tried)}); agentwrap.policy says how to write one"
    torch = sys.modules.get("torch")  # where nobody has imported it, nobody has a module either
    if torch is None or not isinstance(policy, torch.nn.Module):
        raise PolicyTypeError(
            f"a policy of type {type(policy).__name__} cannot be watched{_hint(policy)}; accepted is {ACCEPTED}{others}"
        )
    # of the object, not its class: what torch.compile returns has its own
    if getattr(getattr(policy, "forward", None), "__name__", "") == "_forward_unimplemented":
        raise PolicyTypeError(
            f"{type(policy).__name__} has no forward(), so there is no call to see: give it one that returns its "
            f"outputs, and have the code that acts call it; accepted is {ACCEPTED}{others}"
        )


def _hint(policy: Any) -> str:
    """What to do with what people pass by mistake."""
    if isinstance(policy, type):
        return f": pass an object of the class, {policy.__name__}(…)"
    if isinstance(policy, str | os.PathLike):
        return ": load the file, and pass the module or model that acts"
    if isinstance(policy, Mapping):
        return ": load weights into a module (load_state_dict), and pass that"
    return ""


def _installed() -> list[type[Adapter]]:
    """Adapters that installed packages offer."""
    found = []
    for point in metadata.entry_points(group=ENTRY_POINTS):
        try:
            found.append(point.load())
        except Exception as error:  # somebody else's package must not take the other adapters away
            Guard().warn_once(point.name, f"the adapter {point.name!r} ({point.value}) cannot be loaded: {error}")
    return found
