"""Two policies on one recording in Chromium, and the choice of a version on the page of replay."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from e2e.harness import Served, Tab
from listener import eventually
from recordings import record_cartpole, steps_in

from agentwrap import InterpretWrapper, demo
from agentwrap_viewer import open_recording

#: Steps recorded by the barely trained agent, and then by the well trained one.
STEPS = 40


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("compare") / "run.mcap"
    policy, expert = (demo.load_policy(weights(name)) for name in ("novice", "expert"))
    env = InterpretWrapper(
        demo.make_enduro(), policy, record=path, weights_every=1e-9, quiet=True, endpoint="tcp://127.0.0.1:*"
    )
    demo.play(env, policy, steps=STEPS, speed=0, seed=4)
    policy.load_state_dict(expert.state_dict())
    demo.play(env, policy, steps=STEPS, speed=0, seed=5)
    env.close()
    return path


def weights(name: str) -> Path:
    return demo.models_directory() / f"enduro-{name}.safetensors"


@pytest.fixture
def served() -> Iterator[Callable[..., Served]]:
    begun: list[Served] = []

    def start(name: str, *arguments: object) -> Served:
        begun.append(Served(name, *arguments))
        return begun[-1]

    yield start
    for each in begun:
        each.close()


def pixels(tab: Tab, side: str, canvas: str) -> np.ndarray[Any, Any]:
    """RGBA of a side's canvas ``frame`` or ``heat``."""
    found = tab.find(f".slot.{side} canvas.{canvas}").evaluate(
        "c => ({shape: [c.height, c.width, 4], data: "
        "Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)})"
    )
    return np.array(found["data"], np.uint8).reshape(found["shape"])


def marks(tab: Tab) -> int:
    text = tab.find(".transport.replay").inner_text()
    found = re.search(r"Moments\s*([\d,]+)", text)
    return int(found[1].replace(",", "")) if found else 0


def test_both_policies_explain_the_same_frame_and_disagreements_are_a_key_away(
    run: Path, served: Callable[..., Served], open_tab: Callable[..., Tab]
) -> None:
    page = served("compare", run, "--policies", weights("novice"), weights("expert"))
    tab = open_tab(page.address)
    tab.until(lambda: tab.find(".agreement .known dd").inner_text() == "all", "both policies' outputs of all steps")
    with open_recording(run) as recording:
        found = np.array([recording.steps[index].arrays["frame"] for index in (0, 1)])
        observations = torch.from_numpy(recording.observations())
    for side in ("left", "difference", "right"):
        tab.until(lambda side=side: np.array_equal(pixels(tab, side, "frame")[..., :3], found[0]), f"the frame, {side}")
        tab.until(lambda side=side: pixels(tab, side, "heat")[..., 3].max() > 0, f"heat, {side}")
        tab.until(lambda side=side: "100 %" in tab.find(f".slot.{side} .share").inner_text(), f"all of it, {side}")
    assert not np.array_equal(pixels(tab, "left", "heat"), pixels(tab, "right", "heat"))
    assert [tab.find(f".slot.{side} h2").inner_text() for side in ("left", "right")] == ["novice", "expert"]

    with torch.no_grad():
        logits = [demo.load_policy(weights(name))(observations)[0] for name in ("novice", "expert")]
    best = [each.argmax(1).numpy() for each in logits]
    disagree = best[0] != best[1]
    assert 0 < disagree.sum() < len(disagree)
    shown = tab.find(".contrast .row").nth(int(best[1][0])).locator(".value.right").inner_text()
    assert shown == f"{100 * float(logits[1].softmax(1)[0].max()):.1f}"

    same = (best[0][1:] == best[0][:-1]) & (best[1][1:] == best[1][:-1])
    begins = np.flatnonzero(disagree & ~np.concatenate([[False], disagree[:-1] & same]))
    tab.until(lambda: marks(tab) == len(begins), "their marks")
    later = [int(position) for position in begins if position > 0]
    for position in later[:3]:
        tab.press("n")
        tab.until(lambda position=position: tab.step() == position, f"the disagreement at {position}")
        tab.until(lambda: "differently" in tab.find(".agreement .caption").inner_text(), "what it says of it")
    tab.press("p")
    tab.until(lambda: tab.step() == later[1], "the one before")
    tab.until(lambda: pixels(tab, "difference", "heat")[..., 3].max() > 0, "the difference there")
    assert tab.errors == []


def test_versions_of_vectors_are_compared_by_feature(
    tmp_path: Path, served: Callable[..., Served], open_tab: Callable[..., Tab]
) -> None:
    tab = open_tab(served("compare", record_cartpole(tmp_path / "run.mcap"), "--versions", 1, 3).address)
    tab.until(lambda: tab.find(".agreement .known dd").inner_text() == "all", "both policies' outputs of all steps")
    for side in ("left", "right"):
        card = tab.find(f".slot.features_{side}")
        tab.until(lambda card=card: card.locator(".key").count() > 0, f"scores, {side}")
    texts = tab.until(
        lambda: all(found := [tab.find(f".agreement .{side} dd").inner_text() for side in ("left", "right")]) and found,
        "the values",
    )
    values = [float(text) for text in texts]
    assert values[1] - values[0] == pytest.approx(2, abs=0.05)
    assert "same" in tab.find(".agreement .caption").inner_text() and marks(tab) == 0
    difference = tab.find(".slot.features_difference")
    tab.until(lambda: difference.locator(".key").count() == 2, "the difference of both")
    assert difference.locator(".key").all_inner_texts() == ["more in version 1", "more in version 3"]
    assert difference.locator(".head:visible").all_inner_texts() == ["feature\nscore\nvalue"]
    assert tab.errors == []


def choose(tab: Tab, version: str) -> None:
    """Choose the version of the policy, and leave the control: a select that has the focus keeps the keys to itself."""
    tab.choose("Policy version", version)
    tab.find(".brand").click()


def test_a_frame_is_explained_with_the_version_that_is_chosen(
    run: Path, served: Callable[..., Served], open_tab: Callable[..., Tab]
) -> None:
    tab = open_tab(served("replay", run).address)

    def explained_by(version: int) -> bool:
        return f"v{version}" in tab.find(".card.explanation").inner_text() and tab.alpha() > 0

    tab.until(lambda: explained_by(1), "a map by the policy that acted")
    tab.until(lambda: "100 %" in tab.find(".stage .share").inner_text(), "all of it")
    own = tab.canvas("heat")["data"]
    choose(tab, "version 2")
    tab.until(lambda: explained_by(2) and tab.canvas("heat")["data"] != own, "a map by the other one")
    tab.until(lambda: "100 %" in tab.find(".stage .share").inner_text(), "all of it")
    assert not tab.find(".notice.replica").count(), "another policy computes something else: that is no fault"
    tab.press("End")
    tab.until(lambda: tab.step() == 2 * STEPS - 1 and explained_by(2), "the last step")
    choose(tab, "the one of each step")
    tab.press("Home")
    tab.until(lambda: tab.step() == 0 and explained_by(1), "the first step by its own policy")
    assert tab.errors == []


def test_the_recording_that_is_installed_along_opens_and_its_weights_are_found(
    served: Callable[..., Served], open_tab: Callable[..., Tab]
) -> None:
    tab = open_tab(served("compare").address)
    for side in ("left", "difference", "right"):
        tab.until(lambda side=side: pixels(tab, side, "heat")[..., 3].max() > 0, f"heat, {side}")
    assert [tab.find(f".slot.{side} h2").inner_text() for side in ("left", "right")] == ["novice", "expert"]
    tab.until(lambda: marks(tab) > 0, "disagreements")
    assert tab.errors == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--versions", "1", "17"], "no version 17 of the policy; it has 1 and 2"),
        (["--versions", "1", "1"], "cannot be compared with itself"),
        (["--versions", "1"], "two policies are compared, 1 are given"),
        (["--policies", "nowhere.safetensors", "b"], "nowhere.safetensors cannot be read"),
    ],
)
def test_what_cannot_be_compared_is_said_and_nothing_is_served(run: Path, arguments: list[str], says: str) -> None:
    command = [sys.executable, "-m", "agentwrap_viewer", "compare", str(run), "--no-browser", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1 and says in done.stderr and "Traceback" not in done.stderr


def test_a_run_that_is_still_recorded_is_followed(
    tmp_path: Path, served: Callable[..., Served], open_tab: Callable[..., Tab]
) -> None:
    path, policy = tmp_path / "run.mcap", demo.load_policy(weights("novice"))
    env = InterpretWrapper(demo.make_enduro(), policy, record=path, weights_every=1e-9, quiet=True)
    demo.play(env, policy, steps=20, speed=0, seed=4)
    try:
        eventually(lambda: path.stat().st_size > 10_000 and len(steps_in(path)) == 20)
        page = served("compare", path, "--policies", weights("novice"), weights("expert"), "--follow")
        tab = open_tab(page.address)
        known = tab.find(".agreement .known dd")
        tab.until(lambda: known.inner_text() == "all", "both policies' outputs of all steps")
        tab.press("End")
        policy.load_state_dict(demo.load_policy(weights("expert")).state_dict())  # a version more, while two are added
        demo.play(env, policy, steps=20, speed=0, seed=5)
        tab.until(lambda: tab.step() == 39, "what was recorded since")
        tab.until(lambda: tab.find(".contrast .row .value.right").first.inner_text() != "", "what both compute of it")
        tab.until(lambda: known.inner_text() == "all", "outputs of what was recorded since")
        for side in ("left", "difference", "right"):
            tab.until(lambda side=side: pixels(tab, side, "heat")[..., 3].max() > 0, f"heat, {side}")
        assert tab.errors == []
    finally:
        env.close()
