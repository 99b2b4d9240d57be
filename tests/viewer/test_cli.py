from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentwrap_viewer import cli

EXAMPLE = Path(__file__).parents[2] / "examples" / "enduro.mcap"


def test_an_unknown_option_is_answered_with_the_one_that_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["replay", "run.mcap", "--prot", "5006"])
    said = capsys.readouterr().err
    assert "agentwrap replay: error: unrecognized arguments: --prot 5006 (did you mean --port?)" in said


def test_a_reader_that_has_seen_enough_ends_a_command_quietly() -> None:
    nobody, end = os.pipe()
    os.close(nobody)
    command = [sys.executable, "-m", "agentwrap_viewer", "info", str(EXAMPLE)]
    try:
        ended = subprocess.run(command, stdout=end, stderr=subprocess.PIPE, text=True, timeout=120)
    finally:
        os.close(end)
    assert (ended.returncode, ended.stderr) == (141, "")
