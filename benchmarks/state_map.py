"""The state map: frames per second while 100,000 points are dragged about, what a layout takes, and how good it is.

Chromium draws without a GPU here, as the map does anyhow: it writes its points into the canvas's pixels.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright
from sklearn.manifold import trustworthiness

from agentwrap_protocol.messages import Hello, PolicyInfo, Step
from agentwrap_protocol.spaces import Box, Discrete
from agentwrap_viewer.recording.writer import RecordingWriter
from agentwrap_viewer.states import Atlas

from .processes import chromium_flags
from .report import Row, run

TITLE = "State map"

#: Numbers of each latent; states come in so many groups, each visited again and again.
SIZE, GROUPS = 32, 40

#: Moves the pointer that is held down with each of the browser's frames; notes the milliseconds between two of them.
DRAG = """([x, y]) => {
  const canvas = document.querySelector("html").agentwrapOverlay
  window.drawn = []
  let last = performance.now(), turns = 0
  const turn = now => {
    window.drawn.push(now - last)
    last = now
    turns++
    const place = {clientX: x + 120 * Math.sin(turns / 15), clientY: y + 80 * Math.cos(turns / 11)}
    canvas.dispatchEvent(new PointerEvent("pointermove", {pointerId: 1, bubbles: true, ...place}))
    requestAnimationFrame(turn)
  }
  requestAnimationFrame(turn)
}"""


def hello() -> Hello:
    """An agent whose observations nobody looks at."""
    return Hello(
        stream="b" * 32,
        name="bench",
        env_id="Bench-v0",
        observation_space=Box(shape=(4,), dtype="float32", low=-1, high=1),
        action_space=Discrete(n=6),
        policy=PolicyInfo(type="Bench", outputs=("logits", "value")),
    )


def made_steps(count: int, size: int = SIZE) -> list[Step]:
    """Steps whose latents lie in groups, along a slow drift."""
    random = np.random.default_rng(0)
    centres = 3 * random.normal(size=(GROUPS, size))
    group = np.repeat(random.integers(GROUPS, size=-(-count // 25)), 25)[:count]
    latents = (centres[group] + random.normal(size=(count, size))).astype(np.float32)
    logits = random.normal(size=(count, 6)).astype(np.float32)
    return [
        Step(
            stream="b" * 32,
            seq=number,
            time=1e9 + number / 60,
            step=number,
            episode=number // 1000,
            episode_step=number % 1000,
            reward=0.0,
            episode_return=0.0,
            terminated=False,
            truncated=False,
            arrays={
                "output/latent": latents[number],
                "output/logits": logits[number],
                "output/value": np.array(group[number], np.float32),
                "action": np.array(logits[number].argmax()),
            },
        )
        for number in range(count)
    ]


def layouts(points: int = 2000, size: int = 512) -> list[Row]:
    """Time a t-SNE, one that goes on from it, and the placing of new points; say how far neighbours are kept."""
    atlas = Atlas(hello())
    steps = made_steps(2 * points, size)
    rows: list[Row] = []

    def row(what: str, began: float, before: Any = None) -> None:
        count = len(atlas)
        xy, latents = atlas.xy[:count], atlas.memory.latents(np.arange(count))
        moved = np.linalg.norm(xy[: len(before)] - before, axis=1) if before is not None else None
        rows.append(
            {
                "benchmark": "layouts",
                "what": what,
                "points": count,
                "seconds": round(time.perf_counter() - began, 2),
                "trustworthiness": round(float(trustworthiness(latents, xy, n_neighbors=12)), 3),
                "moved": None if moved is None else round(float(np.median(moved) / xy.std()), 3),
            }
        )

    began = time.perf_counter()
    atlas.add(steps[:points])
    row("principal components", began)
    began = time.perf_counter()
    atlas.fit()
    row("t-SNE", began)
    before, began = atlas.xy[:points].copy(), time.perf_counter()
    atlas.add(steps[points:])
    row("as many new points placed", began, before)
    before, began = atlas.xy[: len(atlas)].copy(), time.perf_counter()
    atlas.fit()
    row("t-SNE again", began, before)
    return rows


def panning(points: int, seconds: float) -> list[Row]:
    """Drag the map of a recording about in Chromium."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.mcap"
        with RecordingWriter(path, hello()) as writer:
            for step in made_steps(points):
                writer.add(step)
        command = [sys.executable, "-m", "agentwrap_viewer", "replay", "--no-browser", "--port", "0", str(path)]
        viewer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert viewer.stdout is not None
            address = re.search(r"http://\S+/", viewer.stdout.readline())
            assert address is not None
            return [_watch(address[0], points, seconds)]
        finally:
            viewer.terminate()
            viewer.wait(30)


def _watch(address: str, points: int, seconds: float) -> Row:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=chromium_flags())
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        began = time.perf_counter()
        page.goto(f"{address}#states")
        page.locator(f".card.states[data-count='{points}']").wait_for(timeout=150_000)
        shown = time.perf_counter() - began
        page.get_by_label("Layout").select_option("pca")  # the background has other things to do than what is measured
        page.wait_for_timeout(4000)
        intervals = _drag(page, seconds)
        browser.close()
    return {
        "benchmark": "panning",
        "points": points,
        "seconds_until_all_are_there": round(shown, 1),
        "frames_per_s": round(1000 * len(intervals) / sum(intervals), 1),
        "frame_ms_p95": round(float(np.percentile(intervals, 95)), 1),
    }


def _drag(page: Page, seconds: float) -> list[float]:
    box = page.locator("canvas.overlay").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    canvas = page.locator("canvas.overlay")
    canvas.evaluate("overlay => { document.documentElement.agentwrapOverlay = overlay }")  # it lies in a shadow root
    drawn = int(page.locator(".card.states").get_attribute("data-drawn") or 0)
    page.evaluate(DRAG, [x, y])
    page.wait_for_timeout(1000 * seconds)
    intervals: list[float] = page.evaluate("window.drawn.slice(1)")
    moved = int(page.locator(".card.states").get_attribute("data-drawn") or 0) - drawn
    assert moved > 0.9 * len(intervals), f"the map was drawn {moved} times in {len(intervals)} frames"
    return intervals


def measure(*, points: int = 100_000, seconds: float = 8.0) -> list[Row]:
    """Measure both."""
    return [*layouts(), *panning(points, seconds)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options."""
    parser.add_argument("--points", type=int, default=100_000, help="points on the map")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long to drag")


if __name__ == "__main__":
    run(TITLE, add_arguments, measure)
