"""A policy of which nothing is known but that it can be called: what it computes for many observations at once.

A policy that cannot be exported is called in the agent's process for whoever asks (``probing.py``). Here is how a plain
callable is called: a function of NumPy arrays or JAX's, or of a service far away. It is found out by trying whether it
takes a batch, and what it returns. ``module_box.py`` does the same for PyTorch's modules.
"""

from __future__ import annotations

import contextlib
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from agentwrap_export.arrays import tensor_to_array
from agentwrap_export.random_states import kept_random_states
from agentwrap_protocol.graph import Input

from .arrays import Array
from .errors import PolicyTypeError
from .outputs import action_size, name_leaves

#: Most rows that a policy is given at a time, for others.
MOST_ROWS = 512

#: Differences that count as none, as a share of the largest number.
SAME = 1e-4

ACCEPTED = (
    "logits, Q-values or action means as an array; a tuple of arrays such as (logits, value); or a dict of named arrays"
)

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_./]")


class BlackBox(Protocol):
    """Computes a policy's outputs for a batch of observations. To be called in the agent's thread alone.

    Attributes:
        inputs: What it takes, each with its batch axis as -1.
        outputs: What it gives.
        most_rows: Most rows that it computes at a time; 1 where it takes one observation at a time.
    """

    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    most_rows: int

    def __call__(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the outputs, rows first, for arrays by input name, rows first.

        Raises:
            Exception: Whatever the policy raises.
        """


class CallableBox:
    """A plain callable.

    Args:
        policy: Called with an observation as the environment's space has it, with or without a batch axis.
        observation: An observation, by array name: ``observation`` or ``observation/<key>``.
        observation_space: The environment's.
        action_space: The environment's, for the names of outputs.
        names: Names of outputs to use instead.

    Raises:
        PolicyTypeError: It returns what is no policy's, or something else each time, or something else for the same
            observation in floats; the text says what.
        Exception: Whatever the policy raises.
    """

    def __init__(
        self,
        policy: Callable[[Any], Any],
        observation: Mapping[str, Array],
        *,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        names: Sequence[str] | str | None = None,
    ) -> None:
        self._policy, self._space = policy, observation_space
        self._arrays = {_input_name(array): array for array in observation}
        self._integers: dict[str, np.dtype[Any]] = {}  # of inputs in whose place floats mean nothing
        self.most_rows = 1
        row = {name: observation[array] for name, array in self._arrays.items()}
        with _undisturbed():
            self._own_axis, leaves = self._find_form(row, action_space, names)
            self._names = name_leaves([(own, leaf.shape) for own, leaf in leaves], action_space, names)
            self._shapes = tuple(leaf.shape for _, leaf in leaves)
            self._shared = frozenset[str]()
            self._check(row)
            self._try_batch(row)
        self.outputs = self._names
        self.inputs = tuple(
            Input(name=name, array=self._arrays[name], dtype=array.dtype.name, shape=(-1, *array.shape))
            for name, array in row.items()
        )

    def __call__(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the outputs, rows first."""
        rows = len(next(iter(arrays.values())))
        arrays = {
            name: np.rint(array).astype(self._integers[name]) if name in self._integers else array
            for name, array in arrays.items()
        }
        with _undisturbed():
            if self.most_rows > 1 and rows > 1:
                return self._whole(arrays, rows)
            single = [self._one({name: array[row] for name, array in arrays.items()}) for row in range(rows)]
        return {name: np.stack([outputs[name] for outputs in single]) for name in self.outputs}

    # How it is called.

    def _find_form(
        self, row: Mapping[str, Array], action_space: gym.Space[Any], names: Sequence[str] | str | None
    ) -> tuple[bool, list[tuple[str, Array]]]:
        """Return whether a single observation is given a batch axis, and what the policy returns then."""
        problem: Exception | None = None
        for own_axis in (False, True):
            try:
                leaves = self._leaves({name: array[None] if own_axis else array for name, array in row.items()})
            except PolicyTypeError:
                raise
            except Exception as error:  # of one observation without a batch axis, perhaps; the first says more
                problem = problem or error
                continue
            if own_axis:
                leaves = [(own, leaf[0] if leaf.shape[:1] == (1,) else leaf) for own, leaf in leaves]
            if names is not None or _plausible(leaves, action_space):
                return own_axis, leaves
            problem = problem or PolicyTypeError(_not_outputs(leaves, action_space))
        assert problem is not None
        raise problem

    def _leaves(self, arrays: Mapping[str, Array]) -> list[tuple[str, Array]]:
        observation = _assembled(self._space, "observation", {self._arrays[n]: a for n, a in arrays.items()})
        return list(named_arrays(self._policy(observation)))

    def _one(self, row: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs for one observation, without batch axis."""
        leaves = self._leaves({name: array[None] if self._own_axis else array for name, array in row.items()})
        return {
            name: self._reshaped(name, leaf, shape)
            for name, (_, leaf), shape in zip(self._names, self._counted(leaves), self._shapes, strict=True)
        }

    def _whole(self, arrays: Mapping[str, Array], rows: int) -> dict[str, Array]:
        """The outputs for a batch, in one call."""
        found = {}
        for name, (_, leaf), shape in zip(self._names, self._counted(self._leaves(arrays)), self._shapes, strict=True):
            batch = np.broadcast_to(leaf, (rows, *shape)) if name in self._shared else leaf
            found[name] = self._reshaped(name, batch, (rows, *shape))
        return found

    def _counted(self, leaves: list[tuple[str, Array]]) -> list[tuple[str, Array]]:
        if len(leaves) != len(self._names):
            raise PolicyTypeError(f"the policy returned {len(leaves)} arrays, {len(self._names)} before")
        return leaves

    def _reshaped(self, name: str, leaf: Array, shape: tuple[int, ...]) -> Array:
        if leaf.size != math.prod(shape):
            raise PolicyTypeError(f"the policy's {name} has shape {leaf.shape}, where {shape} was expected")
        return leaf.reshape(shape)

    # What is tried before anything is believed.

    def _check(self, row: Mapping[str, Array]) -> None:
        first = self._one(row)
        if not _same(first, self._one(row)):
            raise PolicyTypeError(
                "the policy computes something else each time for one observation: it draws random numbers or keeps a "
                "state; give a function of the observation alone"
            )
        for name, array in row.items():
            if array.dtype.kind in "iu" and (_counts(array) or not self._takes_floats(row, name)):
                self._integers[name] = array.dtype
        floats = {name: array if name in self._integers else array.astype(np.float32) for name, array in row.items()}
        if any(array.dtype != np.float32 for array in row.values()) and not _same(first, self._one(floats)):
            raise PolicyTypeError(
                "the policy computes something else from float32 observations than from the environment's of the same "
                "values; perturbed ones are float32: let the policy convert and scale them whatever the dtype"
            )

    def _takes_floats(self, row: Mapping[str, Array], name: str) -> bool:
        """Whether the policy makes something of floats in the place of an input's integers: a table does not."""
        try:
            self._one({**row, name: row[name].astype(np.float32)})
        except Exception:  # whatever it raises: it takes integers alone, and perturbed observations are rounded
            return False
        return True

    def _try_batch(self, row: Mapping[str, Array]) -> None:
        """Find out whether rows of a batch come out as they do alone, and which outputs have no rows."""
        rows = [{name: _varied(array, index) for name, array in row.items()} for index in range(3)]
        try:
            alone = [self._one(each) for each in rows]
            leaves = self._counted(self._leaves({name: np.stack([each[name] for each in rows]) for name in row}))
        except Exception:  # it does not take a batch
            return
        batch = {name: leaf for name, (_, leaf) in zip(self._names, leaves, strict=True)}
        by_rows = {
            name
            for name, leaf in batch.items()
            if leaf.shape[:1] == (3,)
            and all(_close(leaf[index].reshape(-1), alone[index][name].reshape(-1)) for index in range(3))
        }
        shared = {
            name
            for name, leaf in batch.items()
            if name not in by_rows and all(_close(leaf, each[name]) for each in alone)
        }
        if by_rows | shared == set(batch) and by_rows:
            self._shared, self.most_rows = frozenset(shared), MOST_ROWS


def named_arrays(result: Any, own: str = "") -> Iterator[tuple[str, Array]]:
    """Yield the arrays in what a policy returned, each with the name that the result itself gives it, or ``""``.

    Raises:
        PolicyTypeError: There is something else in it.
    """
    if isinstance(result, Mapping):
        for key, item in result.items():
            yield from named_arrays(item, f"{own}/{key}" if own else str(key))
    elif isinstance(result, tuple | list) and not all(isinstance(item, int | float | np.number) for item in result):
        for index, item in enumerate(result):
            yield from named_arrays(item, f"{own}/{index}" if own else "")
    elif result is not None:
        array = tensor_to_array(result) if hasattr(result, "detach") else np.asarray(result)
        if array.dtype.kind not in "fiub":
            raise PolicyTypeError(f"the policy returned {type(result).__name__}; accepted are {ACCEPTED}")
        yield own, array


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Leave random states as they are, and record no gradients."""
    torch = sys.modules.get("torch")
    with kept_random_states(), contextlib.nullcontext() if torch is None else torch.no_grad():
        yield


def _input_name(array: str) -> str:
    return _NOT_IN_NAMES.sub("_", array)[:250]


def _assembled(space: gym.Space[Any], name: str, arrays: Mapping[str, Array]) -> Any:
    """Put an observation together from its arrays."""
    if isinstance(space, gym.spaces.Dict):
        return {key: _assembled(entry, f"{name}/{key}", arrays) for key, entry in space.spaces.items()}
    if isinstance(space, gym.spaces.Tuple):
        if name in arrays:  # of numbers alone, which travel as one array
            return tuple(_number(entry, arrays[name][..., index]) for index, entry in enumerate(space.spaces))
        return tuple(_assembled(entry, f"{name}/{index}", arrays) for index, entry in enumerate(space.spaces))
    found = arrays.get(name)
    return found if found is None else _number(space, found)


def _number(space: gym.Space[Any], found: Array) -> Any:
    """Return a number as its space has it, no array: a policy may look it up in a dict."""
    if not isinstance(space, gym.spaces.Discrete):
        return found
    whole = found if found.dtype.kind in "iu" else np.rint(found).astype(space.dtype)
    return whole[()]


def _plausible(leaves: list[tuple[str, Array]], action_space: gym.Space[Any]) -> bool:
    """Whether one of the arrays, if they have no names, has a number for each action."""
    actions = action_size(action_space)
    return bool(leaves) and (actions is None or any(own or leaf.size == actions for own, leaf in leaves))


def _not_outputs(leaves: list[tuple[str, Array]], action_space: gym.Space[Any]) -> str:
    sizes = ", ".join(_sized(leaf) for _, leaf in leaves) or "nothing"
    return (
        f"the policy returned {sizes} for one observation, but {action_space} takes {action_size(action_space)} "
        f"numbers; accepted are {ACCEPTED}, rather than the action chosen: give the function that computes these, or "
        "say what it is with outputs="
    )


def _sized(leaf: Array) -> str:
    return f"an array of shape {leaf.shape}" if leaf.shape else "a single number"


def _counts(array: Array) -> bool:
    """Whether integers may count something out: those of a vector that have more than a byte, and any that is alone."""
    return array.dtype.kind in "iu" and (array.ndim == 0 or (array.ndim == 1 and array.itemsize > 1))


def _varied(array: Array, index: int) -> Array:
    """An observation as plausible: its elements moved along, or what is counted out counted back."""
    if _counts(array):
        return np.where(array > index, array - index, array)
    return np.roll(array.reshape(-1), index).reshape(array.shape).copy()


def _same(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    return one.keys() == other.keys() and all(_close(one[name], other[name]) for name in one)


def _close(one: Array, other: Array) -> bool:
    if one.shape != other.shape:
        return False
    scale = max(1.0, float(np.abs(other[np.isfinite(other)]).max(initial=0.0)))
    return bool(np.allclose(one, other, rtol=0, atol=SAME * scale, equal_nan=True))
