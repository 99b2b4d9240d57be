"""``agentwrap export run.mcap --format …``: tables, arrays, datasets, films of the frames with their maps."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from agentwrap_viewer.launch import LaunchError

from .arguments import need
from .errors import check_place, reading
from .explain import STEPS_HELP, add_method, chosen, steps, write_maps
from .moments import add_criteria, kinds_of, moments_of
from .workers import add_workers

if TYPE_CHECKING:
    from agentwrap_viewer.recording import Recording

HELP = "export a recording as a table, arrays, a film or a page"

DESCRIPTION = (
    "csv and parquet hold one row for each step, with its fields and small arrays; npz and zarr hold all arrays; mp4 "
    "and gif show the frames, html plays them on a page of its own that needs no network: with --maps under the maps "
    "that agentwrap explain has computed, with --method or --target under maps that are computed now. foxglove is an "
    "MCAP file with the frames as pictures that Foxglove shows, minari a directory with the episodes as a Minari "
    "dataset."
)

#: What each format needs beside the viewer, and what installs it.
FORMATS: dict[str, tuple[str, ...]] = {
    "csv": (),
    "parquet": ("pyarrow",),
    "npz": (),
    "zarr": ("zarr",),
    "mp4": ("av",),
    "gif": ("PIL",),
    "html": ("PIL", "panel"),
    "foxglove": ("PIL",),
    "minari": ("minari", "h5py"),
}
#: What files are called that are not called after their format.
SUFFIXES = {"foxglove": "foxglove.mcap"}
#: Formats that show maps.
SHOWN = ("npz", "zarr", "mp4", "gif", "html", "foxglove")
INSTALL = 'pip install "agentwrap-rl[viewer,export]"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``agentwrap export``."""
    parser.add_argument("recording", metavar="FILE", help="the recording")
    parser.add_argument("--format", choices=FORMATS, help="what to make (default: by the name given with --out)")
    parser.add_argument("--out", metavar="OUT", help="the file to write (default: beside the recording)")
    parser.add_argument("--steps", type=steps, metavar="A:B:N", help=STEPS_HELP)
    parser.add_argument("--episode", type=int, metavar="E", help="the steps of one episode")
    parser.add_argument("--maps", metavar="MAPS", help=f"maps of this recording, for {', '.join(SHOWN)}")
    add_method(parser, "compute maps by this method, where there is no --maps")
    add_workers(parser)
    parser.add_argument(
        "--moments",
        nargs="?",
        const="",
        metavar="KINDS",
        help="a clip of each moment into the directory OUT: of all, or of kinds such as td_error,bookmark; "
        "action_flip, which runs the policy, only where it is named",
    )
    parser.add_argument(
        "--around", type=int, default=30, metavar="N", help="steps before and after a moment (default: 30)"
    )
    add_criteria(parser)
    parser.add_argument("--fps", type=float, default=30.0, help="frames per second of a film (default: 30)")
    parser.add_argument("--height", type=int, default=420, help="least height of a film in pixels (default: 420)")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if there is one")


def run(arguments: argparse.Namespace) -> int:
    """Export; returns the exit status.

    Raises:
        LaunchError: A package is missing, the recording lacks what is asked for, or the file cannot be written.
    """
    form = "gif" if arguments.moments is not None and not arguments.format else _format(arguments.format, arguments.out)
    need(FORMATS[form], INSTALL)
    if arguments.maps is not None and (arguments.method is not None or arguments.target is not None):
        raise LaunchError("--maps names maps that are there, --method and --target compute some: give one of the two")
    suffix = SUFFIXES.get(form, form)
    with reading(arguments.recording) as recording:
        indices = chosen(recording, arguments.steps, arguments.episode)
        if arguments.moments is not None:
            out = Path(arguments.out or Path(arguments.recording).with_suffix(".moments"))
            clips = _clips(recording, indices, arguments)
            _make_directory(out)
            files = [(part, out / f"{name}.{suffix}") for name, part in clips.items()]
        else:
            out = Path(arguments.out or Path(arguments.recording).with_suffix(f".{suffix}"))
            files = [(indices, out)]
        for _, file in files:
            check_place(file)
            if file.exists() and not arguments.overwrite:
                raise LaunchError(f"{file} exists already: choose another name with --out, or pass --overwrite")
        with _maps(recording, [part for part, _ in files], out, arguments) as maps:
            written = sum(_write(form, recording, maps, part, file, arguments) for part, file in files)
            _say_what_has_no_map(recording, maps, [part for part, _ in files])
            _say_what_is_not_shown(form, maps)
    if arguments.moments is not None:
        print(f"agentwrap export: {len(files):,} clips are in {out}", flush=True)
    else:
        print(f"agentwrap export: {written:,} steps are in {out}, {_size(out):,} bytes", flush=True)
    return 0


def _write(
    form: str, recording: Recording, maps: Recording | None, indices: range, out: Path, arguments: argparse.Namespace
) -> int:
    part = out.with_name(f"{out.name}.part")  # nobody takes half a file for a whole one
    try:
        _remove(part)
        written = _export(form, recording, maps, indices, part, arguments)
        if out.is_dir():
            _remove(out)
        os.replace(part, out)
    except OSError as error:
        raise LaunchError(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        _remove(part)
    return written


def _say_what_has_no_map(recording: Recording, maps: Recording | None, parts: list[range]) -> None:
    if maps is None:
        return
    indices, steps, explained = {index for part in parts for index in part}, recording.array("step"), maps.explained
    with_map = sum(int(steps[index]) in explained for index in indices)
    if with_map < len(indices):
        print(f"agentwrap export: {maps.path} has maps of {with_map:,} of these {len(indices):,} steps", flush=True)


def _say_what_is_not_shown(form: str, maps: Recording | None) -> None:
    from agentwrap_viewer.recording.films import has_features

    if form == "foxglove" and has_features(maps):
        print(
            "agentwrap export: foxglove has maps of pictures alone; html, gif, mp4, npz and zarr have features' scores"
        )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LaunchError(f"{path} cannot be made: {error.strerror or error}") from error


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*")) if path.is_dir() else path.stat().st_size


def _clips(recording: Recording, among: range, arguments: argparse.Namespace) -> dict[str, range]:
    """The steps around each moment that is among those chosen, within its episode, by the clip's name."""
    found = [(moment.index, moment.kind) for moment in moments_of(recording, among, arguments)]
    wanted = kinds_of(arguments.moments)
    if not wanted or "bookmark" in wanted:
        found += [(recording.index_of(each.step), "bookmark") for each in recording.bookmarks.all]
    clips = {}
    for index, kind in sorted(found):
        if index not in among:
            continue
        episode = next(each for each in recording.episodes if each.start <= index < each.stop)
        begin, end = max(index - arguments.around, episode.start), min(index + arguments.around + 1, episode.stop)
        clips[f"{recording.steps[index].step:06d}-{kind}"] = range(begin, end)
    if not clips:
        raise LaunchError(f"no such moments were found in {recording.path}")
    return clips


@contextmanager
def _maps(
    recording: Recording, parts: list[range], out: Path, arguments: argparse.Namespace
) -> Iterator[Recording | None]:
    """The maps given, or those that are computed for the time being."""
    if arguments.maps is not None:
        with reading(arguments.maps) as maps:
            _check_maps(recording, maps)
            yield maps
    elif arguments.method is not None or arguments.target is not None:
        with tempfile.TemporaryDirectory(prefix="agentwrap-") as directory:
            path = Path(directory) / "maps.mcap"
            write_maps(recording, sorted({index for part in parts for index in part}), path, arguments)
            with reading(str(path)) as maps:
                yield maps
    else:
        yield None


def _format(given: str | None, out: str | None) -> str:
    form = given or (Path(out).suffix.lower().lstrip(".") if out else "")
    if form not in FORMATS:
        which = f"no format {form!r}" if form else "no format was given, nor a file with --out whose name says it"
        raise LaunchError(f"{which}: name one with --format: {', '.join(FORMATS)}")
    return form


def _check_maps(recording: Recording, maps: Recording) -> None:
    if maps.metadata.get("stream") != recording.metadata.get("stream"):
        raise LaunchError(f"{maps.path} holds maps of another recording than {recording.path}")


def _export(
    form: str,
    recording: Recording,
    maps: Recording | None,
    indices: range,
    out: Path,
    arguments: argparse.Namespace,
) -> int:
    """Write the file; returns how many steps it has."""
    from agentwrap_viewer.recording import films, tables

    match form:
        case "csv":
            tables.write_csv(recording, indices, out)
        case "parquet":
            tables.write_parquet(recording, indices, out)
        case "npz":
            tables.write_npz(recording, maps, indices, out)
        case "zarr":
            tables.write_zarr(recording, maps, indices, out)
        case "foxglove":
            from agentwrap_viewer.recording.foxglove import write_foxglove

            write_foxglove(recording, maps, indices, out)
        case "minari":
            return _export_minari(recording, indices, out, arguments)
        case "html":
            from agentwrap_viewer.replay.webpage import write_html

            write_html(recording, maps, indices, out, fps=arguments.fps)
        case _:
            write = films.write_mp4 if form == "mp4" else films.write_gif
            write(films.Film(recording, maps, indices), out, fps=arguments.fps, height=arguments.height)
    return len(indices)


def _export_minari(recording: Recording, indices: range, out: Path, arguments: argparse.Namespace) -> int:
    from agentwrap_viewer.recording.minari_dataset import write_minari

    name = "-".join(re.findall(r"[-\w]+", Path(arguments.out or arguments.recording).name.partition(".")[0])) or "run"
    dataset_id = name if re.search(r"-v\d+$", name) else f"{name}-v0"
    written, left_out = write_minari(recording, indices, out, dataset_id=dataset_id)
    for each in left_out:
        print(f"agentwrap export: {each}.", file=sys.stderr, flush=True)
    return written
