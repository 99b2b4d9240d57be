"""A policy that runs in the agent's process and is asked for its outputs there (SPEC, ``probe``)."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import torch

from agentwrap_protocol import GraphError
from agentwrap_protocol.graph import Input
from agentwrap_protocol.messages import MAX_PROBE_BYTES, ProbeInfo, Reply
from agentwrap_viewer.saliency import SaliencyError, Unanswered

Arrays = Mapping[str, np.ndarray[Any, Any]]

#: Bytes of observations in one request: they lie in the agent's memory until it has answered.
REQUEST_BYTES = min(2**23, MAX_PROBE_BYTES)

#: Answers kept: an explanation that begins asks several things, and again from the start until all are answered.
ANSWERS = 32

#: Seconds after which a question is asked again: its answer may have been lost with a connection.
PATIENCE = 10.0


@dataclass
class _Question:
    digest: bytes
    arrays: Arrays
    request: int | None = None
    since: float = 0.0


class ProbedPolicy:
    """A graph policy for ``saliency``, of which nothing but inputs and outputs is known here.

    A call raises ``Unanswered`` and lines up a question; when its answer has been taken, the same call returns it. So
    what is explained goes on where it was, and nobody waits meanwhile. One question is open at a time.

    Attributes:
        graph: Inputs and outputs.
        device: Where outputs are.
    """

    device = "cpu"

    def __init__(self, info: ProbeInfo) -> None:
        """Ask as ``info`` says."""
        self.graph = info
        self._question: _Question | None = None
        self._answers: OrderedDict[bytes, Arrays | SaliencyError] = OrderedDict()

    @property
    def rows(self) -> int:
        """Observations to ask for at a time."""
        size = sum(_numbers(given) for given in self.graph.inputs)
        return max(1, min(self.graph.rows, REQUEST_BYTES // (4 * max(size, 1))))

    @property
    def waiting(self) -> bool:
        """Whether an answer is awaited."""
        return self._question is not None

    def __call__(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the outputs.

        Raises:
            Unanswered: They have been asked for.
            SaliencyError: The agent has refused.
        """
        arrays = self._arranged(inputs)
        digest = _digest(arrays)
        answer = self._answers.get(digest)
        if isinstance(answer, SaliencyError):
            del self._answers[digest]  # who tries again may have better luck
            raise answer
        if answer is not None:
            self._answers.move_to_end(digest)
            return {name: torch.from_numpy(np.array(array)) for name, array in answer.items()}
        if self._question is None or self._question.digest != digest:
            self._question = _Question(digest, arrays)
        raise Unanswered("the agent has not answered yet")

    def inputs_from_step(self, arrays: Arrays) -> dict[str, torch.Tensor]:
        """Return the inputs for the one observation of a step, with a batch axis of length 1.

        Raises:
            GraphError: An array is missing or has another shape; the text names it.
        """
        inputs = {}
        for given in self.graph.inputs:
            name = f"input/{given.name}" if f"input/{given.name}" in arrays else given.array
            if name not in arrays:
                raise GraphError(f"input {given.name!r} needs array {name!r}, which the step does not have")
            array, shape = np.array(arrays[name]), given.shape[1:]
            if array.shape not in (shape, (1, *shape)):
                raise GraphError(f"array {name!r} has shape {array.shape}, input {given.name!r} takes {shape}")
            inputs[given.name] = torch.from_numpy(array.reshape(1, *shape))
        return inputs

    def forget(self) -> None:
        """Forget all answers, and await none: the policy has changed."""
        self._answers.clear()
        self._question = None

    # Who has a socket asks and answers.

    def question(self, now: float) -> Arrays | None:
        """Return what to ask now, None where there is nothing new to ask; ``asked`` says which request it became."""
        question = self._question
        if question is None or (question.request is not None and now - question.since < PATIENCE):
            return None
        question.since = now
        return question.arrays

    def asked(self, request: int) -> None:
        """The question has become the request of this number."""
        if self._question is not None:
            self._question.request = request

    def take(self, reply: Reply) -> None:
        """Take the answer to the question that is open; others are late and ignored."""
        question = self._question
        if question is None or reply.request != question.request:
            return
        self._question = None
        self._answers[question.digest] = self._read(reply, len(next(iter(question.arrays.values()))))
        while len(self._answers) > ANSWERS:
            self._answers.popitem(last=False)

    def _read(self, reply: Reply, rows: int) -> Arrays | SaliencyError:
        if not reply.ok:
            return SaliencyError(reply.problem or "the agent does not say what its policy computes")
        found = {name: reply.arrays.get(f"output/{name}") for name in self.graph.outputs}
        for name, array in found.items():
            if array is None or array.shape[:1] != (rows,) or array.dtype.kind not in "fiu":
                what = "nothing" if array is None else f"{array.dtype} {array.shape}"
                return SaliencyError(f"the agent answered {what} where {rows} rows of {name} were asked for")
        return {name: np.array(array) for name, array in found.items()}  # copies: not the whole message

    def _arranged(self, inputs: Mapping[str, torch.Tensor]) -> Arrays:
        """The inputs as arrays, with as many rows as the longest."""
        tensors = {given.name: inputs[given.name] for given in self.graph.inputs}
        rows = max(len(tensor) for tensor in tensors.values())
        return {
            name: np.ascontiguousarray(tensor.expand(rows, *tensor.shape[1:]).cpu().numpy(), dtype=np.float32)
            for name, tensor in tensors.items()
        }


def same(one: ProbeInfo | None, other: ProbeInfo | None) -> bool:
    """Whether two agents want to be asked alike."""
    return msgspec.msgpack.encode(one) == msgspec.msgpack.encode(other)


def _numbers(given: Input) -> int:
    return int(np.prod([length for length in given.shape if length != -1], dtype=int))


def _digest(arrays: Arrays) -> bytes:
    digest = hashlib.blake2b()
    for name, array in arrays.items():
        digest.update(f"{name} {array.shape} ".encode())
        digest.update(array.data)
    return digest.digest()
