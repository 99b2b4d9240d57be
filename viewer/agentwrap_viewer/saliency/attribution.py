"""Methods that take gradients: one output is attributed to what it was computed from, in one go.

A method of one's own says what it does with the output as a differentiable function of the observation::

    @register
    @dataclass(frozen=True, kw_only=True)
    class Squared(GradientMethod):
        name = "squared_gradient"
        title = "Squared gradient"
        doc = "Where the output is steepest."

        def attribute(self, question):
            gradient = question.captum().Saliency(question.output).attribute(question.leaf(), abs=False)
            return question.reduced(gradient.square())
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F

from .arrangement import Floats
from .errors import SaliencyError
from .layers import has_recurrent_layers
from .layout import Kind, Layout
from .method import Method
from .outputs import Outputs, Resolved
from .policies import BoundPolicy
from .subject import Subject
from .targets import resolve_targets

#: What to do about a policy that leaves no gradients.
WAY_OUT = (
    "give a policy that computes in torch throughout, or take a method that perturbs, such as perturbation or "
    "feature_perturbation"
)


@dataclass(frozen=True)
class Question:
    """One output, as a differentiable function of one entry of the observation; the other entries and the state held.

    Attributes:
        bound: The policy and what it is asked about.
        entry: The entry explained.
        layout: Its layout.
        target: ``actor``, ``critic``, or the index of an action, of several choices at once one for each.
        rows: Observations evaluated at a time, at most.
    """

    bound: BoundPolicy
    entry: str
    layout: Layout
    target: Resolved
    rows: int

    def leaf(self) -> torch.Tensor:
        """Return the observation, float32 (1, *shape), a leaf that gradients can be taken with respect to."""
        return self.bound.entries[self.entry].to(torch.float32)[None].clone().requires_grad_()

    def output(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the output for each of a batch (B, *shape), (B,): for the actor the sum of all its outputs.

        An output that does not depend on the observation has a gradient all the same: zero.
        """
        return self.column(self.bound.differentiable(self.entry, batch)) + 0 * batch.flatten(1)[:, 0]

    def column(self, outputs: Outputs) -> torch.Tensor:
        """Return the output in question, (B,)."""
        return outputs.columns(self.target).sum(1)

    @property
    def named(self) -> str:
        """What is attributed, for people."""
        return f"output for action {self.target}" if isinstance(self.target, int) else str(self.target)

    def reduced(self, attribution: torch.Tensor) -> torch.Tensor:
        """Sum an attribution (1, *shape) over channels and frames, signs kept: (H, W), or (n,) for a vector."""
        axes = self.layout.axes or (0,)
        others = [axis for axis in range(len(self.layout.shape)) if axis not in axes]
        return attribution[0].sum(others) if others else attribution[0]

    def captum(self) -> Any:
        """Return Captum's methods: imported when first asked for, since that takes a second.

        Raises:
            SaliencyError: Captum is not installed.
        """
        try:
            import captum.attr
        except ImportError as error:
            raise SaliencyError(
                f"this method needs Captum ({error}): pip install 'agentwrap-rl[viewer]', or captum alone"
            ) from error
        return captum.attr

    def depends(self) -> bool:
        """Whether the output depends on the entry at all.

        Raises:
            SaliencyError: The output depends on the observation, but in a way that leaves no gradient.
        """
        leaf = self.leaf()
        try:
            column = self.column(self.bound.differentiable(self.entry, leaf))
        except SaliencyError as error:
            raise SaliencyError(f"no gradients can be taken through this policy ({error}): {WAY_OUT}") from error
        if column.requires_grad and torch.autograd.grad(column.sum(), leaf, allow_unused=True)[0] is not None:
            return True
        for other in (torch.zeros_like(leaf), 0.5 * leaf + 1):
            if not torch.equal(self.column(self.bound.evaluate(self.entry, other)), column):
                raise SaliencyError(
                    f"the policy's {self.named} depends on the observation, but no gradient comes back: it is "
                    f"computed without gradients (torch.no_grad, detach, NumPy) or from integers; {WAY_OUT}"
                )
        return False


class GradientMethod(Method):
    """A method that attributes one output by its gradients."""

    observations: ClassVar[tuple[Kind, ...]] = ("image", "vector")
    accepts: ClassVar[tuple[str, ...]] = ("actor", "critic", "chosen", "action")
    fallback: ClassVar[tuple[str, ...]] = ("actor", "critic")  # a continuous policy chooses no action

    @property
    def passes(self) -> int:
        """Observations that gradients are taken at for one map."""
        return 1

    @abstractmethod
    def attribute(self, question: Question) -> torch.Tensor:
        """Return the scores: float32 (rows, cols), a grid that covers the picture evenly, or (n,) for a vector."""


class GradientPart:
    """The explanation of one entry of the observation by gradients, the others held; see ``explanation``.

    It is complete after one ``advance``.
    """

    evaluation, precision = "gradient", "float32"
    skipped = 0

    def __init__(self, subject: Subject, method: GradientMethod) -> None:
        """Prepare."""
        if subject.request.precision != self.precision:
            raise SaliencyError(f"precision={subject.request.precision!r}: {method.name} takes gradients, in float32")
        self.entry, self.method = subject.entry, method
        bound, layout = subject.bound, subject.layout
        self.clean = bound.clean(self.entry)
        self.targets, resolved = resolve_targets(method, self.clean, subject.request.target)
        self._rnn = bound.device.type == "cuda" and has_recurrent_layers(bound)
        self.arrangement = EvenGrid(layout)
        self.count = len(self.targets) * method.passes
        self.level = 0
        self._questions = [Question(bound, self.entry, layout, target, subject.rows) for target in resolved]
        self._grids: list[Any] = [self.arrangement.zeros() for _ in self.targets]

    @property
    def done(self) -> bool:
        """Whether nothing is left to compute."""
        return self.level == 1

    def merge_levels(self) -> None:
        """There is one level only."""

    def predict(self) -> bool:
        """There is nothing to look at before all is computed."""
        return False

    def advance(self) -> int:
        """Compute all; returns how many observations gradients were taken at."""
        # cuDNN computes no gradients of recurrent layers in evaluation mode
        cudnn = torch.backends.cudnn.flags(enabled=False) if self._rnn else nullcontext()
        with cudnn, torch.inference_mode(False), torch.enable_grad():  # whatever the caller's mode is
            self._grids = [self._computed(question) for question in self._questions]
        self.level = 1
        return self.count

    def grids(self) -> list[Any]:
        """Return each target's grid as it is now, zero until computed."""
        return self._grids

    def _computed(self, question: Question) -> Floats:
        try:
            if not question.depends():
                return self.arrangement.zeros()
            scores = self.method.attribute(question).detach()
        except RuntimeError as error:  # what torch says when something has no derivative
            raise SaliencyError(f"{self.method.name} of {question.target} cannot be computed: {error}") from error
        if not bool(torch.isfinite(scores).all()):
            raise SaliencyError(
                f"{self.method.name}: the gradient of the {question.named} is not finite (NaN or infinite) at this "
                "observation; look for a square root, logarithm or division at zero in the policy"
            )
        grid: Floats = scores.to(torch.float32).cpu().numpy()
        return grid


class EvenGrid:
    """A grid whose cells share the picture evenly, or the features of a vector."""

    def __init__(self, layout: Layout) -> None:
        """Keep the shape that maps have."""
        self._shape = (layout.shape[0],) if layout.axes is None else layout.size

    def zeros(self) -> Floats:
        """Return an empty map."""
        empty: Floats = torch.zeros(self._shape).numpy()
        return empty

    def heatmap(self, grid: Floats) -> Floats:
        """Return the grid in the observation's space, float32: interpolated bilinearly where it is coarser."""
        if grid.shape == self._shape:
            return grid
        placed: Floats = F.interpolate(torch.from_numpy(grid)[None, None], self._shape, mode="bilinear")[0, 0].numpy()
        return placed
