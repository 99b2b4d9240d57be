"""What TorchRL's policies consist of: plain modules, and the keys of a TensorDict that each reads and writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agentwrap.policy import State

from .recurrent import states_of

if TYPE_CHECKING:
    from torch import nn

#: What modules call an action, and what one expects of it.
ACTION, RATED = "action", "state_action_value"

#: Modules with memory, and what they call PyTorch's layer inside.
_RECURRENT = {"LSTMModule": "lstm", "GRUModule": "gru"}


@dataclass(frozen=True)
class Part:
    """One plain module and the keys that it reads and writes.

    Attributes:
        module: Its name in the policy.
        reads: Keys of its arguments.
        writes: Keys of its results.
        enters: Keys of the state that enters it; it has a memory then.
        leaves: Keys of what becomes of that.
        prefix: Of the names of its state.
    """

    module: str
    reads: tuple[Any, ...]
    writes: tuple[Any, ...]
    enters: tuple[Any, ...] = ()
    leaves: tuple[Any, ...] = ()
    prefix: str = ""


@dataclass(frozen=True)
class Draw:
    """How a policy's action follows without exploring.

    Attributes:
        writes: Key of the action.
        module: Name of the module in the policy that draws it; None where a plain module computes it.
        reads: Keys of the distribution's parameters, by what its class calls them.
    """

    writes: Any
    module: str | None = None
    reads: Mapping[str, Any] = field(default_factory=dict)


def draw_of(policy: Any, parts: Sequence[Part]) -> Draw | None:
    """Return how the action follows from what the parts write; None where that cannot be told."""
    written = {key for part in parts for key in part.writes}
    plain = next((key for key in written if name_of(key) == ACTION), None)
    if plain is not None:
        return Draw(plain)
    for name, module in policy.named_modules():
        if is_a(module, "ProbabilisticTensorDictModule") and name_of(module.out_keys[0]) == ACTION:
            reads = dict(zip(module.dist_keys, module.in_keys, strict=True))
            return Draw(module.out_keys[0], name, reads) if set(reads.values()) <= written else None
    return None


def apart(parts: Sequence[Part]) -> tuple[list[Part], list[Part]]:
    """Return what acts, and what rates the action; what both would need is left to what acts."""
    critics = [part for part in parts if any(name_of(key) == ACTION for key in part.reads)]
    return [part for part in parts if part not in critics], [
        part for part in critics if [name_of(key) for key in part.writes] == [RATED]
    ]


def parts_of(policy: Any) -> Iterator[Part]:
    """The plain modules of a policy, in the order in which they are called."""
    for name, module in policy.named_modules():
        inner = getattr(module, "module", None)
        layer = _RECURRENT.get(type(module).__name__)
        if layer is not None:
            (reads, *enters), (writes, *leaves) = module.in_keys[:-1], module.out_keys  # the last one is is_init
            yield Part(f"{name}.{layer}".lstrip("."), (reads,), (writes,), tuple(enters), tuple(leaves))
        elif (
            not is_a(module, "TensorDictModule")
            or not hasattr(inner, "named_modules")
            or type(inner).__name__ == "ModuleList"
        ):
            continue  # what takes no TensorDict, samples, or is a row of such
        elif not is_a(inner, "TensorDictModuleBase") and any(True for _ in module.parameters()):
            yield Part(f"{name}.module".lstrip("."), tuple(module.in_keys), tuple(module.out_keys))


def named(parts: list[Part]) -> list[Part]:
    """Let the state of each of several memories be told from that of others."""
    if sum(bool(part.enters) for part in parts) < 2:
        return parts
    return [replace(part, prefix=f"{part.module.rpartition('.')[0]}/") if part.enters else part for part in parts]


def is_a(module: Any, name: str) -> bool:
    """Whether it is of a class of TensorDict's, or of one derived from it."""
    return any(cls.__name__ == name and cls.__module__.startswith("tensordict.nn") for cls in type(module).__mro__)


def name_of(key: Any) -> str:
    """Return the last part of a key."""
    return key if isinstance(key, str) else str(key[-1])


def states_of_parts(policy: nn.Module, parts: Sequence[Part]) -> dict[str, State]:
    """Describe the state of all memories."""
    states: dict[str, State] = {}
    for part in parts:
        if part.enters:
            layer: Any = policy.get_submodule(part.module)
            states |= states_of(layer, part.module, prefix=part.prefix)
    return states
