"""What the tab's connection makes of the bytes that come."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from e2e.harness import Tab, World

INFLATE = """async ([text, size]) => {
  const {inflate} = await import(new URL("agentwrap-assets/inflate.js", document.baseURI).href)
  try {
    const bytes = inflate(Uint8Array.from(atob(text), letter => letter.charCodeAt(0)), size)
    let out = ""
    for (let k = 0; k < bytes.length; k += 8192) out += String.fromCharCode(...bytes.subarray(k, k + 8192))
    return btoa(out)
  } catch (error) { return `refused: ${error.message}` }
}"""

RNG = np.random.default_rng(3)
CONTENTS = {
    "nothing": b"",
    "one byte": b"\x07",
    "zeros": bytes(100_000),
    "a picture of few colours": np.repeat(RNG.integers(0, 9, 3000, dtype=np.uint8), 37).tobytes(),
    "text": " ".join(map(str, RNG.integers(0, 5000, 5000))).encode(),
    "noise": RNG.bytes(70_000),
    "noise of four values": RNG.integers(0, 4, 50_000, dtype=np.uint8).tobytes(),
}


def deflate(content: bytes, level: int, strategy: int) -> bytes:
    compressor = zlib.compressobj(level, strategy=strategy)
    return compressor.compress(content) + compressor.flush()


WATCH = """() => {
  window.steps = []
  document.addEventListener("agentwrap:painted", event => window.steps.push(event.detail.step))
}"""


def test_steps_that_come_at_once_are_painted_one_after_the_other(world: World, open_tab: Callable[..., Tab]) -> None:
    tab = open_tab(world.address)
    world.agent.play(20)
    tab.until(lambda: tab.step() >= 0, "a first step")
    world.agent.pause()
    tab.until(lambda: tab.step() == world.agent.number - 1, "the last step")
    first = world.agent.number
    tab.page.evaluate(WATCH)

    def both() -> None:
        world.agent.take_step()
        world.agent.take_step()

    for _ in range(5):
        newest = world.agent.number + 1
        world.viewer.do(both)  # on the server's loop: it sees them together
        tab.until(lambda newest=newest: tab.step() == newest, "the second of two steps")
    expected = set(range(first, first + 10))
    steps = tab.until(lambda: set(steps := tab.page.evaluate("window.steps")) >= expected and steps, "each of them")
    assert steps == sorted(steps)


@pytest.fixture
def inflate(world: World, open_tab: Callable[..., Tab]) -> Callable[[bytes, int], bytes | str]:
    tab = open_tab(world.address)

    def ask(data: bytes, size: int) -> bytes | str:
        answer: str = tab.page.evaluate(INFLATE, [base64.b64encode(data).decode(), size])
        return answer if answer.startswith("refused") else base64.b64decode(answer)

    return ask


def test_inflates_what_zlib_deflated(inflate: Callable[[bytes, int], bytes | str]) -> None:
    for name, content in CONTENTS.items():
        for level in (0, 1, 9):
            for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED, zlib.Z_HUFFMAN_ONLY):
                assert inflate(deflate(content, level, strategy), len(content)) == content, (name, level, strategy)


def test_refuses_what_is_cut_off_damaged_or_of_another_size(inflate: Callable[[bytes, int], bytes | str]) -> None:
    content = CONTENTS["text"]
    data = deflate(content, 6, zlib.Z_DEFAULT_STRATEGY)
    bad = [
        (data[: len(data) // 2], len(content)),
        (data[:1], len(content)),
        (data, len(content) - 1),
        (data, len(content) + 1),
        (b"\x78\x01" + b"\xff" * 100, len(content)),
        (b"PK" + data[2:], len(content)),
        (deflate(content, 0, zlib.Z_DEFAULT_STRATEGY)[:5000], len(content)),
        (deflate(b"a" * 9, 6, zlib.Z_FIXED)[:2] + b"\x03\x82\x00", 3),  # a copy from before the beginning
    ]
    for data, size in bad:
        answer = inflate(data, size)
        assert isinstance(answer, str) and answer.startswith("refused"), (data[:10], size, answer)
