"""What of a policy can be explained: targets as messages name them (SPEC, "Targets"), and their titles for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Self, TypeGuard

from agentwrap_protocol.messages import DEFAULT_TARGET, MOST_TARGETS, Hello, TargetInfo
from agentwrap_protocol.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space
from agentwrap_viewer.saliency import Method, SaliencyError
from agentwrap_viewer.saliency.outputs import ACTOR_NAMES, CHOICE, CRITIC_NAMES, Resolved, Target
from agentwrap_viewer.saliency.targets import accepts

from .catalogue import Signature, output_names

#: Targets named where one is refused, and outputs of an actor that can be asked for one by one.
MOST_NAMED, MOST_OUTPUTS = 20, 4096


@dataclass(frozen=True)
class Targets:
    """The targets of a policy.

    Attributes:
        kinds: Of ``actor``, ``critic``, ``chosen`` those that it has.
        counts: Options of each of its choices, as ``Request.choices`` has them.
        names: What the actor's outputs are called, each with its choice where there are several.
        critic: What the critic is called.
        of_mean: Whether the actor's outputs are means.
    """

    kinds: tuple[str, ...] = ()
    counts: tuple[int, ...] | None = None
    names: tuple[str, ...] = ()
    critic: str = "critic"
    of_mean: bool = False

    @classmethod
    def of(cls, signature: Signature, hello: Hello) -> Self:
        """Find the targets of a policy by what it computes and what its agent says of its actions."""
        outputs, counts = output_names(signature), _counts(hello)
        head = next((name for name in ACTOR_NAMES if name in outputs), None)
        critic = next((name for name in CRITIC_NAMES if name in outputs), None)
        kinds = (
            *(("actor",) if head is not None else ()),
            *(("chosen",) if head in ("logits", "q_values") else ()),
            *(("critic",) if critic is not None else ()),
        )
        return cls(
            kinds,
            counts,
            _names(hello, counts) if head is not None else (),
            "critic Q(s, a)" if critic == "state_action_value" else "critic",
            head == "mean",
        )

    def offered(self, method: Method) -> tuple[TargetInfo, ...]:
        """Return what a message offers for a method, at most ``MOST_TARGETS``."""
        own = [name for name in method.targets if name in self.kinds]
        own = own or [name for name in method.fallback if name in self.kinds]
        default = TargetInfo(name=DEFAULT_TARGET, title=" and ".join(map(self.title, own)) or DEFAULT_TARGET)
        found: list[Target] = [*self.kinds, *self._choices(), *range(len(self.names))]
        possible = (target for target in found if self.accepted(method, target) and [target] != own)
        infos = (TargetInfo(name=str(target), title=self.title(target)) for target in possible)
        return (default, *infos)[:MOST_TARGETS]

    def accepted(self, method: Method, target: Target) -> bool:
        """Whether a method is defined for a target of this policy."""
        return accepts(method, target, continuous=self.of_mean)

    def find(self, text: str) -> Target:
        """Return the target that a message, or somebody, calls so: by its name, or an action's.

        Raises:
            SaliencyError: There is none; the text names those there are.
        """
        if text in (*self.kinds, *self._choices()):
            return text
        if text.isdecimal() and int(text) < len(self.names):
            return int(text)
        wanted = text.casefold()
        for index, name in enumerate(self.names):
            if wanted in (name.casefold(), self.title(index).casefold()):
                return index
        named = [*self.kinds, *self._choices(), *self.names]
        more = ", …" if len(named) > MOST_NAMED else ""
        raise SaliencyError(f"target {text!r}: this policy offers {', '.join(named[:MOST_NAMED]) or 'none'}{more}")

    def _choices(self) -> tuple[str, ...]:
        return tuple(f"{CHOICE}{index}" for index in range(len(self.counts))) if _several(self.counts) else ()

    def title(self, target: Target, chosen: Resolved | None = None) -> str:
        """Return what a target is, for people.

        Args:
            target: The target.
            chosen: The option, or those of several choices, that ``chosen`` stands for, where that is known.
        """
        if isinstance(target, int):
            return f"mean of {self._name(target)}" if self.of_mean else self._name(target)
        if target.startswith(CHOICE):
            return target.replace(":", " ")
        if target == "chosen" and chosen is not None and not isinstance(chosen, str):
            options = (chosen,) if isinstance(chosen, int) else chosen
            return f"{', '.join(map(self._name, options))} (preferred)"
        return {"chosen": "preferred action", "critic": self.critic}.get(target, target)

    def _name(self, index: int) -> str:
        if index < 0:  # a switch that is put off, see ``Resolved``
            return f"not {self._name(~index)}"
        return self.names[index] if index < len(self.names) else f"output {index}"


@dataclass(frozen=True)
class Aim:
    """What of a policy is explained.

    Attributes:
        target: The target; None for the method's own.
        targets: All that the policy has.
        problem: Why that is not the target asked for, for people; None where it is.
    """

    target: Target | None = None
    targets: Targets = field(default_factory=Targets)
    problem: str | None = None

    @property
    def name(self) -> str:
        """The target as messages name it."""
        return DEFAULT_TARGET if self.target is None else str(self.target)

    def request(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Return what ``Request`` is told for a step with these arrays: of choices and mask what fits its outputs."""
        head = next((arrays[f"output/{name}"] for name in ACTOR_NAMES if f"output/{name}" in arrays), None)
        counts, mask = self.targets.counts, arrays.get("action_mask")
        fits = head is None or not counts or sum(counts) == head.size
        masked = mask is not None and mask.any() and head is not None and mask.size == head.size
        return {"target": self.target, "choices": counts if fits else None, "action_mask": mask if masked else None}

    def titles(self, explained: Iterable[Target], chosen: Resolved | None) -> dict[str, str]:
        """Return the titles of targets that were explained, by name, where these say more than the name."""
        titles = {str(target): self.targets.title(target, chosen) for target in explained}
        return {name: title for name, title in titles.items() if title != name}


def _counts(hello: Hello) -> tuple[int, ...] | None:
    told, space = hello.policy.distribution, hello.action_space
    if told is not None and told.kind == "multi_categorical" and told.counts:
        return tuple(told.counts)
    if isinstance(space, MultiDiscrete):
        return tuple(space.counts)
    return () if isinstance(space, MultiBinary) else None


def _names(hello: Hello, counts: tuple[int, ...] | None) -> tuple[str, ...]:
    if counts and _several(counts):
        every = (f"choice {choice}: {option}" for choice, count in enumerate(counts) for option in range(count))
        return tuple(islice(every, MOST_OUTPUTS))
    known, space = hello.action_meanings or (), hello.action_space
    start = space.start if isinstance(space, Discrete) else 0
    size = min(_size(space), MOST_OUTPUTS)
    return tuple(known[index] if index < len(known) else f"action {index + start}" for index in range(size))


def _several(counts: tuple[int, ...] | None) -> TypeGuard[tuple[int, ...]]:
    return counts is not None and len(counts) > 1


def _size(space: Space) -> int:
    match space:
        case Discrete():
            return space.n
        case Box() | MultiBinary():
            return math.prod(space.shape)
        case MultiDiscrete():
            return sum(space.counts)
    return 0
