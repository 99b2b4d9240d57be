"""What several commands ask for in the same words, and the packages that they need."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

#: What the page and its explainer import beside the bare installation, by the name it is imported under.
VIEWER_NEEDS = ("panel", "panel_material_ui", "bokeh", "torch", "scipy")

INSTALL = 'pip install "agentwrap-rl[viewer]"'


def add_endpoint(parser: argparse.ArgumentParser) -> None:
    """Add the agent's endpoint, which may be left out."""
    parser.add_argument(
        "endpoint",
        nargs="?",
        metavar="ENDPOINT",
        default=os.environ.get("AGENTWRAP_ENDPOINT") or None,
        help="where the agent streams, e.g. tcp://127.0.0.1:5590 (default: AGENTWRAP_ENDPOINT, else the newest stream)",
    )


def add_recording(parser: argparse.ArgumentParser) -> None:
    """Add the recording, which may be left out to look at the example."""
    help = "the recording (default: an example, a novice and an expert of Enduro)"
    parser.add_argument("recording", nargs="?", type=Path, metavar="FILE", help=help)


def example() -> Path:
    """Return the recording that is installed along: inside the package ``agentwrap``, in a checkout in ``examples``.

    Raises:
        LaunchError: It is not there.
    """
    import importlib.util

    from agentwrap_viewer.launch import LaunchError

    found = importlib.util.find_spec("agentwrap")
    package = Path(found.origin).parent if found is not None and found.origin is not None else Path()
    for path in (package / "enduro.mcap", package.parent / "examples" / "enduro.mcap"):
        if path.is_file():
            return path
    raise LaunchError("the example is not installed here: name a recording")


def add_follow(parser: argparse.ArgumentParser) -> None:
    """Add whether the page grows with the recording."""
    parser.add_argument("--follow", action="store_true", help="show also what is being written to it (End goes there)")


def add_page(parser: argparse.ArgumentParser) -> None:
    """Add where the page is served."""
    parser.add_argument("--port", type=port, metavar="P", help="port of the page (default: the first free from 5006)")
    parser.add_argument("--no-browser", action="store_true", help="do not open the page in the browser")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add where maps are computed."""
    parser.add_argument("--device", default="auto", help="where maps are computed: cpu, cuda, mps or auto (default)")


def add_explaining(
    parser: argparse.ArgumentParser,
    *,
    method: str = "saliency method to begin with",
    budget: str = "time to spend on one step while others follow",
) -> None:
    """Add where maps are computed, by which method, and for how long; ``method`` and ``budget`` say so for people."""
    add_device(parser)
    parser.add_argument("--method", help=method)
    add_target(parser)
    parser.add_argument("--budget-ms", type=float, metavar="MS", help=budget)


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add what of the policy is explained."""
    parser.add_argument(
        "--target",
        help="what is explained: actor, critic, chosen, choice:I, an action's name or index; of continuous actions an "
        "index is a dimension of the mean (default: what the method explains of itself, mostly actor and critic)",
    )


def port(text: str) -> int:
    """Read a port number, for argparse."""
    number = int(text)
    if not 0 <= number <= 65_535:
        raise argparse.ArgumentTypeError(f"{number} is not a port; ports are 0 to 65535")
    return number


def need(packages: Sequence[str], install: str = INSTALL, *, who: str = "this") -> None:
    """Check that packages are installed; ``install`` installs them, ``who`` needs them.

    Raises:
        LaunchError: One is missing; the text contains the command that installs it.
    """
    import importlib.util

    from agentwrap_viewer.launch import LaunchError

    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise LaunchError(f"{who} needs {', '.join(missing)}: run `{install}`")
