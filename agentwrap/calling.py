"""The outputs of a policy that is a plain function: nobody sees its calls, so it is called for steps that are sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from .arrays import Array
from .black_box import CallableBox
from .guard import Guard
from .probing import Probing

#: Part of the instrument, as warnings name it.
CALLING = "calling the policy for its outputs"


@dataclass(frozen=True)
class Called:
    """What a policy computed when it was called for a step.

    Attributes:
        names: Names of the outputs.
        outputs: The outputs, without batch axis.
    """

    names: tuple[str, ...]
    outputs: Mapping[str, Array]


class CallingCapture:
    """Stands where hooks would be: calls the policy itself, with the step's observation and before the step is made.

    Args:
        policy: The function.
        observation_space: The environment's.
        action_space: The environment's, for the names of outputs.
        probing: Holds the budget; opened when the first observation is there.
        outputs: Names of outputs to use instead.
        guard: Told of what goes wrong.

    Attributes:
        row: Which of several environments is shown; all the same here, where calls are about its observation.
        glances: A call can be made afterwards, too.
    """

    def __init__(
        self,
        policy: Callable[[Any], Any],
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        probing: Probing,
        *,
        outputs: Sequence[str] | str | None = None,
        guard: Guard | None = None,
    ) -> None:
        self._policy, self._spaces, self._names = policy, (observation_space, action_space), outputs
        self._probing, self._guard = probing, guard or Guard()
        self._box: CallableBox | None = None
        self.attached = self.closely = False
        self.row, self.glances = 0, True

    @property
    def problem(self) -> str | None:
        """Why the policy is not called, for people; None where nothing stands in the way."""
        return self._guard.reason(CALLING) or self._probing.problem

    @property
    def misfit(self) -> None:
        """What others call the function with is not seen."""

    def attach(self) -> None:
        """Begin; there is nothing to put hooks on."""
        self.attached = self.closely = True

    def look_closely(self, closely: bool) -> None:
        """Know whether the next step may be sent."""
        self.closely = closely

    def detach(self) -> None:
        """End."""
        self.attached = self.closely = False

    def expect(self, observation: Any) -> None:
        """Observations are looked at when they come."""

    def take(self) -> None:
        """Nothing is seen of the calls of others."""

    def choose(self, seen: None, observation: Mapping[str, Array]) -> Called | None:
        """Call the policy for a step; None where the budget does not allow it now, or it cannot be called at all."""
        if self.problem is not None:
            return None
        try:
            if self._box is None:
                self._box = self._open(observation)
            row = {given.name: observation[given.array] for given in self._box.inputs}
            found = self._probing.outputs(row)
        except Exception as error:
            self._probing.stop(f"the policy cannot be called for its outputs: {type(error).__name__}: {error}")
            self._guard.switch_off(CALLING, error)
            return None
        return None if found is None else Called(self._box.outputs, found)

    def arrays(self, call: Called) -> dict[str, Array]:
        """Return ``output/<name>``, as a step message holds them."""
        return {f"output/{name}": array for name, array in call.outputs.items()}

    def _open(self, observation: Mapping[str, Array]) -> CallableBox:
        observation_space, action_space = self._spaces
        seen = {name: array for name, array in observation.items() if name.split("/")[0] == "observation"}
        box = CallableBox(
            self._policy, seen, observation_space=observation_space, action_space=action_space, names=self._names
        )
        self._probing.open(box)
        return box
