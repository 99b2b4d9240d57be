"""``agentwrap info run.mcap``: what is in a recording."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING, Any

from .errors import reading
from .moments import add_criteria, moments_of

if TYPE_CHECKING:
    from agentwrap_viewer.recording import Recording

HELP = "say what is in a recording"

#: Episodes listed one by one.
LISTED = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``agentwrap info``."""
    parser.add_argument("recording", metavar="FILE", help="the recording")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.add_argument(
        "--moments",
        nargs="?",
        const="",
        metavar="KINDS",
        help="list moments too: of all kinds, or of some such as td_error,terminated; action_flip only where named",
    )
    add_criteria(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print what is in a recording; returns the exit status.

    Raises:
        LaunchError: It cannot be opened.
    """
    with reading(arguments.recording) as recording:
        facts = describe(recording)
        if arguments.moments is not None:
            moments = moments_of(recording, range(len(recording.steps)), arguments)
            facts["moments"] = [dataclasses.asdict(each) for each in moments]
    if arguments.json:
        print(json.dumps(facts))
    else:
        print(text(facts))
        for each in facts.get("moments", ()):
            print(f"  step {each['step']:>9,}  {each['kind']:<14} {each['text']}")
    return 0


def describe(recording: Recording) -> dict[str, Any]:
    """Return the facts of a recording, as JSON has them."""
    hello, episodes, size = recording.hello, recording.episodes, recording.path.stat().st_size
    times = recording.array("time", 0, 1), recording.array("time", -1)
    returns = [episode.episode_return for episode in episodes if episode.episode_return is not None]
    return {
        "file": str(recording.path),
        "bytes": size,
        "env_id": recording.env_id,
        "name": recording.metadata.get("name", ""),
        "created": recording.metadata.get("created", ""),
        "protocol": recording.metadata.get("protocol", ""),
        "software": json.loads(recording.metadata.get("software", "{}")),
        "seed": recording.seed,
        "record_every": int(recording.metadata.get("record_every", "1")),
        "steps": len(recording.steps),
        "seconds": round(float(times[1][0] - times[0][0]), 3) if len(recording.steps) else 0.0,
        "episodes": len(episodes),
        "episodes_ended": len(returns),
        "returns": returns[-LISTED:],
        "return_mean": sum(returns) / len(returns) if returns else None,
        "lengths": [episode.length for episode in episodes if episode.length is not None][-LISTED:],
        "policy": hello.policy.type if hello is not None else None,
        "policy_versions": len(recording.versions),
        "policy_problem": hello.policy.problem if hello is not None else None,
        "maps": len(recording.explained),
        "arrays": {name: [array.dtype.str, *array.shape] for name, array in _arrays(recording).items()},
        "waited_seconds": float(recording.summary.get("waited_seconds", "0") or 0),
        "notes": recording.notes,
    }


def _arrays(recording: Recording) -> dict[str, Any]:
    return dict(recording.steps[-1].arrays) if len(recording.steps) else {}


def text(facts: dict[str, Any]) -> str:
    """Lay the facts out for people."""
    lines = [f"{facts['file']}  {facts['bytes']:,} bytes, protocol {facts['protocol'] or 'unknown'}"]
    rows = {
        "environment": f"{facts['env_id']}" + (f", seed {facts['seed']}" if facts["seed"] is not None else ""),
        "recorded": facts["created"] or "unknown",
        "software": ", ".join(f"{name} {version}" for name, version in facts["software"].items()),
        "steps": _steps(facts),
        "episodes": _episodes(facts),
        "policy": _policy(facts),
        "arrays": ", ".join(f"{name} {_shape(kind)}" for name, kind in facts["arrays"].items()),
        "maps": f"{facts['maps']:,}" if facts["maps"] else "",
        "note": "; ".join(facts["notes"]),
    }
    lines += [f"  {name:<12} {value}" for name, value in rows.items() if value]
    return "".join(character for character in "\n".join(lines) if character.isprintable() or character == "\n")


def _steps(facts: dict[str, Any]) -> str:
    if not facts["steps"]:
        return "none"
    every = f", one in {facts['record_every']}" if facts["record_every"] > 1 else ""
    waited = ""
    if facts["waited_seconds"] >= 0.1:
        waited = f", the agent waited {facts['waited_seconds']:.1f} s for the disk"
    return f"{facts['steps']:,}{every}, in {facts['seconds']:,.1f} s{waited}"


def _episodes(facts: dict[str, Any]) -> str:
    if not facts["episodes_ended"]:
        return f"{facts['episodes']:,}, none of which ended"
    shown = ", ".join(f"{value:g}" for value in facts["returns"])
    more = "the last returned " if facts["episodes_ended"] > LISTED else "returns "
    return f"{facts['episodes']:,}, mean return {facts['return_mean']:g}; {more}{shown}"


def _policy(facts: dict[str, Any]) -> str:
    if facts["policy"] is None:
        return "unknown"
    versions = f"{facts['policy_versions']:,} versions" if facts["policy_versions"] != 1 else "1 version"
    return f"{facts['policy']}, {versions} of its weights" + (
        f"; {facts['policy_problem']}" if facts["policy_problem"] else ""
    )


def _shape(kind: list[Any]) -> str:
    dtype, *shape = kind
    return f"{dtype.lstrip('<|')}({', '.join(map(str, shape))})"
