"""The command line: ``agentwrap view``, ``demo``, and the commands on recordings, which have a module each.

Nothing is imported before Ctrl-C can be handled.
"""

from __future__ import annotations

import argparse
import difflib
import os
import select
import sys
from collections.abc import Sequence

from .commands.arguments import VIEWER_NEEDS, add_endpoint, add_explaining, add_page, need


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    It is 0, 1 where the command cannot run, 2 for wrong arguments, 130 for Ctrl-C, 141 where nobody reads what it
    prints.
    """
    try:
        status = _main(argv)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:  # while it starts; once the page is served, Ctrl-C is the way to end it
        return 130
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at the end
        return 141


def _nobody_reads() -> bool:
    """Whether standard output is a pipe of which the other end has been closed, as ``head`` does."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _main(argv: Sequence[str] | None) -> int:
    from .launch import LaunchError

    arguments = _parsed(argv)
    try:
        return int(arguments.run(arguments))
    except LaunchError as error:
        print(f"agentwrap: {error}", file=sys.stderr)
        return 1


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse as ``parse_args`` does, but say of unknown options which of the command's were probably meant."""
    top = parser()
    arguments, unknown = top.parse_known_args(argv)
    if unknown:
        command: argparse.ArgumentParser = arguments.command
        near = difflib.get_close_matches(unknown[0], command._option_string_actions, n=1)
        command.error(f"unrecognized arguments: {' '.join(unknown)}" + (f" (did you mean {near[0]}?)" if near else ""))
    return arguments


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    from . import demo
    from .commands import compare, explain, export, info, record, replay

    top = argparse.ArgumentParser(prog="agentwrap", description="See why a reinforcement-learning agent acts.")
    top.add_argument("--version", action=_Version, nargs=0, help="show the versions of program and protocol")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    view = commands.add_parser("view", help="look at a running agent", description=VIEW)
    add_arguments(view)
    view.set_defaults(run=run, command=view)

    shown = commands.add_parser("demo", help="watch a trained agent play Enduro")
    demo.add_arguments(shown)
    shown.set_defaults(run=demo.run, command=shown)

    for module in (record, replay, compare, info, explain, export):
        name = module.__name__.rpartition(".")[2]
        command = commands.add_parser(name, help=module.HELP, description=getattr(module, "DESCRIPTION", None))
        module.add_arguments(command)
        command.set_defaults(run=module.run, command=command)
    return top


VIEW = (
    "Serve a page that shows a running agent: what it sees, does, and why. The agent's program says where it streams; "
    "without ENDPOINT the newest stream on this machine is shown."
)


def add_arguments(view: argparse.ArgumentParser) -> None:
    """Add the options of ``agentwrap view``."""
    add_endpoint(view)
    add_page(view)
    add_explaining(view, budget="time to spend on one step, in milliseconds")


def run(arguments: argparse.Namespace) -> int:
    """Run ``agentwrap view`` until Ctrl-C or SIGTERM; returns the exit status.

    Raises:
        LaunchError: A package is missing, the port is taken, or the endpoint is none.
    """
    from .launch import run_viewer

    need(VIEWER_NEEDS, who="the viewer")
    run_viewer(
        arguments.endpoint,
        port=arguments.port,
        open_browser=not arguments.no_browser,
        device=arguments.device,
        method=arguments.method,
        target=arguments.target,
        budget_ms=arguments.budget_ms,
        on_ready=lambda address: print(f"agentwrap view: {address}  (Ctrl-C ends it)", flush=True),
    )
    return 0


class _Version(argparse.Action):
    """Prints the versions; they are looked up only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(_version())
        parser.exit()


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    from agentwrap_protocol.messages import VERSION

    try:
        installed = version("agentwrap-rl")
    except PackageNotFoundError:
        installed = "not installed"
    return f"agentwrap-rl {installed}, protocol {VERSION[0]}.{VERSION[1]}"
