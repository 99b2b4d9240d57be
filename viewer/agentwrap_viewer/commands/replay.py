"""``agentwrap replay run.mcap``: the page over a recording, with a timeline."""

from __future__ import annotations

import argparse
from pathlib import Path

from agentwrap_viewer.launch import LaunchError

from .arguments import VIEWER_NEEDS, add_explaining, add_follow, add_page, add_recording, example, need
from .errors import NEEDED
from .moments import add_criteria, criteria_of, kinds_of, noise_of

HELP = "look at a recording"

DESCRIPTION = (
    "Serve the page over a recording: play it, step through it, go anywhere on its timeline. Maps are computed as one "
    "looks, each with the policy that made the step."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``agentwrap replay``."""
    add_recording(parser)
    parser.add_argument("--maps", metavar="MAPS", help="maps that agentwrap explain made of it")
    add_follow(parser)
    parser.add_argument("--moments", metavar="KINDS", help="mark these alone, e.g. td_error,action_flip (default: all)")
    add_criteria(parser)
    add_page(parser)
    add_explaining(parser, method="saliency method to begin with (default: that of MAPS, or the one that suits)")


def run(arguments: argparse.Namespace) -> int:
    """Run ``agentwrap replay`` until Ctrl-C or SIGTERM; returns the exit status.

    Raises:
        LaunchError: A package is missing, a file is not what it has to be, or the port is taken.
    """
    need(VIEWER_NEEDS, who="the viewer")
    need(NEEDED)
    from agentwrap_viewer.recording import RecordingError
    from agentwrap_viewer.replay.marked import Wanted
    from agentwrap_viewer.replay.show import replay
    from agentwrap_viewer.replay.store import CannotReplay

    kinds = None if arguments.moments is None else kinds_of(arguments.moments)
    criteria, noise = criteria_of(arguments), noise_of(arguments)
    try:
        wanted = Wanted(kinds, criteria, noise)
    except ValueError as error:
        raise LaunchError(str(error)) from error
    try:
        replay(
            arguments.recording or example(),
            maps=Path(arguments.maps) if arguments.maps is not None else None,
            follow=arguments.follow,
            port=arguments.port,
            open_browser=not arguments.no_browser,
            device=arguments.device,
            method=arguments.method,
            target=arguments.target,
            budget_ms=arguments.budget_ms,
            moments=wanted,
            on_ready=lambda address: print(f"agentwrap replay: {address}  (Ctrl-C ends it)", flush=True),
        )
    except (RecordingError, CannotReplay) as error:
        raise LaunchError(str(error)) from error
    return 0
