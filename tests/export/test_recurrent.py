"""New recurrent state is told from other outputs, whatever else a policy takes and returns."""

from __future__ import annotations

import pytest
import torch

from agentwrap_export.inputs import CallInput
from agentwrap_export.recurrent import carried

X, H, C, DONE = torch.zeros(1, 4), torch.zeros(2, 1, 8), torch.ones(2, 1, 8), torch.zeros(1)


def given(*paths_and_tensors):
    observation = CallInput("observation", "observation", "observation", X, ("x",))
    return [observation] + [CallInput("/".join(p), "input/s", "state", t, p) for p, t in paths_and_tensors]


LSTM = given((("state", "0"), H), (("state", "1"), C), (("done",), DONE))


@pytest.mark.parametrize(
    ("inputs", "result", "other", "expected"),
    [
        (LSTM, (X, DONE, (H, C)), {0, 1}, {2: 1, 3: 2}),
        (LSTM, {"logits": X, "value": DONE, "next": (H, C)}, {0, 1}, {2: 1, 3: 2}),
        (LSTM, (X, (H, C, C)), {0}, {}),  # of another structure
        (LSTM, (X, (H, C[..., :4])), {0}, {}),  # of another shape
        (LSTM, (X, (H.double(), C)), {0}, {}),
        (given((("h",), H)), (X, C, H), {0}, {2: 1}),  # the last that is alike
        (given((("h",), H)), {"logits": X, "h": H, "other": C}, {0}, {1: 1}),  # the one of its name
        (given((("a",), H), (("b",), H)), {"logits": X, "b": H, "a": H}, {0}, {2: 1, 1: 2}),
        (given((("logits_before",), X)), (X, H), {0}, {}),  # an output that is known for what it is
        (given((("times",), torch.zeros(1, dtype=torch.int64))), (X, torch.zeros(1, dtype=torch.int64)), {0}, {}),
    ],
)
def test_state_is_paired_with_what_it_becomes(inputs, result, other, expected):
    assert carried(inputs, result, other=other) == expected
