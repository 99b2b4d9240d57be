"""What a policy computes, as the page draws it: masked options struck through, continuous actions as intervals."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import msgspec
import numpy as np
from e2e.harness import Tab, World
from fakes import FakeAgent, hello, step

from agentwrap_protocol.messages import DistributionInfo
from agentwrap_protocol.spaces import Box

Open = Callable[..., Tab]


#: Of each row, as shares of its track: where the interval begins and ends, and where the action is marked. All of them
#: are looked up at once, for the page may be laid out anew at any time.
INTERVALS = """rows => rows.map(row => {
  const [track, fill, mark] = [".track", ".fill", ".mark"].map(part => row.querySelector(part).getBoundingClientRect())
  return [fill.left, fill.right, mark.left + mark.width / 2].map(x => (x - track.left) / track.width)
})"""


def rows(tab: Tab) -> list[str]:
    return [text.replace("\n", " ") for text in tab.find(".card.policy .row").all_inner_texts()]


def test_masked_options_are_struck_through_and_have_no_probability(world: World, open_tab: Open) -> None:
    def masked(number: int) -> object:
        made = step(number)
        free = np.arange(9) != 2
        return msgspec.structs.replace(made, arrays={**made.arrays, "action_mask": free})

    world.agent.make_step = masked
    tab = open_tab(world.address)
    world.agent.play(10)
    tab.until(lambda: len(rows(tab)) == 9 and "masked" in rows(tab)[2], "the masked option")
    row = tab.find(".card.policy .row").nth(2)
    lines = "each => getComputedStyle(each).textDecorationLine"
    assert row.locator(".name").evaluate(lines) == "line-through"
    assert tab.find(".card.policy .row").nth(3).locator(".name").evaluate(lines) == "none"
    assert row.get_attribute("title").endswith("masked, could not be chosen")
    assert not tab.errors


def test_bars_of_q_values_begin_at_zero(world: World, open_tab: Open) -> None:
    arrays = {"observation": np.zeros(3, np.float32), "action": np.array(0), "output/q_values": np.float32([-4, -1, 2])}
    world.agent.make_step = lambda number: step(number, arrays=arrays)
    tab = open_tab(world.address)
    world.agent.play(10)
    drawn = tab.until(lambda: tab.find(".card.policy[data-kind=q_values] .row").evaluate_all(INTERVALS), "the bars")
    np.testing.assert_allclose([bar[:2] for bar in drawn], [[0, 2 / 3], [1 / 2, 2 / 3], [2 / 3, 1]], atol=0.02)
    assert tab.find(".card.policy .bars.zeroed").count(), "a line says where zero is"


ALIGNED = """async scales => {
  const {alignedAtZero} = await import(new URL("agentwrap-assets/policy.js", document.baseURI).href)
  return alignedAtZero(scales).map(({low, high}) => [low, high])
}"""


def test_q_values_of_two_policies_have_one_zero_and_a_scale_each(world: World, open_tab: Open) -> None:
    tab, ends = open_tab(world.address), [(-10.0, 2.0), (0.0, 0.5), (-1.0, 0.0)]
    for pair in itertools.permutations(ends, 2):
        scales = tab.page.evaluate(ALIGNED, [{"low": low, "high": high} for low, high in pair])
        zeros = [-low / (high - low) for low, high in scales]
        assert abs(zeros[0] - zeros[1]) < 1e-9
        for (low, high), (least, greatest) in zip(scales, pair, strict=True):
            assert low <= least and high >= greatest and (low == least or high == greatest), "as large as can be"


def test_gaussian_is_an_interval_between_its_own_bounds(make_world: Callable[..., World], open_tab: Open) -> None:
    told = msgspec.structs.replace(
        hello().policy, distribution=DistributionInfo(kind="gaussian", low=(-1.0, 0.0), high=(1.0, 4.0))
    )
    space = Box(shape=(2,), dtype="float32", low=-1.0, high=4.0)

    def drawn(number: int) -> object:
        arrays = {
            "observation": np.zeros(3, np.float32),
            "action": np.array([0.5, 1.0], np.float32),
            "output/mean": np.array([0.0, 2.0], np.float32),
            "output/log_std": np.log(np.array([0.5, 1.0], np.float32)),
        }
        return step(number, arrays=arrays)

    agent = FakeAgent(make_step=drawn, action_space=space, action_meanings=("hip", "knee"), policy=told)
    world = make_world(agent=agent)
    tab = open_tab(world.address)
    world.agent.play(10)
    tab.until(lambda: tab.find(".card.policy .row .mark").count() == 2, "two intervals")
    tab.until(lambda: tab.find(".card.policy .name").all_inner_texts() == ["hip", "knee"], "their names")
    drawn_at = tab.find(".card.policy .row").evaluate_all(INTERVALS)
    np.testing.assert_allclose(drawn_at, [(0.25, 0.75, 0.75), (0.25, 0.75, 0.25)], atol=0.02)
    assert not tab.errors
