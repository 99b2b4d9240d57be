"""What a saliency method is: options, what it perturbs, and how outputs become a score.

A method is a frozen dataclass whose fields, made with ``option``, are its options. A method that masks an image says
which masks and what shows through them::

    @register
    @dataclass(frozen=True, kw_only=True)
    class Erase(MaskMethod):
        name = "erase"
        title = "Erase"
        doc = "How much the value falls when a square is painted black."
        accepts = ("critic",)
        stride: int = option(4, doc="distance between squares", minimum=1)

        def make_masks(self, layout):
            return patch_masks(layout.size, self.stride, 2 * self.stride)

        def baseline(self, image, layout):
            return torch.zeros_like(image)

        def score(self, clean, perturbed, target):
            return clean.columns(target)[:, 0] - perturbed.columns(target)[:, 0]
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol, Self

import torch

from .arrangement import Arrangement
from .errors import SaliencyError
from .layout import Kind, Layout
from .masks import Masks, SeparableMasks
from .outputs import Outputs, Resolved


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option of a method.

    Attributes:
        name: Its name.
        default: Its default; its type is the option's type.
        doc: What it does.
        unit: ``pixels`` where it is a length in the observation, else empty.
        minimum: Lowest accepted number, or None.
        maximum: Highest accepted number, or None.
        choices: Accepted values, where only these are.
        live: Whether it is a plain number, word or flag that a control can set.
    """

    name: str
    default: Any
    doc: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Any, ...] = ()
    live: bool = True

    def check(self, value: Any) -> Any:
        """Return the value as the option's type.

        Raises:
            SaliencyError: It is of another type or outside what is accepted.
        """
        if not self.live:
            return value
        if not self._right_type(value) or (self.choices and value not in self.choices) or not self._in_bounds(value):
            raise SaliencyError(f"option {self.name}={value!r}: accepted is {self.accepted}")
        return type(self.default)(value)

    @property
    def accepted(self) -> str:
        """What is accepted, for people."""
        if self.choices:
            return "one of " + ", ".join(map(repr, self.choices))
        low = "" if self.minimum is None else f" from {self.minimum:g}"
        high = "" if self.maximum is None else f" up to {self.maximum:g}"
        return f"a value of type {type(self.default).__name__}{low}{high}"

    def _right_type(self, value: Any) -> bool:
        if isinstance(self.default, bool) or isinstance(value, bool):
            return isinstance(self.default, bool) and isinstance(value, bool)
        if isinstance(self.default, int | float):
            whole = isinstance(self.default, int)  # a control may send 5.0 where 5 is meant
            return isinstance(value, numbers.Real) and math.isfinite(value) and (not whole or float(value).is_integer())
        return isinstance(value, type(self.default))

    def _in_bounds(self, value: Any) -> bool:
        return (self.minimum is None or value >= self.minimum) and (self.maximum is None or value <= self.maximum)


def option(default: Any, *, doc: str, **limits: Any) -> Any:
    """Make a dataclass field that is an option; ``limits`` are further attributes of `Option`."""
    return field(default=default, metadata={"option": {"doc": doc, **limits}})


def flat_option() -> float:
    """Make the option that stops refinement where the map is flat: fewer masks to evaluate, and not exact.

    Of perturbation on Enduro in whole batches 0.02 leaves out half of the masks: 0.64 of the time, scores off by 3 %
    of the maximum for the actor and 1 % for the critic (median over frames; worst 7 %). Evaluated incrementally it
    leaves out a fifth, with errors below 0.5 %, and takes longer than ``explain`` without it, which goes by large
    blocks: it is for pictures where a block of masks takes seconds.
    """
    doc = "approximate: stop refining where scores below this share of the maximum are expected"
    flat: float = option(0.0, doc=doc, minimum=0, maximum=0.5)
    return flat


class Perturbations(Protocol):
    """The perturbed observations of one entry, made a few at a time."""

    @property
    def arrangement(self) -> Arrangement:
        """In which order they are evaluated and where their scores belong."""

    def build(self, indices: torch.Tensor, out: torch.Tensor) -> None:
        """Write the perturbed observations numbered ``indices`` into ``out`` (B, *shape), float32."""


@dataclass(frozen=True)
class Context:
    """What is explained.

    Attributes:
        observation: One entry of the observation, float32 (*shape), without batch axis. Not to be changed.
        layout: Its layout.
        history: Earlier observations of the same entry, float32 (k, *shape), k ≥ 0, for methods that replace by what
            was seen.
    """

    observation: torch.Tensor
    layout: Layout
    history: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A saliency method with its options set.

    What it does with a policy is said by a `PerturbingMethod`, or by a `GradientMethod`.

    Attributes:
        name: The name it is asked for by.
        title: Name for people.
        doc: What it computes, in a sentence.
        source: Paper or document.
        observations: Kinds of observation that it explains.
        discrete: Whether of vectors it explains those too whose numbers count something out: all that it perturbs them
            with was seen before, or is 0.
        scale: How scores are to be read. ``magnitude``: at least 0, which is no effect. ``signed``: above 0 for what
            raises the target, below for what lowers it. ``relative``: only differences between scores count.
        accepts: Targets it is defined for, of ``actor``, ``critic``, ``chosen``, ``action`` (an index) and ``choice``
            (all options of one of several choices).
        accepts_continuous: Targets it is defined for too where actions are continuous: of ``actor``, the action as a
            whole.
        targets: The targets taken when none is given.
        fallback: The targets taken instead where the policy has none of those.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    doc: ClassVar[str] = ""
    source: ClassVar[str] = ""
    observations: ClassVar[tuple[Kind, ...]] = ("image",)
    discrete: ClassVar[bool] = False
    scale: ClassVar[Literal["magnitude", "signed", "relative"]] = "magnitude"
    accepts: ClassVar[tuple[str, ...]] = ("chosen", "action")
    accepts_continuous: ClassVar[tuple[str, ...]] = ()
    targets: ClassVar[tuple[str, ...]] = ("chosen",)
    fallback: ClassVar[tuple[str, ...]] = ()

    @classmethod
    @cache
    def options(cls) -> Mapping[str, Option]:
        """The method's options by name."""
        marked = [item for item in dataclasses.fields(cls) if "option" in item.metadata]
        named = {item.name: Option(name=item.name, default=item.default, **item.metadata["option"]) for item in marked}
        return MappingProxyType(named)

    @classmethod
    def configured(cls, options: Mapping[str, Any]) -> Self:
        """Make the method with these options, the others at their defaults.

        Raises:
            SaliencyError: An option is unknown (the text names those there are) or its value is not accepted.
        """
        known = cls.options()
        for name in options:
            if name not in known:
                raise SaliencyError(f"{cls.name} has no option {name!r}; it has {', '.join(known) or 'none'}")
        return cls(**{name: known[name].check(value) for name, value in options.items()})

    @classmethod
    def suits(cls, layout: Layout) -> bool:
        """Whether it explains what is laid out so."""
        return layout.kind in cls.observations and (cls.discrete or not layout.discrete)

    @property
    def values(self) -> dict[str, Any]:
        """The options as they are set."""
        return {name: getattr(self, name) for name in self.options()}


class PerturbingMethod(Method):
    """A method that changes the observation and looks at what becomes of the outputs."""

    @abstractmethod
    def perturb(self, context: Context) -> Perturbations:
        """Say what is perturbed."""

    @abstractmethod
    def score(self, clean: Outputs, perturbed: Outputs, target: Resolved) -> torch.Tensor:
        """Score a batch of perturbed observations.

        Args:
            clean: Outputs for the observation itself, a batch of one.
            perturbed: Outputs for B perturbed ones.
            target: ``actor``, ``critic``, ``choice:<i>``, or an action's index (``chosen`` is resolved before); where
                the policy makes several choices, a tuple with the index of an option for each.

        Returns:
            float32 (B,): how much each perturbation matters.
        """


class MaskMethod(PerturbingMethod):
    """A method that lets a baseline show through masks: I′ = I·(1 − M) + baseline·M.

    Attributes:
        growth: The power of what a mask changes with which scores grow, for guessing between scores that are computed;
            0 where nothing is known of that.
        first_order: Whether masks change so little that gradients tell beforehand which will matter: ``refine`` then
            begins with what they tell.
        flat: Masks are left out that are expected to score below this share of the largest score so far; 0 leaves out
            none. A method that offers it makes it an option, with ``flat_option``.
    """

    growth: ClassVar[float] = 0.0
    first_order: ClassVar[bool] = False
    flat: float = 0.0

    @abstractmethod
    def make_masks(self, layout: Layout) -> Masks:
        """Return the masks for observations of this layout."""

    @abstractmethod
    def baseline(self, image: torch.Tensor, layout: Layout) -> torch.Tensor:
        """Return what shows through the masks, float32, of the shape of ``image``, which is not to be changed."""

    def difference(self, image: torch.Tensor, layout: Layout) -> torch.Tensor:
        """Return what a mask of ones adds to ``image``."""
        return self.baseline(image, layout) - image

    def perturb(self, context: Context) -> MaskedImages:
        """Say what is perturbed: the image under each mask."""
        image, layout = context.observation, context.layout
        return MaskedImages(image, self.difference(image, layout), self.make_masks(layout), layout, growth=self.growth)


class MaskedImages:
    """I + M·difference for each of some masks M.

    Attributes:
        difference: What a mask of ones adds, of the shape of the image.
        masks: The masks.
    """

    def __init__(
        self, image: torch.Tensor, difference: torch.Tensor, masks: Masks, layout: Layout, *, growth: float = 0.0
    ) -> None:
        """Keep the parts; ``growth`` is the power of what a mask changes with which scores grow, 0 if unknown."""
        self._image, self.difference, self.masks, self._layout = image, difference, masks, layout
        self._growth = growth

    @property
    def arrangement(self) -> Arrangement:
        """The masks' arrangement."""
        return self.masks.arrangement

    def sizes(self) -> torch.Tensor | None:
        """Return what scores can be expected to be proportional to, (count,), where something is known of that."""
        if not self._growth or not isinstance(self.masks, SeparableMasks):
            return None
        others = [axis for axis in range(self.difference.ndim) if axis not in (self._layout.axes or ())]
        change = self.difference.abs()
        return self.masks.sums(change.sum(others) if others else change).pow(self._growth)

    def build(self, indices: torch.Tensor, out: torch.Tensor) -> None:
        """Write the perturbed images numbered ``indices`` into ``out`` (B, *shape)."""
        masks = self._layout.spread(self.masks.make(indices))
        torch.addcmul(self._image[None], masks, self.difference[None], out=out)
