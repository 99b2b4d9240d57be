"""``python -m agentwrap_viewer.explainer.flips FILE``: looks for actions that flip, for the page over a recording.

A child of the page's process, which has no PyTorch. It prints a line of JSON whenever it knows more: the moments found
so far, as a list of ``[step, text]``. It is the first to wait when others compute, and ends with its standard input.
With ``--follow`` it goes on with what is written to the recording, until that is ended.
"""

from __future__ import annotations

import argparse
import json
import time

import torch

from agentwrap_viewer.recording import Recording, RecordingError, flips, open_recording
from agentwrap_viewer.recording.moments import Criteria

from .lifetime import Lifetime, be_nice

#: Seconds between two looks for what has been written since.
PAUSE = 1.0


def main() -> None:
    """Look at a recording, and end."""
    parser = argparse.ArgumentParser(prog="python -m agentwrap_viewer.explainer.flips", description=__doc__)
    parser.add_argument("recording", help="the recording")
    parser.add_argument("--criteria", type=json.loads, default={}, help="fields of moments.Criteria, as JSON")
    parser.add_argument("--noise", type=json.loads, default={}, help="sigma, samples, share of flips.search, as JSON")
    parser.add_argument("--follow", action="store_true", help="go on with what is written to it")
    arguments = parser.parse_args()
    lifetime = Lifetime()
    be_nice(19)
    torch.set_num_threads(1)
    with open_recording(arguments.recording) as recording:

        def more() -> bool:
            return arguments.follow and _has_grown(recording, lifetime)

        try:
            if not recording.versions and not more():
                return
            for found in flips.search(recording, criteria=Criteria(**arguments.criteria), more=more, **arguments.noise):
                print(json.dumps([[moment.step, moment.text] for moment in found]), flush=True)
                if lifetime.over:
                    return
        except (RecordingError, ValueError) as error:
            parser.exit(1, f"{error}\n")


def _has_grown(recording: Recording, lifetime: Lifetime) -> bool:
    """Wait for further steps, of a policy that is there; returns whether there are."""
    while not lifetime.over and not recording.complete:
        time.sleep(PAUSE)
        if recording.refresh() and recording.versions:
            return True
    return False


if __name__ == "__main__":
    main()
