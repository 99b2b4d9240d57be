from __future__ import annotations

import pytest

from agentwrap_viewer import cli


def test_an_unknown_option_is_answered_with_the_one_that_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["replay", "run.mcap", "--prot", "5006"])
    said = capsys.readouterr().err
    assert "agentwrap replay: error: unrecognized arguments: --prot 5006 (did you mean --port?)" in said
