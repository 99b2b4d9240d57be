"""Sees what a PyTorch policy really computed, through forward hooks, in the calls that the user's own code makes.

Nothing of the policy is changed: not its mode, gradients, weights or random state, nor the hooks that others have put
on it. Our hooks are there only between ``attach`` and ``detach``, and copies of the policy do not have them.

Most calls are of steps that will not be sent. So there are two ways of looking. ``look_closely`` is for calls whose
step may be sent: all calls are told apart, and hooks within the policy see the latent and named layers. At other times
a glance has to do, which costs next to nothing: the arguments and the result of the newest call, in case its step turns
out to be an episode's last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from agentwrap_export.inputs import arrays_to_tensors, call_inputs
from agentwrap_export.results import output_tensors

from .arrays import Array, shapes, to_array
from .calls import Before, Call, Glance, Seen, version_of, without_batch
from .choosing import Choosing, given_to
from .guard import Guard
from .holding import Held, Holding
from .hooks import CompiledHook, Hook, is_tensor
from .matching import Shape, Shapes, is_as_seen, single_observation
from .misfits import IN_PARTS, resized, strange, told
from .outputs import doubts, output_names
from .within import Within

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Outputs whose layer tells the latent: the input of the layer that computes the first of these.
HEADS = ("logits", "q_values", "mean")

#: Part of the instrument, as warnings name it.
CAPTURING = "capturing the policy's outputs"

_UNKNOWN: Any = object()

#: Calls that may go by without a single observation before the user is told.
PATIENCE = 1000

#: Newest calls kept until the environment's next step.
MOST_CALLS = 64


class PolicyCapture:
    """Captures a policy's calls with a single observation, until the environment's next step.

    Tensors are held, not copied, until a step is sent (``Holding``).

    Args:
        policy: The policy.
        action_space: For the names of outputs.
        outputs: Names of outputs to use instead, see ``output_names``.
        layers: Names of submodules whose outputs are captured too, as ``layer/<name>``.
        guard: Told of what goes wrong; nothing is raised in the policy's forward pass.

    Attributes:
        row: Always 0: a call is about one observation.
        glances: Calls are seen in any case.

    Raises:
        UnknownLayerError: The policy has no submodule of that name.
    """

    def __init__(
        self,
        policy: nn.Module,
        action_space: gym.Space[Any],
        *,
        outputs: Sequence[str] | str | None = None,
        layers: Sequence[str] = (),
        guard: Guard | None = None,
    ) -> None:
        self._policy, self._action_space, self._names_given = policy, action_space, outputs
        self.row, self.glances = 0, True
        self._guard = guard or Guard()
        from agentwrap_export.wrapping import unwrapped

        self._inner: nn.Module = unwrapped(policy)
        self._holding = Holding()
        self._within = Within(self._inner, layers, self._holding, self._guard)
        # a compiled policy's layers are not run as modules
        self._within.searched = hasattr(policy, "_orig_mod") or hasattr(getattr(policy, "module", None), "_orig_mod")
        self._expected: Shapes = {}
        self._verdicts: dict[Any, bool | None] = {}  # by shape
        self._names: tuple[str, ...] = ()
        self._outside: Any = None  # handle of the hook that notes calls
        self._at_begin: Any = None  # handle of the one that sees them begin, where that has to be seen too
        self._compiled = self._closely = False
        self._before: Before | None = None
        self._calls: deque[Call] = deque(maxlen=MOST_CALLS)
        self._glance: Glance | None = None
        self._glances = 0
        self._glanced_at_several = False
        self._versions: tuple[int | None, ...] = ()  # of the outputs of the newest call that was looked at closely
        self._choosing = Choosing(self._inner, self._guard)
        self._calls_unlike = 0
        self._strange: str | None = None  # of calls that are not taken for acts
        self._resized: str | None = None  # of those that are
        self._looks_before = False  # calls have to be seen when they begin too

    @property
    def problem(self) -> str | None:
        """Why nothing of the policy's calls can be shown, for people; None where nothing stands in the way."""
        return self._guard.reason(CAPTURING)

    @property
    def misfit(self) -> str | None:
        """What speaks for it that observations are changed on their way to the policy, for people."""
        return self._resized if self._names else self._strange

    @property
    def attached(self) -> bool:
        """Whether hooks are on the policy."""
        return self._outside is not None

    @property
    def closely(self) -> bool:
        """Whether the next call is looked at closely."""
        return self._closely

    def attach(self) -> None:
        """Put hooks on the policy, and look closely."""
        if self._outside is None:
            self._compiled = getattr(self._policy, "_compiled_call_impl", None) is not None
            if self._compiled:
                self._within.searched = True  # its layers are not run as modules
                self._outside = CompiledHook(self._policy, self._begin, self._note)
            else:
                self._outside = self._policy.register_forward_hook(Hook(self._note), with_kwargs=True)
        self.look_closely(True)

    def look_closely(self, closely: bool) -> None:
        """Have the next calls looked at closely, or only glanced at."""
        if closely is self._closely or self._outside is None:
            return
        self._closely = closely
        if not closely:
            self._within.take_off()
            if self._at_begin is not None:
                self._at_begin.remove()
                self._at_begin = None
        elif not self._compiled:
            if self._looks_before or not self._within.searched:
                self._see_begin()
            self._within.put_on()

    def _see_begin(self) -> None:
        self._at_begin = self._policy.register_forward_pre_hook(Hook(self._begin), with_kwargs=True)

    def detach(self) -> None:
        """Take all our hooks off, and forget what was captured."""
        self.look_closely(False)
        if self._outside is not None:
            self._outside.remove()
            self._outside = None
        self.take()

    def expect(self, observation: Any) -> None:
        """Tell what the environment's observations look like: calls are compared with that."""
        expected = shapes(observation)
        if expected != self._expected:
            self._expected = expected
            self._verdicts.clear()

    def take(self) -> Seen:
        """Return what was seen of the policy's calls since the last time, for ``choose``."""
        glance, self._glance = self._glance, None
        self._glanced_at_several, self._glances = self._glances > 1, 0
        if self._within.seen:  # of a call that raised
            self._within.seen = {}
        if not self._calls:
            return glance
        calls = list(self._calls)
        self._calls.clear()
        return calls

    def choose(self, seen: Seen, observation: Mapping[str, Array]) -> Call | None:
        """Return the call that led to a step, None where none did or where that cannot be told.

        Several environments may share a policy, and only some be wrapped: see ``Choosing``.

        Args:
            seen: What was seen since the step before, from ``take``.
            observation: The environment's observation, by array name.
        """
        if isinstance(seen, tuple):
            # the ones before, which nobody looked at, may have been about this step
            call = self._choosing.choose(self._recall(seen), observation, others=self._glanced_at_several)
        else:
            call = self._choosing.choose(seen or [], observation)
        if call is not None and call.unlike:
            self._note_size(call, observation)
        return call

    def _note_size(self, call: Call, observation: Mapping[str, Array]) -> None:
        for each in call.unlike:
            given, returned = tuple(each.tensor.shape)[call.batched :], observation.get(each.array)
            if self._resized is None and returned is not None and resized(given, returned.shape):
                self._resized = told(given, returned.shape, shown=True)
        if self._resized is None and "observation" not in observation and self._is_in_parts(call, observation):
            self._resized = IN_PARTS

    def _is_in_parts(self, call: Call, observation: Mapping[str, Array]) -> bool:
        """Whether an entry of a dict or tuple is taken for state, being an argument of its own."""
        states = [each.tensor for each in given_to(self._inner, call) if each.role == "state"]
        entries = [array for array in observation.values() if array.any()]  # states begin with zeros
        return any(
            is_as_seen(tensor, entry, batched=call.batched)
            for tensor in states
            for entry in entries
            if tensor.dim() == entry.ndim + call.batched
        )

    def arrays(self, call: Call) -> dict[str, Array]:
        """Return what a chosen call computed and, where it cannot be told from the observation, what it was given.

        Returns:
            ``output/<name>`` and ``input/<name>``, as a step message holds them.
        """
        found: dict[str, Array | None] = {}
        held = dict(zip(call.names, call.outputs, strict=True))
        for name, each in (held | call.held).items():
            if self._holding.is_whole(name, each):
                found[f"output/{name}"] = without_batch(name, to_array(each[0]), call.batched)
        for given in call.unlike:
            array = to_array(given.tensor)
            found[f"input/{given.name}"] = array[0] if call.batched and array is not None else array
        for name, each in self._state(call).items():
            if self._holding.is_whole(name, each):
                found[name] = to_array(each[0])
        return {name: array for name, array in found.items() if array is not None}

    def _state(self, call: Call) -> Mapping[str, Held]:
        """What the policy was called with beside the observation, as it was then if the call was looked at closely."""
        if call.before is not None:
            return call.before.state
        given = given_to(self._inner, call) if len(call.args) + len(call.kwargs) > 1 else []
        return {f"input/{each.name}": (each.tensor, None) for each in given if each.role == "state"}

    def _recall(self, glance: Glance) -> list[Call]:
        """Make a call of what was glanced at, as far as one that was looked at closely has told what to make of it."""
        args, kwargs, result = glance
        batched = self._verdict(args, kwargs) if self._versions else None
        tensors = output_tensors(result) if batched is not None else []
        if batched is None or len(tensors) != len(self._versions):
            return []
        outputs = {
            name: (tensor, version)
            for name, tensor, version in zip(self._names, tensors, self._versions, strict=True)
            if version is not None and not tensor.is_inference()
        }
        return [Call(args, kwargs, batched, tuple(outputs), list(outputs.values()))]

    # Hooks. What they return would replace the policy's result, so they return nothing.

    def _note(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        if not self._closely:
            self._glance = args, kwargs, result
            self._glances += 1
            return
        self._guard.run(CAPTURING, self._keep, args, kwargs, result)

    def _keep(self, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        before, self._before = self._before, None
        held = self._within.take()
        batched = self._verdict(args, kwargs)
        if batched is None:
            self._note_unlike(args[0] if args else None)
        elif self._must_look_before(args, kwargs) and not (self._at_begin is not None or self._compiled):
            self._see_begin()  # this once it is left out: what it was given may have changed meanwhile
        else:
            names, outputs = self._outputs(result, held)
            self._calls.append(Call(args, kwargs, batched, names, outputs, held, before))

    def _must_look_before(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether what calls are given can be changed in place: a state, or an observation that has been changed."""
        if not self._looks_before:
            self._looks_before = len(args) != 1 or bool(kwargs) or bool(version_of(args[0]))
        return self._looks_before

    def _verdict(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool | None:
        """Whether the observation has a batch axis, None where it is not a single one."""
        first = args[0] if args else None
        shape = getattr(first, "shape", None)
        if shape is not None:  # nearly always
            batched: bool | None = self._verdicts.get(shape, _UNKNOWN)
            if batched is _UNKNOWN:
                batched = self._verdicts[shape] = self._single({"observation": tuple(shape)})
        else:
            inputs = call_inputs(self._inner, *arrays_to_tensors((args, kwargs)))
            given = {each.array: tuple(each.tensor.shape) for each in inputs if each.role == "observation"}
            batched = self._single(given)
        return batched

    def _single(self, given: Shapes) -> bool | None:
        return single_observation(given, self._expected)

    def _of_one(self, result: Any) -> Any:
        """What the policy would have returned for one observation alone."""
        return result

    def _outputs(self, result: Any, held: dict[str, Held]) -> tuple[tuple[str, ...], list[Held]]:
        tensors: Sequence[torch.Tensor]
        if type(result) is tuple and len(result) == len(self._names) and all(map(is_tensor, result)):
            tensors = result  # what output_tensors would return, in a seventh of the time
        else:
            tensors = output_tensors(result)
        if len(tensors) != len(self._names):
            one = self._of_one(result)
            self._names = output_names(one, self._action_space, self._names_given)
            doubt = None if self._names_given else doubts(self._names, output_tensors(one), self._action_space)
            if doubt is not None:
                self._guard.warn_once("output names", doubt)
        if self._within.searching:
            latent = self._within.find_latent(self._head_output(tensors))
            if latent is not None:
                held["latent"] = latent
        outputs = [self._holding.hold(name, tensor) for name, tensor in zip(self._names, tensors, strict=True)]
        self._versions = tuple([version for _, version in outputs])
        return self._names, outputs

    def _begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self._closely:
            return
        self._within.begin()
        self._before = self._guard.run("looking into the policy", self._opened, args, kwargs)

    def _opened(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Before | None:
        if self._verdict(args, kwargs) is None:
            return None
        self._within.search()
        state: dict[str, Held] = {}
        if len(args) + len(kwargs) > 1:  # agents may empty a state in place when an episode ends
            given = call_inputs(self._inner, *arrays_to_tensors((args, kwargs)))
            arrays = {f"input/{each.name}": each.tensor for each in given if each.role == "state"}
            state = {name: self._holding.hold(name, tensor) for name, tensor in arrays.items()}
        return Before(version_of(args[0] if args else None), state)

    def _head_output(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor | None:
        if "latent" in self._names:
            return None
        index = next((self._names.index(name) for name in HEADS if name in self._names), 0)
        return tensors[index]

    def _note_unlike(self, first: Any) -> None:
        self._calls_unlike += 1
        shape: Shape = tuple(getattr(first, "shape", ()))
        returned = self._expected.get("observation")
        if self._strange is None and returned is not None and strange(shape, returned):
            self._strange = told(shape, returned, shown=False)
        if self._calls_unlike == PATIENCE and not self._names:
            given, expected = tuple(getattr(first, "shape", ())), dict(self._expected)
            self._guard.warn_once(
                "matching",
                f"the policy has been called {PATIENCE} times, but never with one observation of the environment "
                f"{expected}; the last call had {given}: there is nothing to show of it",
            )
