"""What is asked about an observation: one value for all that ``explain``, ``refine`` and ``Explanation`` take."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from .errors import SaliencyError
from .layout import Channels
from .outputs import Target

Evaluation = Literal["auto", "dense"]
EVALUATIONS: tuple[Evaluation, ...] = ("auto", "dense")

Precision = Literal["float32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bf16")


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """What is asked about an observation.

    Attributes:
        method: Name of a method (see ``methods()``); by default ``perturbation`` for images, ``feature_perturbation``
            for vectors.
        every_entry: Whether entries of a dict observation that the named method does not suit are explained as well, by
            these defaults; otherwise they have no map.
        target: ``actor``, ``critic``, ``chosen``, an action's index (of a continuous policy: that of a dimension of the
            mean), or ``choice:<i>``, all options of one of ``choices``; several share their forwards. None for
            the method's own as far as the policy has them, ``first`` for the first of these.
        choices: Options of each choice, where the policy makes several at once and its logits lie one group after the
            other; None for one choice among all, empty where the logits are no options but switches.
        action_mask: bool (A,), the options that the policy was free to choose; None where all were.
        state: Recurrent state that enters this step, with a batch axis of one; the policy is then called with
            (observation, state). For a graph policy a dict by input name.
        state_axis: Batch axis of the state's tensors (1 for ``torch.nn.LSTM``).
        history: Earlier observations (k, …), for methods that replace by what was seen before; a dict where the
            observation is one.
        channels: Where the channels of an image are: ``first``, ``last``, ``none``; ``auto`` takes the smaller of the
            first and the last axis, the first where they are equal.
        chunk: Perturbed observations evaluated at a time; by default a number that is found while the policy's first
            maps are made, see ``docs/performance.md``.
        evaluation: ``auto`` computes only what a mask changes, wherever the policy's computation is known: that of a
            replica is, a module is exported for it, once, which takes about a second. ``dense`` evaluates whole
            batches, and exports nothing.
        precision: ``bf16`` multiplies what masks change in bfloat16, summed in float32 and added to what the policy
            computes without a mask: approximate, off by 0.2 to 1.2 % of the maximum in the middle and 2.1 % at worst
            for two policies of Enduro, more for the critic than for the actor; see ``docs/performance.md``, also for
            the time: where it was measured it takes longer than float32. It is refused where the processor has no such
            products, and where whole batches are evaluated or gradients taken, in which no change is multiplied by
            itself.
        predict: Whether a refinement begins with what gradients predict, where they can; otherwise its first map rests
            on the coarsest masks, which takes about as long and comes a little less near to the full map.
        options: The method's options.
    """

    method: str | None = None
    every_entry: bool = False
    target: Target | Sequence[Target] | None = None
    choices: Sequence[int] | None = None
    action_mask: Any = None
    state: Any = None
    state_axis: int = 0
    history: Any = None
    channels: Channels = "auto"
    chunk: int | None = None
    evaluation: Evaluation = "auto"
    precision: Precision = "float32"
    predict: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check.

        Raises:
            SaliencyError: ``chunk``, ``evaluation`` or ``precision`` is not possible.
        """
        if self.chunk is not None and (not isinstance(self.chunk, numbers.Integral) or self.chunk < 1):
            raise SaliencyError(f"chunk={self.chunk!r}: accepted is a whole number from 1, or None")
        if self.evaluation not in EVALUATIONS:
            raise SaliencyError(f"evaluation={self.evaluation!r} is not one of {', '.join(map(repr, EVALUATIONS))}")
        if self.precision not in PRECISIONS:
            raise SaliencyError(f"precision={self.precision!r} is not one of {', '.join(map(repr, PRECISIONS))}")

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Self:
        """Make one of keyword arguments: those that are no attribute here are options of the method."""
        own = {name: value for name, value in arguments.items() if name in RESERVED}
        return cls(**own, options={name: value for name, value in arguments.items() if name not in own})


#: Names that no option of a method can have.
RESERVED = frozenset(item.name for item in dataclasses.fields(Request)) - {"options"}
