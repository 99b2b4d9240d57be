"""Policies on a device that is not the processor, by `elsewhere`: what libraries prepare is recognised there too.

That device is one for the whole process, so it is tried in one of its own, which this file is too.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from agentwrap.adapters.preprocessing import Chain, FrameStack, Normalization, OneVector
from agentwrap.guard import Guard
from agentwrap.policy import Kept, PolicyView, Watch
from agentwrap.watching import WatchCapture

EARLIER = torch.rand(1, 4)
CASES = {
    "nothing": None,
    "statistics": Normalization((4,), clip=10.0),
    "one vector": OneVector({"": None}),
    "frames kept": Chain([FrameStack(dim=-1, size=4, frames=2)]),
}


def main() -> None:
    """Print what is taken of a policy elsewhere that is called once, a JSON line for each case."""
    from elsewhere import DEVICE

    observation = np.random.default_rng(0).random(4, np.float32)
    given = torch.as_tensor(observation)[None]
    for case, before in CASES.items():
        kept = {"frames": Kept((1, 4), lambda given: EARLIER)} if case == "frames kept" else {}
        prepared = torch.cat([EARLIER, given], 1) if kept else given if before is None else before(given)
        agent = nn.Sequential(nn.Linear(8 if kept else 4, 2)).to(DEVICE)
        capture = WatchCapture(
            PolicyView(agent=agent, watch={"logits": Watch("0")}, before=before, kept=kept), guard=Guard(strict=True)
        )
        capture.attach()
        capture.expect(observation)
        with torch.no_grad():
            computed = agent(prepared.to(DEVICE))[0]
        call = capture.choose(capture.take(), {"observation": observation})
        arrays = capture.arrays(call) if call else {}
        capture.detach()
        same = call is not None and np.array_equal(arrays["output/logits"], computed.cpu().detach().numpy())
        print(json.dumps({"case": case, "taken": sorted(arrays), "same": same}))


@pytest.fixture(scope="module")
def found():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, timeout=600)
    assert child.returncode == 0, child.stderr[-3000:]
    return {line["case"]: line for line in map(json.loads, child.stdout.splitlines())}


@pytest.mark.parametrize("case", CASES)
def test_what_a_policy_elsewhere_computes_is_taken(found, case):
    assert "output/logits" in found[case]["taken"]
    assert found[case]["same"]


def test_frames_that_a_library_kept_are_taken(found):
    assert "input/state/frames" in found["frames kept"]["taken"]


if __name__ == "__main__":
    main()
