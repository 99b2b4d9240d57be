"""Says so where a policy is called with something else than what the environment that is wrapped returns.

That is a trap: a wrapper outside of ours, such as a frame stack, changes observations after we have seen them. But
loops scale, transpose and flatten observations themselves, make one-hot vectors of numbers, and learn from many at
once, all as they should. So only sizes are evidence that cannot come of these.
"""

from __future__ import annotations

import math

from .matching import Shape

#: What to do.
ADVICE = (
    "Where that is a wrapper's work, put agentwrap's wrapper outermost: around FrameStackObservation, "
    "ResizeObservation, TransformObservation and the like, not inside of them"
)


def resized(given: Shape, returned: Shape) -> bool:
    """Whether the one observation that a policy is called with is another than the environment's, by its size.

    A vector to which something was added, or a number made one-hot, is taken for the loop's own work.

    Args:
        given: What the policy was called with, without a batch axis.
        returned: What the environment returned.
    """
    if math.prod(given) == math.prod(returned):
        return False
    if len(returned) == 1:
        return len(given) > 1 and returned[0] in given  # vectors in a stack
    return len(returned) > 1


def strange(given: Shape, returned: Shape) -> bool:
    """Whether a call is with neither the environment's observation nor a batch or batched sequences of such."""
    return resized(given, returned) and not any(
        math.prod(given[axis:]) == math.prod(returned) for axis in range(1, min(3, len(given)))
    )


def told(given: Shape, returned: Shape, *, shown: bool) -> str:
    """Say it to people.

    Args:
        given: What the policy is called with.
        returned: What the environment returns.
        shown: Whether such calls are taken for acts.
    """
    what = "maps are of that" if shown else "nothing can be shown of that"
    return (
        f"The policy is called with {given} where the environment that is wrapped returns {returned}: {what}. {ADVICE}."
    )


#: What is said of a policy that gets a dict's or tuple's entries as arguments of their own.
IN_PARTS = (
    "The policy is called with entries of the observation one by one: what comes after the first is taken for state, "
    "which maps hold as it is. Call it with the dict or tuple itself to have all entries explained."
)

#: What is said of a policy whose library prepares observations.
NEVER_PREPARED = (
    "The policy acts, but never on what the environment that is wrapped returns, as its library would prepare it: "
    f"there is nothing to show of it. {ADVICE}, or name what else prepares them (agentwrap.policy.Preprocessed)."
)
