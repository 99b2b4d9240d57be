"""Weights from a safetensors file, for a policy whose computation is known."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open

from agentwrap_protocol.graph import Graph
from agentwrap_protocol.messages import Weights

from .errors import RecordingError

#: Types of elements that are read, by their names in safetensors files.
READ = frozenset({"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F16", "F32", "F64"})

#: Bytes of the largest file that is read: as many as the arrays of a message may have (SPEC section 11).
MOST_BYTES = 2**31

#: What the names of a graph's parameters begin with that come from a module.
PREFIX = "weight/"

#: Names of tensors that an error lists at most.
LISTED = 6


@dataclass(frozen=True)
class FileWeights:
    """Weights that were read.

    Attributes:
        arrays: One for each of the graph's parameters, under its name.
        unused: Names of tensors in the file that the policy's computation does not use.
    """

    arrays: Mapping[str, np.ndarray[Any, Any]]
    unused: tuple[str, ...]


def read_weights(path: Path, graph: Graph) -> FileWeights:
    """Read the weights of a policy from a file.

    Args:
        path: A safetensors file, its tensors named as in the policy's ``state_dict()``.
        graph: The policy's computation; elements are converted to the types that it has for them.

    Raises:
        RecordingError: The file cannot be read, is no safetensors file or too large, or belongs to a policy of another
            architecture: the text names the tensor and both shapes.
    """
    _check_size(path)
    try:
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
            _check_shapes(path, graph, shapes)
            _check_elements(path, {part.get_dtype() for part in slices.values()})
            arrays = {
                each.name: np.asarray(file.get_tensor(each.name.removeprefix(PREFIX)), each.dtype)
                for each in graph.parameters
            }
    except SafetensorError as error:
        raise RecordingError(f"{path} is not a safetensors file: {error}") from error
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror or error}") from error
    unused = sorted(shapes.keys() - {each.name.removeprefix(PREFIX) for each in graph.parameters})
    return FileWeights(arrays, tuple(unused))


def _check_size(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror}") from error
    if path.is_dir():
        raise RecordingError(f"{path} is a directory, not a file of weights")
    if size > MOST_BYTES:
        raise RecordingError(f"{path} has {size:,} bytes; a file of weights may have {MOST_BYTES:,}")


def _check_elements(path: Path, kinds: set[str]) -> None:
    """Refuse elements that NumPy has only where another package has taught it to."""
    if unknown := sorted(kinds - READ):
        raise RecordingError(
            f"{path} holds elements of a type that is not read here, save float32: {', '.join(unknown)}"
        )


def _check_shapes(path: Path, graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> None:
    wanted = {each.name.removeprefix(PREFIX): tuple(each.shape) for each in graph.parameters}
    if missing := sorted(wanted.keys() - shapes.keys()):
        raise RecordingError(
            f"{path} is of another architecture than the recorded policy: it lacks {_listed(missing)}; "
            f"it has {_listed(sorted(shapes))}"
        )
    for name, shape in wanted.items():
        if shapes[name] != shape:
            raise RecordingError(
                f"{path} is of another architecture than the recorded policy: {name} has shape {shapes[name]} there, "
                f"{shape} in the recording"
            )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return (", ".join(names[:LISTED]) or "no tensors") + more


def weights_beside(recording: Path, message: Weights, said: Mapping[str, str], graph: Graph) -> Weights:
    """Return a version of the weights whose tensors lie in a file beside the recording (SPEC section 13).

    Args:
        recording: The recording's file.
        message: What the recording holds of this version: no arrays.
        said: The entries of its record ``agentwrap.weights``.
        graph: The policy's computation.

    Raises:
        RecordingError: The file is not there, is not the one that was meant, or may not be read.
    """
    name = said.get("file", "")
    parts = PurePosixPath(name)
    if not name or parts.is_absolute() or ".." in parts.parts or "\\" in name or ":" in name:
        raise RecordingError(f"{recording} names {name[:200]!r} as a file of weights, which is not below its folder")
    path = recording.resolve().parent / parts
    if not path.exists():
        raise RecordingError(
            f"{recording} has the weights of version {message.policy_version} in a file beside it, which is not there: "
            f"put {parts.name} at {path}"
        )
    _check_size(path)
    if hashlib.sha256(path.read_bytes()).hexdigest() != said.get("sha256"):
        raise RecordingError(
            f"{path} is not the file that version {message.policy_version} of {recording} was made with: it has changed"
        )
    return msgspec.structs.replace(message, arrays=dict(read_weights(path, graph).arrays))
