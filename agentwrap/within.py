"""What is seen within a policy while it is called: the latent and the layers that the user has named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .guard import Guard
from .holding import Held, Holding
from .hooks import Hook, HookSwitch, LatentSearch, find_layers, first_tensor

if TYPE_CHECKING:
    import torch
    from torch import nn


class Within:
    """Sees within one policy, in the calls between ``put_on`` and ``take_off``.

    Args:
        policy: The policy, without what is wrapped around it.
        layers: Names of submodules whose outputs are seen, as ``layer/<name>``.
        holding: Holds what is seen.
        guard: Told of what goes wrong; nothing is raised in the policy's forward pass.

    Attributes:
        searched: Whether the latent has been looked for, which takes one call in which all layers are watched.
        seen: ``latent`` and named layers, of the call that is in progress or has just ended.

    Raises:
        UnknownLayerError: The policy has no submodule of that name.
    """

    def __init__(self, policy: nn.Module, layers: Sequence[str], holding: Holding, guard: Guard) -> None:
        self._policy, self._holding, self._guard = policy, holding, guard
        self._layers = find_layers(policy, layers)
        self._hooks: list[HookSwitch] = []
        self._search: LatentSearch | None = None
        self.searched = False
        self.seen: dict[str, Held] = {}

    def put_on(self) -> None:
        """Put hooks on what is to be seen."""
        if not self._hooks:
            for name, layer in self._layers.items():
                hook = Hook(self._guard.run, f"capturing {name}", self._see_layer, f"layer/{name}")
                self._hooks.append(HookSwitch(layer, hook))
        for each in self._hooks:
            each.put_on()

    def take_off(self) -> None:
        """Leave no trace on the policy."""
        for each in self._hooks:
            each.take_off()
        self._end_search()

    def begin(self) -> None:
        """Forget what was seen of a call that raised: another one begins."""
        self._end_search()
        self.seen = {}

    def search(self) -> None:
        """Look for the latent in the call that begins now, unless that has been done."""
        if not self.searched:
            self._search = LatentSearch(self._policy)

    def take(self) -> dict[str, Held]:
        """Return what was seen of a call that has ended."""
        seen, self.seen = self.seen, {}
        return seen

    @property
    def searching(self) -> bool:
        """Whether the latent is looked for in the call that has just ended."""
        return self._search is not None

    def find_latent(self, output: torch.Tensor | None) -> Held | None:
        """Return what the layer was given that computed an output, if it is found; from now on a hook sees it.

        Args:
            output: The output, None where a policy returns its latent itself.
        """
        found = self._search.find(output) if self._search is not None and output is not None else None
        self._end_search()
        self.searched = True
        if found is None:
            return None
        head, latent = found
        self._hooks.append(HookSwitch(head, Hook(self._guard.run, "capturing the latent", self._see_latent)))
        return self._holding.hold("latent", latent)

    def _end_search(self) -> None:
        if self._search is not None:
            self._search.close()
            self._search = None

    # Hooks. What they return would replace a layer's result, so they return nothing.

    def _see_layer(self, name: str, module: nn.Module, args: Any, result: Any) -> None:
        tensor = first_tensor(result)
        if tensor is not None:
            self.seen[name] = self._holding.hold(name, tensor)

    def _see_latent(self, module: nn.Module, args: Any, result: Any) -> None:
        tensor = first_tensor(args)
        if tensor is not None:
            self.seen["latent"] = self._holding.hold("latent", tensor)
