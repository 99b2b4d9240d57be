"""Tells which of a policy's calls led to a step: it may be called for more than its environment's observations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from agentwrap_export.inputs import CallInput, arrays_to_tensors, call_inputs

from .arrays import Array
from .calls import Call, version_of
from .guard import Guard
from .hooks import is_tensor
from .matching import is_as_seen, same_observation, unlike

if TYPE_CHECKING:
    from torch import nn

#: Steps for which a policy that has been called with the environment's own observations is expected to be.
TRUST = 10


class Choosing:
    """Compares what a policy was called with between two steps with what the environment returned.

    Args:
        policy: The policy, without what is wrapped around it, for the names of its arguments.
        guard: Told where it cannot be told.
    """

    def __init__(self, policy: nn.Module, guard: Guard) -> None:
        self._policy, self._guard = policy, guard
        self._trust = 0
        self._changes_input = False

    def choose(self, calls: Sequence[Call], observation: Mapping[str, Array], *, others: bool = False) -> Call | None:
        """Return the newest call that was made with this very observation.

        Where none was, observations are prepared outside of the policy, and what the policy was called with last
        counts, unless there were several different ones. Of the call that is returned ``unlike`` is known.

        Args:
            calls: The calls since the step before, in order.
            observation: The environment's observation, by array name.
            others: There were further calls before these, which nobody looked at.
        """
        for call in reversed(calls):
            if self._changed(call):
                return call  # there is nothing to compare
            call.unlike = self._unlike(call, observation)
            if not call.unlike:
                self._trust = min(self._trust + 1, TRUST)
                return call
        if calls and self._trust:  # nothing has been prepared so far: this is another environment's
            self._trust -= 1
            return None
        if others or not calls:
            return None
        newest = calls[-1]
        if not all(same_observation(call.unlike, newest.unlike) for call in calls):
            self._guard.warn_once(
                "matching calls",
                "the policy is called with several observations between two steps, and none is what the environment "
                "returned: which of them a step is about cannot be told, so such steps are sent without outputs",
            )
            return None
        return newest

    def _unlike(self, call: Call, observation: Mapping[str, Array]) -> list[CallInput]:
        """What of the call's observation is not as the environment returned it."""
        seen = observation.get("observation")
        if seen is not None and _is_tensor_alone(call) and is_as_seen(call.args[0], seen, batched=call.batched):
            return []  # nearly always
        return unlike(given_to(self._policy, call), observation, batched=call.batched)

    def _changed(self, call: Call) -> bool:
        """Whether the policy has changed its observation in place; then it is taken for the environment's."""
        if call.before is not None and call.before.version is not None:
            self._changes_input = call.before.version != version_of(call.args[0])
        return self._changes_input


def given_to(policy: nn.Module, call: Call) -> list[CallInput]:
    """Return what a call was made with, tensor by tensor."""
    if _is_tensor_alone(call):
        return [CallInput("observation", "observation", "observation", call.args[0])]  # what call_inputs returns
    return call_inputs(policy, *arrays_to_tensors((call.args, call.kwargs)))


def _is_tensor_alone(call: Call) -> bool:
    return len(call.args) == 1 and not call.kwargs and is_tensor(call.args[0])
