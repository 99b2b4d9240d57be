"""How ``enduro.mcap`` was made: a barely trained agent plays Enduro, then a well trained one, in one small recording.

A recording holds every version of the policy's weights. Those of these two agents lie in ``models/`` already, so the
recording names the files instead, by their SHA-256. Look at it with::

    agentwrap compare examples/enduro.mcap
    agentwrap replay examples/enduro.mcap

Made anew, in this directory, by ``python record_enduro.py enduro.mcap``.
"""

import argparse
import dataclasses
import hashlib
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import torch

from agentwrap import InterpretWrapper, demo
from agentwrap_protocol.messages import EpisodeEnd, Hello, Step
from agentwrap_viewer.recording import Episode, Recording, open_recording
from agentwrap_viewer.recording.writer import RecordingWriter

#: Who plays, and for how many steps.
PLAYERS = {"novice": 180, "expert": 320}
SEED = 3


def record(path: Path, *, share: float = 1.0) -> None:
    """Let one after the other play, and record all of it."""
    torch.set_num_threads(1)
    policies = [demo.load_policy(demo.models_directory() / f"enduro-{name}.safetensors") for name in PLAYERS]
    acting = policies[0]
    env = InterpretWrapper(
        demo.make_enduro(), acting, name="Enduro, novice and expert", record=path, weights_every=1e-9, quiet=True
    )
    for policy, steps in zip(policies, PLAYERS.values(), strict=True):
        acting.load_state_dict(policy.state_dict())
        demo.play(env, acting, steps=max(2, int(share * steps)), speed=0, seed=SEED)
    env.close()


def leave_weights_out(path: Path, out: Path) -> None:
    """Copy a recording without the weights, of which it says in which files beside it they are."""
    with open_recording(path) as full, RecordingWriter(out, introduction(full)) as writer:
        writer.add(full.graph(), renumber=True)
        names = dict(zip(full.versions, PLAYERS, strict=True))
        ends = {episode.stop - 1: episode for episode in full.episodes if episode.reason is not None}
        for index, step in enumerate(full.steps):
            if step.policy_version in names:
                version = step.policy_version
                writer.add_metadata("agentwrap.weights", describe(version, names.pop(version)))
                writer.add(msgspec.structs.replace(full.weights(version), arrays={}), renumber=True)
            writer.add(step, renumber=True)
            if index in ends:
                writer.add(end_of(ends[index], step), renumber=True)


def introduction(recording: Recording) -> Hello:
    """Return what the recorded stream said of itself."""
    assert recording.hello is not None, "it was recorded to its end"
    return recording.hello


def describe(version: int, name: str) -> dict[str, str]:
    """Say which file has a version's weights (protocol/SPEC.md, section 13)."""
    weights = demo.models_directory() / f"enduro-{name}.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    return {"policy_version": str(version), "file": f"models/{weights.name}", "sha256": digest}


def end_of(episode: Episode, last: Step) -> EpisodeEnd:
    """Return the message that ended an episode."""
    said = dataclasses.asdict(episode)
    kept: dict[str, Any] = {name: said[name] for name in ("length", "episode_return", "seconds", "reason")}
    return EpisodeEnd(stream=last.stream, time=last.time, episode=episode.number, step=last.step, **kept)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("out", type=Path, help="the recording to write, in the directory that has models/")
    options.add_argument("--share", type=float, default=1.0, help="play this share of the steps alone")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        record(Path(folder) / "full.mcap", share=arguments.share)
        leave_weights_out(Path(folder) / "full.mcap", arguments.out)
