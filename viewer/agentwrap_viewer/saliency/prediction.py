"""What scores can be expected before any mask is evaluated: outputs to first order, as gradients have them.

The outputs under mask M are about those without one and J·(M∘change), with J the outputs' derivative. For masks that
let a blurred picture through, the scores of outputs so predicted rank as the true ones do: on 80 frames of Enduro each,
Spearman's correlation over 289 masks is 0.99 and 0.98 for the expert (actor, critic; median), 0.99 and 0.94 for the
novice, 0.91 for `sarfa`. For black squares and discs, which change much, it says too little (0.1 to 0.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from scipy.fft import dct

from .method import PerturbingMethod
from .outputs import ACTOR_NAMES, CRITIC_NAMES, Outputs, Resolved

#: Directions (K, numbers of an output) by the output's name → what each mask adds to their sums, (count, K), or None.
FirstOrder = Callable[[Mapping[str, torch.Tensor]], torch.Tensor | None]

#: Most directions in which a whole actor's outputs are looked at: the first cosines over its outputs, since scores are
#: squared lengths, which a few orthogonal directions estimate. With three of nine the correlation is 0.97, not 0.99.
ACTOR_DIRECTIONS = 3

#: Most outputs that are looked at one by one, for what asks about single actions. Each costs about a mask's time.
MOST_OUTPUTS = 16

#: The least that is expected anywhere, as a share of the most: where gradients see nothing there may be something.
LEAST = 1e-4


def predicted_scores(
    first_order: FirstOrder, method: PerturbingMethod, clean: Outputs, targets: Sequence[Resolved]
) -> torch.Tensor | None:
    """Return the scores to expect of all masks, float32 (targets, count).

    Args:
        first_order: Says what each mask adds to sums of outputs.
        method: Turns outputs into scores.
        clean: The outputs without a mask.
        targets: What is explained, ``chosen`` resolved.

    Returns:
        None where gradients cannot be taken or say nothing of some target, or there are too many outputs.
    """
    of_actor = _actor_directions(clean, targets)
    of_value = torch.eye(1) if clean.value is not None and "critic" in targets else torch.empty(0, 1)
    if of_actor is None:
        return None
    rows = len(of_actor) + len(of_value)
    name, critic = (next((n for n in names if n in clean.named), "") for names in (ACTOR_NAMES, CRITIC_NAMES))
    directions = {critic: torch.cat([torch.zeros(len(of_actor), 1), of_value])} if len(of_value) else {}
    if name and len(of_actor):
        directions[name] = torch.cat([of_actor, torch.zeros(len(of_value), of_actor.shape[1])])
    device = next(iter(clean.named.values())).device
    if not rows:
        return None
    added = first_order({name: each.to(device) for name, each in directions.items()})
    if added is None:
        return None
    outputs = _outputs(clean, added[:, : len(of_actor)], added[:, len(of_actor) :], of_actor.to(device))
    scores = torch.stack([method.score(clean, outputs, target) for target in targets])
    most = scores.abs().amax(1, keepdim=True)
    if not bool(torch.isfinite(scores).all()) or bool((most == 0).any()):
        return None
    return scores


def _actor_directions(clean: Outputs, targets: Sequence[Resolved]) -> torch.Tensor | None:
    """Return directions (k, A), orthogonal and of length 1; None where there would be too many."""
    if clean.q is None or set(targets) == {"critic"}:
        return torch.empty(0, 0)
    actions = clean.q.shape[1]
    if set(targets) <= {"actor", "critic"}:
        return _cosines(actions, min(actions, ACTOR_DIRECTIONS))
    return torch.eye(actions) if actions <= MOST_OUTPUTS else None


@lru_cache(maxsize=16)
def _cosines(length: int, count: int) -> torch.Tensor:
    return torch.from_numpy(dct(np.eye(length), norm="ortho", axis=0)[:count]).float()


def _outputs(clean: Outputs, of_actor: torch.Tensor, of_value: torch.Tensor, directions: torch.Tensor) -> Outputs:
    """Return outputs for each mask, given what it adds in each direction of the actor (count, k) and to the value."""
    q, value = clean.q, clean.value
    if q is not None and len(directions):  # lengths in all directions are estimated by those in some
        q = q + math.sqrt(q.shape[1] / len(directions)) * (of_actor @ directions)
    elif q is not None:
        q = q.expand(len(of_actor), -1)
    if value is not None:
        value = value + of_value[:, 0] if of_value.shape[1] else value.expand(len(of_value))
    return Outputs(q, value, clean.discrete, {}, clean.choices)
