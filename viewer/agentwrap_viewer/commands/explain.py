"""``agentwrap explain run.mcap --out maps.mcap``: saliency maps of recorded steps, on as many cores as one likes."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentwrap_viewer.explainer.lifetime import wait_asleep
from agentwrap_viewer.launch import LaunchError

from .arguments import add_target, need
from .errors import NEEDED, check_place, reading
from .workers import Workers, add_workers

if TYPE_CHECKING:
    from agentwrap_protocol.messages import SaliencyMap
    from agentwrap_viewer.recording import Recording
    from agentwrap_viewer.recording.writer import RecordingWriter

HELP = "compute saliency maps of a recording"

STEPS_HELP = "from A to B, every Nth, counted from the first recorded (default: all)"

DESCRIPTION = (
    "Compute the final saliency map of each chosen step and write them to a file, which is a recording too. Started "
    "again with the same arguments it goes on where it was stopped."
)

#: Steps handed to a process at a time: large enough to be worth the way, small enough to lose little when stopped.
BATCH = 8

#: Maps that come within so many seconds of the first are of its batch: their number says nothing of the pace.
TOGETHER = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``agentwrap explain``."""
    parser.add_argument("recording", metavar="FILE", help="the recording")
    parser.add_argument("--out", metavar="MAPS", required=True, help="the file to write maps to")
    add_method(parser, "saliency method (default: the one that suits the observation)")
    parser.add_argument("--steps", type=steps, metavar="A:B:N", help=STEPS_HELP)
    parser.add_argument("--episode", type=int, metavar="E", help="the steps of one episode")
    parser.add_argument(
        "--policy-version", type=int, metavar="V", help="explain with these weights (default: those of each step)"
    )
    add_workers(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace the file of maps if there is one")


def add_method(parser: argparse.ArgumentParser, what: str) -> None:
    """Add how steps are explained, and where."""
    parser.add_argument("--method", help=what)
    add_target(parser)
    parser.add_argument(
        "--option", action="append", default=[], type=option, metavar="NAME=VALUE", help="an option of the method"
    )
    parser.add_argument("--device", default="cpu", help="where to compute: cpu (default), cuda or mps")


def option(text: str) -> tuple[str, Any]:
    """Read ``name=value``, for argparse; values are JSON, or else text."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def steps(text: str) -> slice:
    """Read ``start:stop:step``, each of which may be left out, for argparse."""
    try:
        parts = [int(part) if part else None for part in text.split(":")]
    except ValueError:
        parts = []
    if not 1 <= len(parts) <= 3 or (len(parts) == 3 and parts[2] == 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not A:B:N")
    return slice(parts[0], parts[0] + 1) if len(parts) == 1 and parts[0] is not None else slice(*parts)


def run(arguments: argparse.Namespace) -> int:
    """Compute what is missing; returns the exit status.

    Raises:
        LaunchError: The recording, the method or the file of maps is not as it has to be.
    """
    check_place(Path(arguments.out))
    with reading(arguments.recording) as recording:
        indices = chosen(recording, arguments.steps, arguments.episode)
        try:
            write_maps(recording, indices, Path(arguments.out), arguments, version=arguments.policy_version)
        except KeyboardInterrupt:
            if Path(arguments.out).exists():
                told = f"agentwrap explain: what is done is in {arguments.out}, and the same command goes on from there"
                print(f"\n{told}", file=sys.stderr, flush=True)
            raise
    print(f"agentwrap explain: {len(indices):,} maps are in {arguments.out}", flush=True)
    return 0


def write_maps(
    recording: Recording,
    indices: Sequence[int],
    out: Path,
    arguments: argparse.Namespace,
    *,
    version: int | None = None,
) -> None:
    """Compute maps of some steps, but for those that the file has, and write them; says how far it is.

    Args:
        recording: The recording.
        indices: Which steps.
        out: The file of maps.
        arguments: What ``add_method`` and ``add_workers`` have added, and ``overwrite``.
        version: Explain with these weights; None for those of each step.

    Raises:
        LaunchError: The recording, the method or the file of maps is not as it has to be.
    """
    wait_asleep()
    need((*NEEDED, "torch", "joblib"))
    from agentwrap_viewer.recording import RecordingError

    device_alone = arguments.device != "cpu" and arguments.backend == "loky"  # processes would share it
    jobs = 1 if arguments.jobs is None and device_alone else arguments.jobs
    workers = Workers(jobs, backend=arguments.backend, address=arguments.address)
    task = plan(recording, arguments, version)
    try:
        with _output(recording, task, out, overwrite=arguments.overwrite) as (writer, known):
            numbers = recording.array("step")
            missing = [index for index in indices if int(numbers[index]) not in known]
            bar = Progress(len(indices), len(indices) - len(missing))
            for message in maps(task, missing, workers):
                writer.add(message, renumber=True)
                bar.advance()
            bar.end()
    except RecordingError as error:
        raise LaunchError(str(error)) from error


def plan(recording: Recording, arguments: argparse.Namespace, version: int | None) -> dict[str, Any]:
    """Return what a process needs to know; checks policy, method and options before anything begins.

    Raises:
        LaunchError: The recording has no policy, or the method, an option or the target does not suit it.
    """
    from agentwrap_viewer.explainer import offline

    task = {
        "path": str(recording.path.resolve()),
        "version": version,
        "method": arguments.method,
        "options": dict(arguments.option),
        "target": arguments.target,
        "device": arguments.device,
    }
    try:
        chosen = {name: task[name] for name in ("method", "options", "target", "version")}
        offline.check(recording, **chosen)
    except offline.CannotExplain as error:
        raise LaunchError(str(error)) from error
    return task


def chosen(recording: Recording, steps: slice | None, episode: int | None) -> range:
    """Return the indices of the steps to explain.

    Raises:
        LaunchError: There is no such episode, or none of these steps.
    """
    among = range(len(recording.steps))
    if episode is not None:
        found = next((each for each in recording.episodes if each.number == episode), None)
        if found is None:
            raise LaunchError(f"{recording.path} has no episode {episode}: {_episodes_of(recording)}")
        among = among[found.start : found.stop]
    found_steps = among if steps is None else among[steps]
    if not found_steps:
        known = f"there are {len(among):,}, 0 to {len(among) - 1:,}" if among else "it is empty"
        if among and (first := recording.steps[among[0]].step):  # its agent had made steps before
            known += f", counted from its first, which is the agent's step {first:,}"
        whole = recording.path if episode is None else f"episode {episode} of {recording.path}"
        raise LaunchError(f"{whole} has no {'such ' if among else ''}steps: {known}")
    return found_steps


def _episodes_of(recording: Recording) -> str:
    numbers = [each.number for each in recording.episodes]
    if not numbers:
        return "it has none"
    return f"it has {numbers[0]:,}" if len(numbers) == 1 else f"it has {numbers[0]:,} to {numbers[-1]:,}"


def maps(task: dict[str, Any], indices: Sequence[int], workers: Workers) -> Iterator[SaliencyMap]:
    """Compute the maps of these steps, in whatever order they are done."""
    from agentwrap_protocol import decode
    from agentwrap_viewer.explainer import offline

    batches = [indices[begin : begin + BATCH] for begin in range(0, len(indices), BATCH)]
    try:
        for batch in workers.map(offline.explain, [(task, batch) for batch in batches]):
            for frames in batch:
                message: Any = decode(frames)
                yield message
    except offline.CannotExplain as error:
        raise LaunchError(str(error)) from error


class _output:
    """The file of maps: begun, or gone on with. Enters as (writer, numbers of the steps that have a map).

    A file that is gone on with is copied first, and replaced when the copy is whole.
    """

    def __init__(self, recording: Recording, task: dict[str, Any], path: Path, *, overwrite: bool) -> None:
        from agentwrap_viewer.recording import RecordingError
        from agentwrap_viewer.recording.writer import RecordingWriter

        hello = recording.hello
        if hello is None:
            raise RecordingError(f"{recording.path} is empty: there is nothing to explain")
        self._known: set[int] = set()
        metadata = {
            "source": task["path"],
            "method": task["method"] or "",
            "options": json.dumps(task["options"], sort_keys=True),
            "target": task["target"] or "",
            "policy_version": "" if task["version"] is None else str(task["version"]),
        }
        if overwrite or not path.exists():
            self._writer = RecordingWriter(path, hello, metadata=metadata, overwrite=overwrite)
            return
        copy = path.with_name(f"{path.name}.part")
        self._writer = RecordingWriter(copy, hello, metadata=metadata, overwrite=True)
        try:
            self._copy(path, {"stream": hello.stream, **metadata})
        except BaseException:
            self._writer.__exit__(None, None, None)
            copy.unlink()
            raise
        self._writer.flush()
        os.replace(copy, path)
        self._writer.path = path

    def _copy(self, path: Path, wanted: dict[str, str]) -> None:
        from agentwrap_viewer.recording import RecordingError, open_recording

        with open_recording(path) as old:
            known = {"target": "", **old.metadata}
            unlike = [name for name, value in wanted.items() if known.get(name) != value and name != "source"]
            if unlike:
                raise RecordingError(
                    f"{path} exists already and holds other maps ({', '.join(unlike)} differ): choose another name, or "
                    "pass --overwrite"
                )
            for number, index in old.explained.items():
                self._writer.add(old.saliency_map(index), renumber=True)
                self._known.add(number)

    def __enter__(self) -> tuple[RecordingWriter, set[int]]:
        return self._writer, self._known

    def __exit__(self, *error: Any) -> None:
        self._writer.__exit__(*error)


class Progress:
    """Says on standard error how far it is: a line that renews itself on a terminal, else one for each tenth."""

    def __init__(self, total: int, done: int) -> None:
        self._total, self._done = total, done
        self._first: tuple[float, int] | None = None  # when the first batch was there, and how many were done then
        self._said = -1.0
        self._terminal = sys.stderr.isatty()
        if done < total:
            self._say(time.monotonic())

    def advance(self) -> None:
        """One more is done."""
        self._done, now = self._done + 1, time.monotonic()
        if self._first is None or now - self._first[0] < TOGETHER:
            self._first = (now if self._first is None else self._first[0], self._done)
        share = self._done / self._total
        due = now - self._said > 0.2 if self._terminal else int(10 * share) > self._said
        if due:
            self._said = now if self._terminal else int(10 * share)
            self._say(now)

    def _say(self, now: float) -> None:
        filled = int(30 * self._done / self._total)
        bar = "█" * filled + "·" * (30 - filled)
        line = f"{bar} {self._done:,}/{self._total:,} maps, {self._pace(now)}"
        sys.stderr.write(f"\r{line}  " if self._terminal else f"{line}\n")
        sys.stderr.flush()

    def _pace(self, now: float) -> str:
        """Return how fast it goes since the first batch was there: what comes before that is the start of processes."""
        if self._first is None:
            return "starting"
        (began, begun_with), done = self._first, self._done
        if done == begun_with:
            return "done" if done == self._total else "measuring"
        rate = (done - begun_with) / max(now - began, 1e-9)
        return f"{rate:.1f}/s, {(self._total - done) / rate:.0f} s left"

    def end(self) -> None:
        """Leave the line."""
        if self._terminal and self._total:
            self._say(time.monotonic())
            print(file=sys.stderr, flush=True)
