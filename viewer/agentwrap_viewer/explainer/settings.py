"""What the explainer was told: method, options, budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agentwrap_protocol.messages import DEFAULT_TARGET, Hello
from agentwrap_viewer.saliency import Method, SaliencyError

from . import catalogue
from .catalogue import Signature
from .targets import MOST_NAMED, Aim, Targets

#: Milliseconds of computing for a step before a newer one gets its turn: less than the coarse grid takes for an 84×84
#: picture and the Nature CNN on one core. Who is late then catches up at once; with time left, maps are refined anyway.
BUDGET_MS = 10.0

#: What a budget may be, in milliseconds (SPEC section 8).
BUDGETS_MS = (1.0, 60_000.0)


@dataclass(frozen=True)
class Settings:
    """Settings; immutable, changed as a whole.

    Attributes:
        method: The method asked for, or None for the one that suits the observation.
        options: The options asked for, others are at their defaults.
        target: The target asked for, as messages have it.
        budget_ms: Milliseconds of computing for a step before a newer one gets its turn.
    """

    method: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    target: str = DEFAULT_TARGET
    budget_ms: float = BUDGET_MS

    def changed(
        self,
        graph: Signature | None,
        hello: Hello | None = None,
        *,
        method: str | None = None,
        options: Mapping[str, Any] | None = None,
        target: str | None = None,
        budget_ms: float | None = None,
    ) -> Settings:
        """Return the settings with some changed; a new method begins with its default options.

        Args:
            graph: The policy that will be explained, as far as it is known.
            hello: What its agent says of itself, likewise.
            method: Another method.
            options: Options to change.
            target: Another target.
            budget_ms: Another budget.

        Raises:
            SaliencyError: Method, option, target or budget is not possible; the text names what is.
        """
        asked = {} if method is not None else dict(self.options)
        new = replace(
            self,
            method=method if method is not None else self.method,
            options={**asked, **(options or {})},
            target=self.target if target is None else target,
            budget_ms=self.budget_ms if budget_ms is None else budget_ms,
        )
        new._check(graph)
        if target is not None and graph is not None and hello is not None:
            new._aim(graph, hello)
        return new

    def named(self, graph: Signature | None) -> str | None:
        """Return the method asked for where it suits this policy; None where each entry gets its kind's default."""
        return self.method if self.method in catalogue.suitable(graph) else None

    def in_use(self, graph: Signature | None) -> Method:
        """Return the method used for this policy: the one asked for where it suits, else the default one as it is."""
        default = catalogue.default_method(graph)
        if self.method is not None and self.named(graph) is None:
            return catalogue.suitable(None)[default].configured({})
        chosen = catalogue.suitable(None)[self.method or default]
        known = chosen.options()
        return chosen.configured({name: value for name, value in self.options.items() if name in known})

    def aim(self, graph: Signature, hello: Hello) -> Aim:
        """Return what of a policy is explained: the target asked for where that is possible, else the method's own."""
        try:
            return self._aim(graph, hello)
        except SaliencyError as error:
            return Aim(None, Targets.of(graph, hello), str(error))

    def _aim(self, graph: Signature, hello: Hello) -> Aim:
        """Return what is asked for.

        Raises:
            SaliencyError: The policy does not have it, or the method is not defined for it.
        """
        targets, method = Targets.of(graph, hello), self.in_use(graph)
        if self.target == DEFAULT_TARGET:
            return Aim(None, targets)
        target = targets.find(self.target)
        if not targets.accepted(method, target):
            offered = ", ".join(info.name for info in targets.offered(method)[:MOST_NAMED])
            raise SaliencyError(f"{method.name} does not explain target {self.target!r}, but {offered}")
        return Aim(target, targets)

    def _check(self, graph: Signature | None) -> None:
        low, high = BUDGETS_MS
        if not low <= self.budget_ms <= high:
            raise SaliencyError(f"a budget of {self.budget_ms:g} ms is not possible; {low:g} to {high:g} ms are")
        offered = catalogue.suitable(graph)
        if self.method is not None and self.method not in offered:
            raise SaliencyError(catalogue.refusal(self.method, graph))
        chosen = catalogue.suitable(None)[self.method or catalogue.default_method(graph)]
        for name in self.options:
            if name in chosen.options() and not chosen.options()[name].live:
                raise SaliencyError(f"option {name!r} cannot be set by a message")
        chosen.configured(self.options)
