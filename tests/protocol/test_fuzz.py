"""The fuzz run is part of the tests: 200,000 inputs, nothing but messages and ``ProtocolError``, in bounded memory."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .fuzz_codec import LIMITS, inputs, outcome, run

INPUTS = 200_000

#: Another seed looks elsewhere: ``AGENTWRAP_FUZZ_SEED=7 pytest tests/protocol/test_fuzz.py``.
SEED = int(os.environ.get("AGENTWRAP_FUZZ_SEED", "0"))


@pytest.mark.timeout(600)
def test_200_000_inputs_give_messages_or_protocol_errors_in_bounded_memory():
    summary = run(INPUTS, SEED)
    assert summary["inputs"] == INPUTS
    outcomes = summary["outcomes"]
    assert outcomes.keys() == {"Message", "ProtocolError", "LimitError", "VersionError", "UnknownKindError"}
    assert min(outcomes.values()) > INPUTS / 2000, "every way out is taken often"
    assert outcomes["Message"] > INPUTS / 20, "many inputs get through to the end"
    assert 0 < summary["peak_bytes"] < 8 * LIMITS.header


def test_the_same_seed_gives_the_same_inputs():
    assert list(inputs(50, 1)) == list(inputs(50, 1)) != list(inputs(50, 2))


def test_the_run_fails_where_the_decoder_does(monkeypatch):
    def broken(frames, limits):
        raise KeyError("index")

    monkeypatch.setattr(sys.modules[run.__module__], "decode", broken)
    with pytest.raises(AssertionError, match=r"seed 3, input 0: KeyError\('index'\) from \["):
        run(10, 3)


def test_a_vector_comes_through_unchanged():
    assert any(outcome(frames) == "Message" for frames in itertools.islice(inputs(200, 0), 200))


def test_the_script_prints_one_json_line():
    script = Path(__file__).with_name("fuzz_codec.py")
    command = [sys.executable, str(script), "--inputs", "200", "--seed", "4"]
    (line,) = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert json.loads(line)["inputs"] == sum(json.loads(line)["outcomes"].values()) == 200
