"""Recordings as tables and arrays. A few thousand steps are in memory at a time, whatever the recording's length."""

from __future__ import annotations

import csv
import itertools
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from agentwrap_protocol.recording_index import FIELDS

from .errors import RecordingError
from .recording import Recording

Array = np.ndarray[Any, Any]

#: Steps read at a time: of scalars, and of whole arrays.
ROWS, ARRAYS = 4096, 64


def columns(recording: Recording, indices: range) -> Iterator[dict[str, Array]]:
    """Yield the columns of a table, some thousand rows at a time: fields of steps, and elements of small arrays.

    An array of several elements becomes one column for each, named ``<array>/<place>``.
    """
    names = [*FIELDS["step"], *(name for name in recording.columns if name not in FIELDS["step"])]
    for rows in _parts(indices, ROWS):
        table: dict[str, Array] = {}
        for name in names:
            values = _taken(recording, name, rows)
            if values.ndim == 1:
                table[name] = values
            else:
                places = itertools.product(*map(range, values.shape[1:]))
                for place, column in zip(places, values.reshape(len(values), -1).T, strict=True):
                    table["/".join(map(str, (name, *place)))] = column
        yield table


def write_csv(recording: Recording, indices: range, path: Path) -> None:
    """Write a table as comma-separated values, floats so that they read back the same.

    Raises:
        RecordingError: The recording lacks a value at some steps.
    """
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for number, table in enumerate(columns(recording, indices)):
            if not number:
                writer.writerow(table)
            writer.writerows(zip(*(column.tolist() for column in table.values()), strict=True))


def write_parquet(recording: Recording, indices: range, path: Path) -> None:
    """Write a table as Parquet; needs pyarrow.

    Raises:
        RecordingError: As ``write_csv``.
    """
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    writer = None
    try:
        for table in columns(recording, indices):
            rows = pyarrow.table({name: np.ascontiguousarray(column) for name, column in table.items()})
            writer = writer or ParquetWriter(path, rows.schema, compression="zstd")
            writer.write_table(rows)
    finally:
        if writer is not None:
            writer.close()


def write_npz(recording: Recording, maps: Recording | None, indices: range, path: Path) -> None:
    """Write all arrays as NumPy's ``npz``: fields of steps, arrays of steps, and of maps as ``maps/<array>``.

    Raises:
        RecordingError: An array does not have the same shape in all steps, or a step has no map.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, read in _arrays(recording, maps, indices):
            _write_array(archive, name, indices, read)


def write_zarr(recording: Recording, maps: Recording | None, indices: range, path: Path) -> None:
    """Write the same arrays as a Zarr group in a directory, chunked along the steps; needs zarr.

    Raises:
        RecordingError: As ``write_npz``.
    """
    import zarr

    group = zarr.open_group(path, mode="w")
    for name, read in _arrays(recording, maps, indices):
        array = None
        for rows in _parts(range(len(indices)), ARRAYS):
            part = read(indices[rows.start : rows.stop])
            if array is None:
                shape = (len(indices), *part.shape[1:])
                array = group.create_array(name, shape=shape, chunks=(len(part), *part.shape[1:]), dtype=part.dtype)
            if part.shape[1:] != array.shape[1:] or part.dtype != array.dtype:
                raise RecordingError(f"{name} does not have the same shape in all steps")
            array[rows.start : rows.stop] = part


def _arrays(
    recording: Recording, maps: Recording | None, indices: range
) -> Iterator[tuple[str, Callable[[range], Array]]]:
    """All arrays by name, each with what reads it for some steps."""
    first = recording.steps[indices[0]]
    for name in [*FIELDS["step"], *(name for name in first.arrays if name != "rewards")]:
        yield name, partial(_taken, recording, name)
    for name in _map_arrays(recording, maps, indices):
        yield f"maps/{name}", partial(_maps, recording, maps, name)


def _write_array(archive: zipfile.ZipFile, name: str, indices: range, read: Callable[[range], Array]) -> None:
    parts = (read(rows) for rows in _parts(indices, ARRAYS))
    first = next(parts)
    header = {"descr": first.dtype.str, "fortran_order": False, "shape": (len(indices), *first.shape[1:])}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_2_0(file, header)
        for part in itertools.chain([first], parts):
            if part.shape[1:] != first.shape[1:] or part.dtype != first.dtype:
                raise RecordingError(f"{name} does not have the same shape in all steps")
            file.write(np.ascontiguousarray(part).tobytes())


def _map_arrays(recording: Recording, maps: Recording | None, indices: range) -> list[str]:
    if maps is None:
        return []
    number = int(recording.array("step", indices[0], indices[0] + 1)[0])
    index = maps.explained.get(number)
    if index is None:
        raise _without_map(recording, maps, number)
    return list(maps.saliency_map(index).arrays)


def _maps(recording: Recording, maps: Recording | None, name: str, rows: range) -> Array:
    assert maps is not None
    explained, found = maps.explained, []
    for number in _taken(recording, "step", rows).tolist():
        if number not in explained:
            raise _without_map(recording, maps, number)
        found.append(maps.saliency_map(explained[number]).arrays[name])
    return np.stack(found)


def _without_map(recording: Recording, maps: Recording, number: int) -> RecordingError:
    """What to say where a map is missing: which steps have one, and what takes those."""
    known = set(maps.explained)
    indices = [index for index, step in enumerate(recording.array("step").tolist()) if step in known]
    said = f"{maps.path} has no map of step {number}, and arrays of maps hold one of each step"
    if not indices:
        return RecordingError(f"{said}: it has none of this recording's steps")
    apart = {after - before for before, after in itertools.pairwise(indices)}
    if len(apart) > 1:
        return RecordingError(
            f"{said}: it has maps of {len(indices):,} steps between {indices[0]:,} and {indices[-1]:,}"
        )
    option = f"{indices[0]}:{indices[-1] + 1}" + (f":{by}" if (by := next(iter(apart), 1)) > 1 else "")
    return RecordingError(f"{said}: --steps {option} takes the {len(indices):,} that have one")


def _parts(indices: range, size: int) -> Iterator[range]:
    for begin in range(0, len(indices), size):
        yield indices[begin : begin + size]


def _taken(recording: Recording, name: str, rows: range) -> Array:
    low, high = min(rows[0], rows[-1]), max(rows[0], rows[-1]) + 1
    if abs(rows.step) > 8 and name not in recording.columns:  # whole steps: read only those that are wanted
        return np.concatenate([recording.array(name, index, index + 1) for index in rows])
    values: Array = recording.array(name, low, high)
    return np.asarray(values[np.array(rows) - low])
