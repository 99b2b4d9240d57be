"""Moments, as several commands ask for them: which, and what counts as one, in the words of the Python interface."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from agentwrap_viewer.launch import LaunchError

from .arguments import need

if TYPE_CHECKING:
    from agentwrap_viewer.recording import Recording
    from agentwrap_viewer.recording.moments import Criteria, Moment

#: Options that say what a moment is, and those of action flips alone; each bears the name that it has in Python.
CRITERIA: dict[str, tuple[type, str]] = {
    "threshold": (float, "least modified z-score of value drops, entropy peaks, TD errors (default: 3.5)"),
    "gamma": (float, "discount of TD errors (default: 0.99)"),
    "over": (int, "steps over which a value drop is measured (default: 5)"),
    "apart": (int, "least steps between two moments of a kind (default: 15)"),
    "most": (int, "most moments of a kind (default: 100)"),
}
NOISE: dict[str, tuple[type, str]] = {
    "sigma": (float, "noise that may flip an action, as a share of the observation's range (default: 0.01)"),
    "samples": (int, "draws of the noise (default: 16)"),
    "share": (float, "least share of the draws that change the action (default: 0.25)"),
}


def add_criteria(parser: argparse.ArgumentParser) -> None:
    """Add what counts as a moment."""
    group = parser.add_argument_group("what counts as a moment")
    for name, (kind, help) in (CRITERIA | NOISE).items():
        group.add_argument(f"--{name}", type=kind, metavar="X" if kind is float else "N", help=help)


def kinds_of(text: str) -> list[str]:
    """Return the kinds in a list such as ``td_error,bookmark``."""
    return [kind for kind in text.split(",") if kind]


def moments_of(recording: Recording, among: range, arguments: argparse.Namespace) -> list[Moment]:
    """Return the moments that ``--moments`` asks for; action flips, for which the policy is run, only where named.

    Args:
        recording: The recording.
        among: The steps in question; action flips are looked for among these alone.
        arguments: What ``add_criteria`` has added, and ``moments``.

    Raises:
        LaunchError: There is no such kind, or a value is out of range.
        RecordingError: The recording has no policy to run.
    """
    from agentwrap_viewer.recording import moments

    wanted, criteria, noise = kinds_of(arguments.moments), criteria_of(arguments), noise_of(arguments)
    others = [kind for kind in wanted if kind not in ("bookmark", "action_flip")]
    try:
        found = moments.find(recording, others if wanted else None, criteria)
    except ValueError as error:
        raise LaunchError(f"{error}, action_flip, bookmark") from error
    if "action_flip" in wanted:
        need(("torch",))
        from agentwrap_viewer.recording import flips

        found += flips.find(recording, among, criteria=criteria, **noise)
    return sorted((each for each in found if each.index in among), key=lambda each: (each.index, each.kind))


def criteria_of(arguments: argparse.Namespace) -> Criteria:
    """Return what counts as a moment.

    Raises:
        LaunchError: A value is out of range.
    """
    from agentwrap_viewer.recording.moments import Criteria

    try:
        return dataclasses.replace(Criteria(), **_given(arguments, CRITERIA))
    except ValueError as error:
        raise LaunchError(f"--{error}") from error


def noise_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options of ``flips.find`` that were given.

    Raises:
        LaunchError: A value is out of range.
    """
    given = _given(arguments, NOISE)
    if given.get("sigma", 1) <= 0 or given.get("samples", 1) < 1 or not 0 < given.get("share", 1) <= 1:
        raise LaunchError("--sigma has to be above 0, --samples 1 at least, and --share above 0 and 1 at most")
    return given


def _given(arguments: argparse.Namespace, names: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}
