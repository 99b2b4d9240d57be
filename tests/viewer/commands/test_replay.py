"""What ``agentwrap replay`` refuses, and how it says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import hello, saliency_map
from recordings import known

from agentwrap_viewer import cli
from agentwrap_viewer.recording.writer import RecordingWriter


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory of files that cannot be replayed, and of some that can."""
    (tmp_path / "text.mcap").write_text("not a recording")
    RecordingWriter(tmp_path / "none.mcap", hello()).close()
    with RecordingWriter(tmp_path / "run.mcap", hello()) as run:
        run.add(known(0))
    with RecordingWriter(tmp_path / "other.mcap", hello("a" * 32)) as maps:
        maps.add(saliency_map(known(0)))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("text.mcap",), "text.mcap is not a recording"),
        (("absent.mcap",), "absent.mcap cannot be read: No such file"),
        (("none.mcap",), "none.mcap holds no steps"),
        (("run.mcap", "--maps", "other.mcap"), "they are of another run"),
        (("run.mcap", "--maps", "run.mcap"), "holds no maps"),
        (("run.mcap", "--maps", "text.mcap"), "text.mcap is not a recording"),
    ],
)
def test_refuses(
    arguments: tuple[str, ...],
    said: str,
    files: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(files)
    assert cli.main(["replay", "--no-browser", "--port", "0", *arguments]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("agentwrap: ") and said in errors and "Traceback" not in errors
