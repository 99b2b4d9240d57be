"""What is made of recordings, read again by those who are to read it."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from mcap.reader import make_reader
from PIL import Image, ImageSequence
from playwright.sync_api import sync_playwright
from recordings import record_pictures

from agentwrap_viewer import cli, open_recording

CHROMIUM = "/usr/bin/chromium"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two episodes of fifteen steps with pictures, and the policy."""
    return record_pictures(tmp_path_factory.mktemp("run") / "run.mcap")


def export(*arguments: str | Path) -> None:
    assert cli.main(["export", *map(str, arguments)]) == 0


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert cli.main(["export", *map(str, arguments)]) == 1
    return capsys.readouterr().err


@pytest.mark.browser
def test_a_page_plays_an_episode_with_its_maps_and_without_a_network(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.html"
    export(run, "--episode", "1", "--method", "occlusion", "--option", "patch=4", "--out", out)
    asked, errors = [], []
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        page = browser.new_context(offline=True).new_page()
        page.on("request", lambda request: asked.append(request.url.split(":")[0]))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(out.as_uri())
        page.wait_for_selector("canvas.frame[data-step='15']")
        page.wait_for_selector("canvas.heat[data-step='15']")
        pixels = "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
        with open_recording(run) as recording:
            for key, index in (("ArrowRight", 16), ("End", 29), ("Home", 15)):
                page.keyboard.press(key)
                page.wait_for_selector(f"canvas.frame[data-step='{index}']")
                shown = np.array(page.locator("canvas.frame").evaluate(pixels), np.uint8).reshape(16, 16, 4)
                np.testing.assert_array_equal(shown[..., 0], recording.steps[index].arrays["observation"])
        assert max(page.locator("canvas.heat").evaluate(pixels)[3::4]) > 100
        page.get_by_role("button", name="none").click()
        assert max(page.locator("canvas.heat").evaluate(pixels)[3::4]) == 0
        page.keyboard.press("Space")
        page.wait_for_selector("canvas.frame[data-step='29']")
        assert page.locator(".row.taken").count() == 1 and "step 15 of 15" in page.locator(".place").inner_text()
        browser.close()
    assert errors == [] and set(asked) <= {"file", "data"}


def test_texts_of_a_recording_cannot_leave_their_place_in_the_page(run: Path, tmp_path: Path) -> None:
    with open_recording(run) as recording:
        recording.bookmarks.add(3, "</script><script>alert(1)</script>")
    export(run, "--out", tmp_path / "run.html")
    text = (tmp_path / "run.html").read_text()
    assert text.count("<script") == 2 and "alert(1)" in text


def test_zarr_has_the_arrays_and_maps_of_the_steps(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.zarr"
    export(run, "--steps", "3:20:2", "--method", "occlusion", "--out", out)
    group = zarr.open_group(out, mode="r")
    with open_recording(run) as recording:
        np.testing.assert_array_equal(group["reward"][:], recording.array("reward")[3:20:2])
        np.testing.assert_array_equal(group["observation"][:], recording.array("observation")[3:20:2])
    assert group["maps/heatmap/chosen"].shape == (9, 16, 16)
    export(run, "--steps", "0:2", "--out", out, "--overwrite")
    assert zarr.open_group(out, mode="r")["reward"].shape == (2,)


def test_foxglove_finds_pictures_under_its_own_schema(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "frames.mcap"
    export(run, "--steps", "0:5", "--format", "foxglove", "--method", "occlusion", "--out", out)
    with open(out, "rb") as file, open_recording(run) as recording:
        found = [
            (schema.name, channel.topic, message) for schema, channel, message in make_reader(file).iter_messages()
        ]
        assert {(name, topic) for name, topic, _ in found} == {
            ("foxglove.CompressedImage", "/frame"),
            ("foxglove.CompressedImage", "/saliency"),
        }
        frames = [message for _, topic, message in found if topic == "/frame"]
        assert len(frames) == 5
        for index, message in enumerate(frames):
            told = json.loads(message.data)
            pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(told["data"]))))
            np.testing.assert_array_equal(pixels[..., 0], recording.steps[index].arrays["observation"])
            assert told["timestamp"]["sec"] == int(recording.steps[index].time)


def test_each_moment_has_a_clip_within_its_episode(run: Path, tmp_path: Path) -> None:
    with open_recording(run) as recording:
        recording.bookmarks.add(16, "the second episode has begun")
    export(run, "--moments", "terminated,bookmark", "--around", "4", "--out", tmp_path / "clips")
    lengths = {}
    for path in (tmp_path / "clips").iterdir():
        with Image.open(path) as film:
            lengths[path.name] = len(list(ImageSequence.Iterator(film)))
    assert lengths["000014-terminated.gif"] == 5 and lengths["000029-terminated.gif"] == 5
    assert lengths["000016-bookmark.gif"] == 6


def test_what_cannot_be_is_said(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no moments of kind 'x'" in refused(capsys, run, "--moments", "x", "--out", tmp_path / "none")
    assert "give one of the two" in refused(capsys, run, "--format", "html", "--maps", run, "--method", "sarfa")
    assert "no such moments" in refused(capsys, run, "--moments", "policy_version", "--out", tmp_path / "none")
