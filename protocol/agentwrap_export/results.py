"""The tensors of a policy's result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import PolicyTypeError
from .pytree import fields_of, leaves_with_paths

if TYPE_CHECKING:
    import torch

ACCEPTED = (
    "a tensor of logits, Q-values or action means; a tuple such as (logits, value); a dict or dataclass of named "
    "tensors; or a Categorical, Bernoulli or Normal from torch.distributions"
)


def output_tensors(result: Any) -> list[torch.Tensor]:
    """Return the tensors of a policy's result, in the order in which ``named_leaves`` has them.

    Args:
        result: What the policy returned. Tuples, lists, dicts and everything else that PyTorch's pytree knows are
            flattened, and so are dataclasses; a ``Categorical`` or ``Bernoulli`` gives its ``logits``, a ``Normal`` its
            mean and the logarithm of its standard deviation. Other leaves (None, numbers) are left out.

    Raises:
        PolicyTypeError: There is no tensor in it.
    """
    return [tensor for _, tensor in named_leaves(result)]


def named_leaves(result: Any) -> list[tuple[str, torch.Tensor]]:
    """Return the tensors in a result, each with the name that the result itself gives it, or ``""``.

    Raises:
        PolicyTypeError: There is no tensor in it; the text says what is accepted.
    """
    found = [
        ("/".join(map(str, path)) if any(isinstance(part, str) for part in path) else "", tensor)
        for path, tensor in placed_leaves(result)
    ]
    if not found:
        raise PolicyTypeError(
            f"the policy returned {type(result).__name__} without any tensor; accepted are {ACCEPTED}"
        )
    return found


def placed_leaves(result: Any) -> list[tuple[tuple[str | int, ...], torch.Tensor]]:
    """Return the tensors in a result, each with its path in it; none where there is none.

    Raises:
        PolicyTypeError: A distribution in it is of a kind that is not known.
    """
    import torch

    found: list[tuple[tuple[str | int, ...], torch.Tensor]] = []
    for path, leaf in leaves_with_paths(result):
        if isinstance(leaf, torch.Tensor):
            found.append((path, leaf))
        elif isinstance(leaf, torch.distributions.Distribution):
            found.extend(
                ((*(part for part in path if isinstance(part, str)), name), t) for name, t in _parameters(leaf)
            )
        elif (fields := fields_of(leaf)) is not None:
            found.extend(((*path, *inner), tensor) for inner, tensor in placed_leaves(fields))
    return found


def _parameters(distribution: Any) -> list[tuple[str, torch.Tensor]]:
    """The parameters of a distribution under the protocol's names."""
    import torch

    while isinstance(distribution, torch.distributions.Independent):
        distribution = distribution.base_dist
    match distribution:
        case torch.distributions.Categorical() | torch.distributions.Bernoulli():
            return [("logits", distribution.logits)]
        case torch.distributions.Normal():
            return [("mean", distribution.loc), ("log_std", distribution.scale.log())]
    raise PolicyTypeError(f"the policy returned a {type(distribution).__name__}; accepted are {ACCEPTED}")
