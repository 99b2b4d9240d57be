"""A recording of the demo's agent in Chromium: what is shown after each move is what was recorded there."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from e2e.harness import Served, Tab

from agentwrap import InterpretWrapper, demo
from agentwrap_viewer import open_recording
from agentwrap_viewer.recording import Recording, flips
from agentwrap_viewer.recording.moments import KINDS

#: Steps recorded; the policy changes in the middle, and a new episode begins at a third.
STEPS = 120


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of the demo's agent on Enduro, whose critic changes on the way."""
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("replay") / "run.mcap"
    policy = demo.load_policy(demo.models_directory() / "enduro-expert.safetensors")
    env = InterpretWrapper(
        demo.make_enduro(), policy, record=path, weights_every=1e-9, quiet=True, endpoint="tcp://127.0.0.1:*"
    )
    demo.play(env, policy, steps=STEPS // 3, speed=0, seed=4)
    demo.play(env, policy, steps=STEPS // 6, speed=0, seed=5)
    with torch.no_grad():
        policy.critic.bias.add_(5.0)
    demo.play(env, policy, steps=STEPS // 2, speed=0, seed=6)
    env.close()
    return path


@pytest.fixture
def recording(run: Path) -> Iterator[Recording]:
    with open_recording(run) as opened:
        assert len(opened.steps) == STEPS and len(opened.versions) == 2
        yield opened


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    """The page over that run."""
    replay = Served("replay", run)
    yield replay.address
    replay.close()


def shows(tab: Tab, recording: Recording, index: int) -> bool:
    """Whether the page shows this step with the frame that was recorded with it."""
    step = recording.steps[index]
    return tab.step() == step.step and np.array_equal(tab.picture(), step.arrays["frame"])


def explained(tab: Tab, step: int) -> bool:
    """Whether heat of this very step is drawn, by a replica that computes what the agent computed then."""
    heat = tab.find(".stage canvas.heat")
    own = heat.get_attribute("data-step") == str(step) and tab.find(".stage .lag").inner_text() == "this step"
    return own and tab.alpha() > 0 and "agrees" in tab.find(".card.explanation").inner_text()


def test_every_move_shows_the_step_asked_for_with_heat_of_the_policy_that_made_it(
    address: str, recording: Recording, open_tab: Callable[..., Tab]
) -> None:
    tab = open_tab(address)
    tab.until(lambda: shows(tab, recording, 0), "the first step")
    tab.until(lambda: explained(tab, 0), "its heat")
    third, half = STEPS // 3, STEPS // 2
    moves = {
        "End": STEPS - 1,
        "ArrowLeft": STEPS - 2,
        "Shift+ArrowLeft": STEPS - 12,
        "ArrowRight": STEPS - 11,
        "Home": 0,
    }
    episodes = [("Shift+ArrowRight", 10), ("PageDown", third), ("PageDown", half), ("PageUp", third)]
    for key, index in [*moves.items(), *episodes]:
        tab.press(key)
        tab.until(lambda index=index: shows(tab, recording, index), f"step {index} after {key}")
    tab.until(lambda: explained(tab, third), "its heat")

    box = tab.find("canvas.timeline").bounding_box()
    assert box is not None
    tab.page.mouse.click(box["x"] + box["width"] * 0.85, box["y"] + 50)
    tab.until(lambda: tab.step() > STEPS * 0.75, "the step at which the timeline was clicked")
    chosen = tab.step()
    assert chosen == pytest.approx(STEPS * 0.84, abs=STEPS * 0.05)
    tab.until(lambda: shows(tab, recording, chosen), "its frame")
    tab.until(lambda: explained(tab, chosen), "its heat, with the later policy")
    assert "v2" in tab.find(".card.explanation").inner_text()

    tab.page.get_by_label("Go to step", exact=True).fill("7")
    tab.page.get_by_label("Go to step", exact=True).press("Enter")
    tab.until(lambda: shows(tab, recording, 7), "step 7")
    assert tab.errors == []


def test_plays_pauses_and_repeats_a_range(address: str, recording: Recording, open_tab: Callable[..., Tab]) -> None:
    tab = open_tab(address)
    tab.until(lambda: shows(tab, recording, 0), "the first step")
    tab.find("select.speed").select_option("0.25")
    tab.press("Space")
    before = tab.canvas("frame")["data"]
    tab.until(lambda: tab.step() > 5 and tab.canvas("frame")["data"] != before, "other frames")
    tab.until(lambda: tab.alpha() > 0, "heat while it plays")
    tab.press("Space")
    tab.until(lambda: tab.find(".transport[data-mode=paused]").count(), "the pause")
    held = tab.step()
    tab.until(lambda: shows(tab, recording, held), "its frame")
    tab.page.wait_for_timeout(300)
    assert shows(tab, recording, held)
    tab.press("Home")  # however far it came until there was heat
    tab.until(lambda: tab.step() == 0, "the first step")

    box = tab.find("canvas.timeline").bounding_box()
    assert box is not None
    tab.page.keyboard.down("Shift")
    tab.page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 50)
    tab.page.mouse.down()
    tab.page.mouse.move(box["x"] + box["width"] * 0.55, box["y"] + 50, steps=3)
    tab.page.mouse.up()
    tab.page.keyboard.up("Shift")
    tab.until(lambda: tab.find("button.loop[aria-pressed=true]").count(), "the range")
    first = tab.until(lambda: tab.step() if tab.step() > STEPS * 0.4 else None, "its first step")
    tab.find("select.speed").select_option("4")
    tab.find("select.speed").blur()
    tab.press("Space")
    seen: list[int] = []
    tab.until(lambda: seen.append(tab.step()) or any(b < a for a, b in zip(seen, seen[1:], strict=False)), "a return")
    assert first <= min(seen) and max(seen) <= first + STEPS * 0.1
    assert tab.errors == []


def test_a_tab_that_is_loaded_anew_is_where_it_was(address: str, open_tab: Callable[..., Tab]) -> None:
    tab = open_tab("about:blank", shown=False)
    tab.page.add_init_script(
        "shown = []; document.addEventListener('agentwrap:painted', event => shown.push(event.detail.step))"
    )
    tab.open(address)
    tab.until(lambda: tab.step() == 0, "the first step")
    tab.page.get_by_label("Go to step", exact=True).fill("47")
    tab.page.get_by_label("Go to step", exact=True).press("Enter")
    tab.until(lambda: tab.step() == 47, "step 47")
    tab.find("button.loop").click()
    tab.find("button.loop[aria-pressed=true]").wait_for()
    tab.find("select.speed").select_option("0.25")
    kept = "sessionStorage.getItem('agentwrap-place') || ''"
    tab.until(lambda: '"speed":0.25' in tab.page.evaluate(kept), "the place to be kept")
    assert tab.step() == 47
    tab.page.reload(wait_until="commit")
    painted = "shown.filter(step => step !== null)"
    tab.until(lambda: tab.step() == 47 and tab.page.evaluate(painted), "step 47 again")
    assert set(tab.page.evaluate(painted)) == {47}, "another step was shown before"
    tab.find("button.loop[aria-pressed=true]").wait_for()
    tab.until(lambda: tab.find("select.speed").input_value() == "0.25", "its speed")

    tab.press("Space")
    tab.until(lambda: tab.step() > 49, "later steps")
    tab.page.reload(wait_until="commit")
    tab.find(".transport[data-mode=playing]").wait_for()
    tab.until(lambda: tab.step() > 49 and tab.page.evaluate(painted), "it to go on from there")
    assert min(tab.page.evaluate(painted)) >= STEPS // 3, "it left the range repeated"
    assert tab.errors == []


def test_a_torn_file_without_a_policy_plays_and_says_so(tmp_path: Path, open_tab: Callable[..., Tab]) -> None:
    path, torn = tmp_path / "run.mcap", tmp_path / "torn.mcap"
    env = InterpretWrapper(
        gym.make("CartPole-v1"), torch.nn.Linear(4, 2), record=path, quiet=True, endpoint="tcp://127.0.0.1:*"
    )
    env.reset(seed=1)
    for _ in range(400):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()
    env.close()
    torn.write_bytes(path.read_bytes()[:-3000])
    replay = Served("replay", torn)
    try:
        tab = open_tab(replay.address)
        told = tab.find(".notices[aria-live]")
        tab.until(lambda: "was not ended" in told.inner_text(), "the note of what was cut")
        tab.until(lambda: "no policy" in told.inner_text(), "why there are no maps")
        tab.press("Space")
        tab.until(lambda: tab.step() > 10, "steps")
        assert tab.errors == []
    finally:
        replay.close()


def test_a_run_that_is_still_recorded_is_followed(tmp_path: Path, open_tab: Callable[..., Tab]) -> None:
    path = tmp_path / "run.mcap"
    policy = demo.load_policy(demo.models_directory() / "enduro-expert.safetensors")
    env = InterpretWrapper(demo.make_enduro(), policy, record=path, weights_every=1e-9, quiet=True)
    demo.play(env, policy, steps=30, speed=0, seed=4)
    replay = None
    try:
        deadline = time.monotonic() + 60
        while not (path.stat().st_size > 10_000 and len(_steps(path)) == 30):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        replay = Served("replay", path, "--follow", "--moments", "action_flip", "--sigma", 0.2, "--share", 0.01)
        tab = open_tab(replay.address)
        tab.until(lambda: tab.step() == 0, "the first step")
        tab.press("End")
        tab.until(lambda: tab.step() == 29, "the newest step")
        with torch.no_grad():
            policy.critic.bias.add_(5.0)
        demo.play(env, policy, steps=20, speed=0, seed=5)
        tab.until(lambda: tab.step() == 49, "what was recorded since")
        tab.until(lambda: explained(tab, 49), "heat by the policy that is new")
        tab.until(lambda: "of 49" in tab.find(".transport .entry.step").inner_text(), "the length of now")
        env.close()
        with open_recording(path) as recording:
            flipped = [each.step for each in flips.find(recording, sigma=0.2, share=0.01)]
        assert flipped[-1] >= 30, "some of them in what was recorded since"
        tab.press("m")
        marks = tab.find(".moments .mark")
        tab.until(lambda: marks.evaluate_all("list => list.map(mark => +mark.dataset.step)") == flipped, "all flips")
        assert not tab.errors
    finally:
        env.close()
        if replay is not None:
            replay.close()


def _steps(path: Path) -> list[int]:
    with open_recording(path) as recording:
        return recording.array("step").tolist()


def test_action_flips_are_marked_as_they_are_found(
    run: Path, recording: Recording, open_tab: Callable[..., Tab]
) -> None:
    expected = {each.step for each in flips.find(recording, sigma=0.03, share=0.1)}
    assert expected
    with contextlib.closing(Served("replay", run, "--moments", "action_flip", "--sigma", 0.03, "--share", 0.1)) as page:
        tab = open_tab(page.address)
        tab.press("m")
        marks = tab.find(".moments .mark")
        found = "list => list.map(mark => [mark.dataset.kind, +mark.dataset.step])"
        wanted = sorted(["action_flip", step] for step in expected)
        tab.until(lambda: sorted(marks.evaluate_all(found)) == wanted, "all flips, and nothing else")
        assert tab.errors == []


def test_moments_are_marked_and_bookmarks_are_kept_beside_the_recording(
    run: Path, recording: Recording, open_tab: Callable[..., Tab], tmp_path: Path
) -> None:
    copy = shutil.copy(run, tmp_path / "run.mcap")
    with contextlib.closing(Served("replay", copy, "--moments", ",".join(KINDS))) as replay:
        tab = open_tab(replay.address)
        tab.until(lambda: shows(tab, recording, 0), "the first step")
        (changed,) = recording.moments(["policy_version"])
        for index in sorted({each.index for each in recording.moments() if 0 < each.index <= changed.index}):
            tab.press("n")
            tab.until(lambda index=index: shows(tab, recording, index), f"the moment at step {index}")
        tab.press("m")
        line = tab.find(".moments .mark.here[data-kind=policy_version]")
        tab.until(lambda: line.count() == 1 and "version 1 → 2" in line.inner_text(), "its line in the list")

        tab.press("b")
        note = tab.page.get_by_label(f"Note for step {changed.step}", exact=True)
        note.fill("here it learned")
        note.press("Enter")
        own = tab.find(".moments .mark[data-kind=bookmark]")
        tab.until(lambda: own.count() == 1 and "here it learned" in own.inner_text(), "the bookmark in the list")
        tab.press("Home")
        tab.until(lambda: shows(tab, recording, 0), "the first step")
        own.click()
        tab.until(lambda: shows(tab, recording, changed.index), "the bookmark's step")
        with open_recording(copy) as again:
            assert [(each.step, each.note) for each in again.bookmarks.all] == [(changed.step, "here it learned")]
        tab.press("Escape")
        assert tab.find(".moments").is_hidden()

        Path(f"{copy}.bookmarks.json").write_text("scribbled over")
        tab.press("b")
        tab.button("Remove").click()
        tab.until(
            lambda: "holds no bookmarks" in tab.find(".notices[aria-live]").inner_text(), "why it was not removed"
        )
        assert tab.errors == []


GROUPS = """async ([marks, wide]) => {
  const {grouped, marksNear} = await import(new URL("agentwrap-assets/marks.js", document.baseURI).href)
  const x = position => 56 + position * wide, groups = grouped(marks, x)
  return groups.map(group => ({...group, found: marksNear(groups, x, (group.left + group.right) / 2).length}))
}"""


@pytest.mark.parametrize("wide", [0.3, 2.0, 50.0])
def test_marks_that_would_lie_over_each_other_are_drawn_as_one(
    address: str, open_tab: Callable[..., Tab], wide: float
) -> None:
    marks = [{"position": 3 * index, "kind": "terminated" if index % 10 else "td_error"} for index in range(100)]
    marks[50]["kind"] = "bookmark"
    groups = open_tab(address).page.evaluate(GROUPS, [marks, wide])
    assert [mark for group in groups for mark in group["marks"]] == marks, "none is lost"
    assert all(one["right"] <= other["left"] for one, other in itertools.pairwise(groups))
    assert all(group["found"] == len(group["marks"]) for group in groups), "all can be pointed at"
    kinds = {"terminated": 89, "td_error": 10, "bookmark": 0}
    for group in groups:
        assert group["shown"]["kind"] == min((mark["kind"] for mark in group["marks"]), key=kinds.__getitem__)
    assert len(groups) == 100 if wide == 50 else len(groups) < 60


def test_controls_take_two_rows_on_a_phone(address: str, open_tab: Callable[..., Tab]) -> None:
    tab = open_tab(address, viewport={"width": 390, "height": 844})
    tab.until(lambda: tab.find(".transport.replay .time").inner_text(), "the bar")
    boxes = [part.bounding_box() for part in tab.find(".transport.replay .controls > *").all()]
    middles = sorted(box["y"] + box["height"] / 2 for box in boxes if box)
    assert len(middles) == 9 and sum(after - before > 8 for before, after in itertools.pairwise(middles)) == 1
    assert all(0 <= box["x"] and box["x"] + box["width"] <= 390 for box in boxes if box)
