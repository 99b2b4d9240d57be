"""``agentwrap compare run.mcap``: two policies on the same recorded steps, side by side."""

from __future__ import annotations

import argparse

from agentwrap_viewer.launch import LaunchError

from .arguments import VIEWER_NEEDS, add_explaining, add_follow, add_page, add_recording, example, need
from .errors import NEEDED

HELP = "compare two policies on a recording"

DESCRIPTION = (
    "Serve a page over a recording that explains each step with two policies, side by side: their maps, the maps' "
    "difference, what each computes and would do. Steps on which they disagree are marked on the timeline (keys n, p)."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``agentwrap compare``."""
    add_recording(parser)
    parser.add_argument(
        "--policies", metavar="WEIGHTS", nargs="+", default=(), help="safetensors files of the recorded architecture"
    )
    parser.add_argument(
        "--versions",
        metavar="V",
        nargs="+",
        type=int,
        default=(),
        help="versions of the recorded policy, shown on the left (default: the first and the last one)",
    )
    add_follow(parser)
    add_page(parser)
    add_explaining(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run ``agentwrap compare`` until Ctrl-C or SIGTERM; returns the exit status.

    Raises:
        LaunchError: A package is missing, a file is not what it has to be, or the port is taken.
    """
    need(VIEWER_NEEDS, who="the viewer")
    need((*NEEDED, "safetensors"))
    from agentwrap_viewer.recording import RecordingError
    from agentwrap_viewer.replay.compare import compare
    from agentwrap_viewer.replay.store import CannotReplay

    try:
        compare(
            arguments.recording or example(),
            policies=arguments.policies,
            versions=arguments.versions,
            follow=arguments.follow,
            port=arguments.port,
            open_browser=not arguments.no_browser,
            device=arguments.device,
            method=arguments.method,
            target=arguments.target,
            budget_ms=arguments.budget_ms,
            on_ready=lambda address: print(f"agentwrap compare: {address}  (Ctrl-C ends it)", flush=True),
        )
    except (RecordingError, CannotReplay) as error:
        raise LaunchError(str(error)) from error
    return 0
