"""``agentwrap export run.mcap --format …``: tables of the values, arrays, films of the frames with their maps."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from agentwrap_viewer.launch import LaunchError

from .arguments import need
from .errors import reading
from .explain import chosen, steps

if TYPE_CHECKING:
    from agentwrap_viewer.recording import Recording

HELP = "export a recording as a table, arrays or a film"

DESCRIPTION = (
    "csv and parquet hold one row for each step, with its fields and small arrays; npz holds all arrays; mp4 and gif "
    "show the frames, with --maps under the maps that agentwrap explain has computed."
)

#: What each format needs beside the viewer, and what installs it.
FORMATS: dict[str, tuple[str, ...]] = {"csv": (), "parquet": ("pyarrow",), "npz": (), "mp4": ("av",), "gif": ("PIL",)}
INSTALL = 'pip install "agentwrap-rl[viewer,export]"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``agentwrap export``."""
    parser.add_argument("recording", metavar="FILE", help="the recording")
    parser.add_argument("--format", choices=FORMATS, help="what to make (default: by the name given with --out)")
    parser.add_argument("--out", metavar="OUT", help="the file to write (default: beside the recording)")
    parser.add_argument("--steps", type=steps, metavar="A:B:N", help="from A to B, every Nth (default: all)")
    parser.add_argument("--episode", type=int, metavar="E", help="the steps of one episode")
    parser.add_argument("--maps", metavar="MAPS", help="maps of this recording, for npz, mp4 and gif")
    parser.add_argument("--fps", type=float, default=30.0, help="frames per second of a film (default: 30)")
    parser.add_argument("--height", type=int, default=420, help="least height of a film in pixels (default: 420)")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if there is one")


def run(arguments: argparse.Namespace) -> int:
    """Export; returns the exit status.

    Raises:
        LaunchError: A package is missing, the recording lacks what is asked for, or the file cannot be written.
    """
    form = _format(arguments.format, arguments.out)
    need(FORMATS[form], INSTALL)
    out = Path(arguments.out or Path(arguments.recording).with_suffix(f".{form}"))
    if out.exists() and not arguments.overwrite:
        raise LaunchError(f"{out} exists already: choose another name with --out, or pass --overwrite")
    with reading(arguments.recording) as recording:
        indices = chosen(recording, arguments.steps, arguments.episode)
        if not indices:
            raise LaunchError(f"{recording.path} has no such steps")
        part = out.with_name(f"{out.name}.part")  # nobody takes half a file for a whole one
        try:
            if arguments.maps is None:
                _export(form, recording, None, indices, part, arguments)
            else:
                with reading(arguments.maps) as maps:
                    _check_maps(recording, maps)
                    _export(form, recording, maps, indices, part, arguments)
            os.replace(part, out)
        except OSError as error:
            raise LaunchError(f"{out} cannot be written: {error.strerror or error}") from error
        finally:
            part.unlink(missing_ok=True)
    print(f"agentwrap export: {len(indices):,} steps are in {out}, {out.stat().st_size:,} bytes", flush=True)
    return 0


def _format(given: str | None, out: str | None) -> str:
    form = given or (Path(out).suffix.lower().lstrip(".") if out else "")
    if form not in FORMATS:
        raise LaunchError(f"no format {form!r}: name one with --format: {', '.join(FORMATS)}")
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
) -> None:
    from agentwrap_viewer.recording import films, tables

    match form:
        case "csv":
            tables.write_csv(recording, indices, out)
        case "parquet":
            tables.write_parquet(recording, indices, out)
        case "npz":
            tables.write_npz(recording, maps, indices, out)
        case _:
            pictures = films.pictures(recording, maps, indices, height=arguments.height)
            (films.write_mp4 if form == "mp4" else films.write_gif)(pictures, out, fps=arguments.fps)
