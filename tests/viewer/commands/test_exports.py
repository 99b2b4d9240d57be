"""What is made of recordings, read again by those who are to read it."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import minari
import numpy as np
import pytest
import zarr
from fakes import hello, saliency_map, step
from mcap.reader import make_reader
from PIL import Image, ImageSequence
from playwright.sync_api import Page, sync_playwright
from recordings import Pictures, record_cartpole, record_pictures

from agentwrap_protocol.spaces import Box, Dict, Discrete, Tuple
from agentwrap_viewer import cli, open_recording
from agentwrap_viewer.recording import curves, strip
from agentwrap_viewer.recording.writer import RecordingWriter

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
        shape = page.locator(".moments .mark", has_text="terminated").locator(".glyph path")
        red, *_ = re.findall(r"\d+", shape.evaluate("shape => getComputedStyle(shape).fill"))
        assert int(red) > 150, "as on the timeline"
        assert page.locator(".row.taken").count() == 1 and "step 15 of 15" in page.locator(".place").inner_text()
        browser.close()
    assert errors == [] and set(asked) <= {"file", "data"}


@contextmanager
def played(path: Path, **context: object) -> Iterator[Page]:
    """A page on disk in Chromium without a network; afterwards nothing has failed in it."""
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_context(offline=True, **context).new_page()  # type: ignore[arg-type]
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(path.as_uri())
        yield page
        browser.close()
    assert errors == []


def fills(page: Page, target: str) -> list[tuple[float, float]]:
    """Where each row's bar begins and how wide it is, in percent of its track."""
    read = "bars => bars.map(bar => [parseFloat(bar.style.left), parseFloat(bar.style.width)])"
    return [tuple(each) for each in page.locator(f".observation .fill.{target}").evaluate_all(read)]


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hundred steps with vectors."""
    return record_cartpole(tmp_path_factory.mktemp("cartpole") / "run.mcap")


@pytest.mark.browser
def test_a_page_shows_how_much_each_feature_counts(cartpole: Path, tmp_path: Path) -> None:
    out, computed = tmp_path / "run.html", tmp_path / "maps.mcap"
    chosen = ("--method", "gradient", "--target", "critic", "--steps", "0:40:2")
    assert cli.main(["explain", str(cartpole), "--out", str(computed), *chosen]) == 0
    export(cartpole, "--steps", "0:40", "--maps", computed, "--out", out)
    with open_recording(cartpole) as recording, open_recording(computed) as maps, played(out) as page:
        page.wait_for_function("document.querySelector('.observation .method').textContent === 'by gradient'")
        assert page.locator(".observation .keys").inner_text().split("\n") == ["raises critic", "lowers"]
        assert page.locator(".observation .name").first.inner_text() == "cart position"
        page.keyboard.press("ArrowRight")
        assert page.locator(".observation .method").inner_text() == "no map of this step"
        page.keyboard.press("ArrowRight")
        scores = maps.saliency_map(maps.explained[2]).arrays["features/critic"]
        shares = scores / np.abs(scores).max()
        for (left, width), share in zip(fills(page, "critic"), shares, strict=True):
            assert abs(width - 50 * abs(share)) < 0.3 and abs(left - (50 if share > 0 else 50 - width)) < 0.3
        shown = [float(text) for text in page.locator(".observation .value").all_inner_texts()]
        np.testing.assert_allclose(shown, recording.steps[2].arrays["observation"], rtol=0.06)
        assert page.locator(".stage").count() == 0, "there is no picture: the rows have its place"


@pytest.mark.browser
def test_a_page_draws_marks_that_lie_close_as_one(run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copy(run, tmp_path))
    with open_recording(run) as recording:
        for number in (6, 7):
            recording.bookmarks.add(number, f"note {number}")
    export(run, "--steps", "0:60", "--out", tmp_path / "run.html")
    with played(tmp_path / "run.html", viewport={"width": 390, "height": 844}) as page:
        page.evaluate(
            "written = []; const write = CanvasRenderingContext2D.prototype.fillText;"
            "CanvasRenderingContext2D.prototype.fillText = function (text, ...at) "
            "{ written.push(String(text)); write.call(this, text, ...at) }; null"
        )
        page.keyboard.press("End")
        assert "2" in page.evaluate("written"), "how many marks are drawn as one"
        assert page.locator(".moments .mark[data-kind=bookmark] .glyph").count() == 2
        box = page.locator(".timeline").bounding_box()
        assert box is not None
        x = box["x"] + page.evaluate("x(7, find('.timeline').clientWidth)")
        page.mouse.move(x, box["y"] + box["height"] - 5)
        said = page.locator(".timeline").get_attribute("title")
        assert said is not None and said.split("\n") == ["bookmark: note 7", "bookmark: note 6"]
        page.mouse.click(x, box["y"] + box["height"] - 5)
        assert page.locator(".figures .step").inner_text() == "7"


@pytest.mark.browser
def test_bars_of_q_values_begin_at_zero(tmp_path: Path) -> None:
    run, rated = tmp_path / "run.mcap", np.float32([-4, -1, 2, *[0] * 6])
    with RecordingWriter(run, hello()) as steps:
        for number in range(2):
            kept = {name: array for name, array in step(number).arrays.items() if not name.startswith("output/")}
            steps.add(step(number, arrays={**kept, "output/q_values": rated}))
    export(run, "--out", tmp_path / "run.html")
    with played(tmp_path / "run.html") as page:
        read = "bars => bars.map(bar => [parseFloat(bar.style.left), parseFloat(bar.style.width)])"
        drawn = page.locator(".policy .fill").evaluate_all(read)
        np.testing.assert_allclose(drawn[:4], [[0, 200 / 3], [50, 50 / 3], [200 / 3, 100 / 3], [200 / 3, 0]], atol=0.01)


def record_both(path: Path) -> tuple[Path, Path]:
    """A dict observation of a picture and a vector, and maps of both."""
    spaces = {"body": Box(shape=(3,), dtype="float32", low=-9, high=9)}
    spaces["eye"] = Box(shape=(84, 84), dtype="uint8", low=0, high=255)
    known = hello(observation_space=Dict(spaces=spaces), feature_names=("hip", "knee", "ankle"))
    parts = {"features/actor/body": np.float32([1, 2, 4]), "features/critic/body": np.float32([4, 1, 0])}
    run, maps = path / "run.mcap", path / "maps.mcap"
    with RecordingWriter(run, known) as steps, RecordingWriter(maps, known) as explained:
        for number in range(4):
            seen = {"observation/body": np.float32([number, 0.5, -2]), "observation/eye": np.zeros((84, 84), np.uint8)}
            each = step(number)
            each = step(number, arrays={**{n: a for n, a in each.arrays.items() if n != "observation"}, **seen})
            steps.add(each)
            heat = {f"{name}/eye": array for name, array in saliency_map(each).arrays.items()}
            methods = {"method": "feature_perturbation", "options": {}, "entry_methods": {"eye": "perturbation"}}
            explained.add(saliency_map(each, arrays={**heat, **parts}, **methods), renumber=True)
    return run, maps


@pytest.mark.browser
def test_a_page_shows_maps_of_pictures_and_bars_of_vectors_together(tmp_path: Path) -> None:
    run, maps = record_both(tmp_path)
    export(run, "--maps", maps, "--out", tmp_path / "run.html")
    with played(tmp_path / "run.html", viewport={"width": 390, "height": 844}) as page:
        page.wait_for_selector("canvas.heat[data-step='0']")
        assert page.locator(".heats .method").inner_text() == "by perturbation"
        assert page.locator(".observation .method").inner_text() == "by feature_perturbation"
        assert page.locator(".observation .name").all_inner_texts() == ["hip", "knee", "ankle"]
        assert [round(width) for _, width in fills(page, "actor")] == [25, 50, 100]
        assert [round(width) for _, width in fills(page, "critic")] == [100, 25, 0]
        colour = "bar => getComputedStyle(bar).backgroundColor"
        reds = [page.locator(f".fill.{name}").first.evaluate(colour) for name in ("actor", "critic")]
        assert [int(re.findall(r"\d+", each)[0]) > 150 for each in reds] == [False, True]
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_film_has_bars_of_features_beside_its_frames(tmp_path: Path) -> None:
    run, maps = record_both(tmp_path)
    export(run, "--maps", maps, "--steps", "0:2", "--out", tmp_path / "run.gif")
    with Image.open(tmp_path / "run.gif") as film:
        pixels = np.asarray(film.convert("RGB"))
    assert pixels.shape == (420, 320 + strip.WIDTH, 3)  # the frame, twice as large, and the strip
    table = pixels[54:, 320:].astype(int)
    longest = []
    for colour in (strip.ACTOR, strip.CRITIC):
        wide = (np.abs(table - colour).max(2) < 8).sum(1)
        longest.append([wide[index * strip.ROW :][: strip.ROW].max() for index in range(3)])
    assert [round(wide / longest[0][2], 1) for wide in longest[0]] == [0.2, 0.5, 1.0]
    assert longest[1] == [longest[0][2], longest[0][0], 0], "the critic's are as long for the same share"


def test_a_film_without_pictures_has_features_and_curves(cartpole: Path, tmp_path: Path) -> None:
    export(cartpole, "--steps", "10:30", "--method", "gradient", "--target", "critic", "--out", tmp_path / "run.gif")
    with Image.open(tmp_path / "run.gif") as film:
        pixels = [np.asarray(frame.convert("RGB")).astype(int) for frame in ImageSequence.Iterator(film)]
    assert len(pixels) == 20 and {each.shape for each in pixels} == {(420, strip.WIDTH + curves.WIDTH, 3)}
    for place, picture in enumerate(pixels):
        at = strip.WIDTH + curves.MARGIN + round(place / 19 * (curves.WIDTH - 2 * curves.MARGIN))
        below = picture[60:-12, strip.WIDTH :]
        lines = (np.abs(below - strip.LIGHT).max(2) < 8).mean(0) > 0.9
        assert np.flatnonzero(lines).tolist() == [at - strip.WIDTH], "the line is at the step shown"
        assert (np.abs(picture[54:, : strip.WIDTH] - strip.FOR).max(2) < 8).any() or place, "bars of what counts"
    ends = [np.abs(picture[:, strip.WIDTH :] - curves.COLOURS["return"]).max(2) < 40 for picture in pixels]
    assert all(each.any() for each in ends)
    export(cartpole, "--steps", "10:14", "--out", tmp_path / "run.mp4", "--height", "841")
    with av.open(str(tmp_path / "run.mp4")) as film:
        stream = film.streams.video[0]
        assert (stream.width, stream.height, len(list(film.decode(stream)))) == (2 * 740, 842, 4)


def test_foxglove_says_that_it_has_pictures_maps_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, maps = record_both(tmp_path)
    export(run, "--maps", maps, "--format", "foxglove", "--out", tmp_path / "x.mcap")
    assert "maps of pictures alone" in capsys.readouterr().out


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


def test_minari_loads_the_episodes_as_they_were(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    export(run, "--format", "minari", "--out", "pictures-v2")
    dataset = minari.load_dataset("pictures-v2")
    assert dataset.id == "pictures-v2" and dataset.total_steps == 30
    assert dataset.observation_space == Pictures.observation_space and dataset.action_space == Pictures.action_space
    first, second = dataset.iterate_episodes()
    assert first.observations.shape == (16, 16, 16) and first.observations.dtype == np.uint8
    with open_recording(run) as recording:
        np.testing.assert_array_equal(second.observations[:-1], recording.array("observation", 15, 30))
        np.testing.assert_array_equal(second.actions, recording.array("action", 15, 30))
        np.testing.assert_array_equal(second.rewards, recording.array("reward", 15, 30))
    assert second.terminations.tolist() == [False] * 14 + [True] and not second.truncations.any()


def test_minari_has_a_cut_episode_truncated_and_every_observation_seen(run: Path, tmp_path: Path) -> None:
    export(run, "--steps", "0:20", "--out", tmp_path / "run.minari")
    _, cut = minari.MinariDataset(tmp_path / "run.minari" / "data").iterate_episodes()
    with open_recording(run) as recording:
        np.testing.assert_array_equal(cut.observations, recording.array("observation", 15, 21))
    assert cut.truncations.tolist() == [False] * 4 + [True] and not cut.terminations.any()


def test_minari_has_nested_observations_and_no_step_without_its_successor(tmp_path: Path) -> None:
    space = Dict(
        spaces={"eye": Box(shape=(2,), dtype="float32", low=0, high=1), "more": Tuple(spaces=(Discrete(n=9),))}
    )
    with RecordingWriter(tmp_path / "run.mcap", hello(observation_space=space)) as writer:
        for number in range(5):
            seen = {"observation/eye": np.full(2, number / 10, np.float32), "observation/more/0": np.array(number)}
            writer.add(step(number, arrays={**seen, "action": np.array(1)}))
    export(tmp_path / "run.mcap", "--format", "minari")
    (episode,) = minari.MinariDataset(tmp_path / "run.minari" / "data").iterate_episodes()
    assert episode.observations["more"][0].tolist() == [0, 1, 2, 3, 4] and episode.observations["eye"].shape == (5, 2)
    assert len(episode.actions) == 4 and episode.truncations.tolist() == [False] * 3 + [True]


def test_minari_leaves_out_what_is_not_whole_and_says_so(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RecordingWriter(tmp_path / "run.mcap", hello()) as writer:
        for number in [97, 98, 99, 100, 101, 102, 200, 202]:
            writer.add(step(number))
    export(tmp_path / "run.mcap", "--format", "minari")
    told = capsys.readouterr()
    assert "2 steps are in" in told.out
    assert "Episode 0 is left out: it begins with its step 97" in told.err
    assert "Episode 2 is left out: steps are missing after its step 0" in told.err
    assert minari.MinariDataset(tmp_path / "run.minari" / "data").total_steps == 2
    every = refused(capsys, run, "--format", "minari", "--steps", "::2", "--out", tmp_path / "other")
    assert "leave the N" in every and not (tmp_path / "other").exists()
    assert "no episode" in refused(capsys, run, "--format", "minari", "--steps", "3:9", "--out", tmp_path / "other")


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
