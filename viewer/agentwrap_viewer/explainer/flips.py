"""``python -m agentwrap_viewer.explainer.flips FILE``: looks for actions that flip, for the page over a recording.

A child of the page's process, which has no PyTorch. It prints a line of JSON whenever it knows more: the moments found
so far, as a list of ``[step, text]``. It is the first to wait when others compute, and ends with its standard input.
"""

from __future__ import annotations

import argparse
import json

import torch

from agentwrap_viewer.recording import RecordingError, flips, open_recording
from agentwrap_viewer.recording.moments import Criteria

from .lifetime import Lifetime, be_nice


def main() -> None:
    """Look at a recording, and end."""
    parser = argparse.ArgumentParser(prog="python -m agentwrap_viewer.explainer.flips", description=__doc__)
    parser.add_argument("recording", help="the recording")
    parser.add_argument("--criteria", type=json.loads, default={}, help="fields of moments.Criteria, as JSON")
    parser.add_argument("--noise", type=json.loads, default={}, help="sigma, samples, share of flips.search, as JSON")
    arguments = parser.parse_args()
    lifetime = Lifetime()
    be_nice(19)
    torch.set_num_threads(1)
    with open_recording(arguments.recording) as recording:
        try:
            for found in flips.search(recording, criteria=Criteria(**arguments.criteria), **arguments.noise):
                print(json.dumps([[moment.step, moment.text] for moment in found]), flush=True)
                if lifetime.over:
                    return
        except (RecordingError, ValueError) as error:
            parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
