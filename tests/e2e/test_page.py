"""The page in Chromium: what is drawn is what was sent, and every control does what it says."""

from __future__ import annotations

import io
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from e2e.harness import Tab, Viewer, World
from fakes import FakeAgent, FakeExplainer, frame_of, hello, saliency_map, step
from PIL import Image
from playwright.sync_api import Locator

from agentwrap_protocol.messages import Configure, Explain, PolicyInfo, SaliencyMap, Step

Open = Callable[..., Tab]


def without(made: Step, *names: str) -> Step:
    arrays = {name: array for name, array in made.arrays.items() if name not in names}
    return msgspec.structs.replace(made, arrays=arrays)


def shown_pixels(tab: Tab) -> np.ndarray:
    canvas = tab.canvas("frame")
    return np.array(canvas["data"], np.uint8).reshape(canvas["height"], canvas["width"], 4)


def test_draws_the_frame_exactly_and_the_heat_where_it_is(world: World, open_tab: Open) -> None:
    tab = open_tab(world.address)
    world.agent.play(20)
    tab.until(lambda: tab.step() > 3, "steps")
    world.agent.pause()
    last = world.agent.newest
    assert last is not None
    tab.until(lambda: tab.step() == last.step, "the last step")

    pixels = shown_pixels(tab)
    np.testing.assert_array_equal(pixels[..., :3], frame_of(last.step))
    assert (pixels[..., 3] == 255).all()

    tab.until(lambda: tab.alpha() > 0, "heat")
    heat = tab.canvas("heat")
    assert (heat["width"], heat["height"]) == (84, 84)
    rgba = np.array(heat["data"]).reshape(84, 84, 4)
    actor, critic, nothing = rgba[20, 20], rgba[60, 60], rgba[40, 75]
    assert actor[2] > actor[0] and actor[3] > 150, "the actor's heat is blue"
    assert critic[0] > critic[2] and critic[3] > 150, "the critic's heat is red"
    assert nothing[3] == 0
    assert tab.hosts <= {world.address.split("/")[2]}, "something was asked from outside"
    assert tab.errors == []


def test_frames_change_while_the_agent_plays(world: World, open_tab: Open) -> None:
    tab = open_tab(world.address)
    world.agent.play(30)
    tab.until(lambda: tab.step() >= 0, "a first step")
    first = shown_pixels(tab)
    tab.until(lambda: not np.array_equal(shown_pixels(tab), first), "another frame")


def test_controls_of_the_heat_change_its_pixels(world: World, open_tab: Open) -> None:
    tab = open_tab(world.address)
    world.agent.play(20)
    full = tab.until(tab.alpha, "heat")

    opacity = tab.slider("Opacity")
    opacity.press("Home")
    tab.until(lambda: tab.alpha() == 0, "no opacity")
    opacity.press("End")
    tab.until(lambda: tab.alpha() > full, "full opacity")

    tab.button("Critic").click()

    def critics_alone() -> bool:
        heat = np.array(tab.canvas("heat")["data"]).reshape(84, 84, 4)
        return heat[20, 20, 3] == 0 and heat[60, 60, 3] > 0

    tab.until(critics_alone, "the critic's heat alone")
    tab.button("None").click()
    tab.until(lambda: tab.alpha() == 0, "no heat")


def sarfas_option(tab: Tab) -> Locator:
    return tab.page.get_by_role("combobox", name="mode What hides a spot.")


def test_a_method_chosen_reaches_the_explainer_and_draws_its_options(world: World, open_tab: Open) -> None:
    tab = open_tab(world.address)
    world.agent.play(10)
    tab.until(tab.slider("radius").count, "the first method's options")
    tab.choose("Method", "SARFA")
    asked = tab.until(lambda: [r for r in world.explainer.requests if isinstance(r, Configure) and r.method], "request")
    assert asked[-1].method == "sarfa"
    tab.until(lambda: not tab.slider("radius").count() and sarfas_option(tab).count(), "its own options")


def test_keys_work_again_after_a_control_was_used_with_the_mouse(world: World, open_tab: Open) -> None:
    tab = open_tab(world.address)
    world.agent.play(20)
    tab.until(lambda: tab.step() > 5 and tab.slider("radius").count(), "steps and the method's options")

    def pauses(after: str) -> None:
        tab.press("Space")
        tab.until(lambda: tab.find(".transport[data-mode=paused]").count(), f"the pause after {after}")
        tab.press("End")
        tab.until(lambda: tab.find(".transport[data-mode=live]").count(), "live again")

    tab.choose("Method", "SARFA")
    tab.until(sarfas_option(tab).count, "the choice")
    pauses("a choice by mouse")
    tab.switch("Smooth").click()
    pauses("a switch")
    tab.button("Critic").click()
    pauses("a button")
    slider = tab.slider("Opacity")
    slider.locator("xpath=ancestor::span[contains(@class, 'MuiSlider-root')]").click(position={"x": 60, "y": 5})
    value = tab.until(lambda: (now := slider.input_value()) != "0.75" and now, "another opacity")
    tab.press("Space")
    tab.until(lambda: tab.find(".transport[data-mode=paused]").count(), "the pause after a slider")
    tab.press("ArrowRight")
    tab.until(lambda: float(slider.input_value()) > float(value), "a slider that is set finely by keys")
    tab.find(".transport button.live").click()
    tab.until(lambda: tab.find(".transport[data-mode=live]").count(), "live again")

    method, listed = tab.select("Method"), tab.page.get_by_role("listbox")
    method.focus()
    tab.page.keyboard.press("ArrowDown")
    tab.page.get_by_role("menuitem", name="Perturbation").wait_for()
    tab.page.keyboard.press("ArrowUp")
    tab.page.keyboard.press("Enter")
    tab.until(lambda: tab.slider("radius").count() and not listed.count(), "the choice")
    tab.until(lambda: method.evaluate("node => node.getRootNode().activeElement === node"), "the keyboard's focus back")
    tab.page.keyboard.press("Space")
    tab.page.get_by_role("menuitem", name="SARFA").wait_for()
    assert tab.find(".transport[data-mode=live]").count(), "a key of the select's own paused"


def test_an_explainer_that_appears_while_a_tab_loads_can_be_set(world: World, open_tab: Open) -> None:
    viewer = Viewer(world.agent.endpoint, None)
    tab = open_tab(viewer.server.address)
    viewer.do(lambda: viewer.receiver.explain_with(world.explainer.endpoint, world.explainer.control))
    try:
        tab.until(tab.slider("radius").count, "the method's options")
    finally:
        viewer.close()


def test_pause_step_and_live_move_this_tab_alone(world: World, open_tab: Open) -> None:
    tab, other = open_tab(world.address), open_tab(world.address)
    world.agent.play(30)
    tab.until(lambda: tab.step() > 20, "steps")
    tab.press("Space")
    tab.until(lambda: tab.find(".transport[data-mode=paused]").count(), "the pause")
    held = tab.step()
    pixels = shown_pixels(tab)
    other.until(lambda: other.step() > held + 10, "the other tab going on")
    assert tab.step() == held
    np.testing.assert_array_equal(pixels[..., :3], frame_of(held))

    tab.press("ArrowLeft")
    tab.until(lambda: tab.step() == held - 1, "one step back")
    tab.press("ArrowRight")
    tab.press("ArrowRight")
    tab.until(lambda: tab.step() == held + 1, "two steps on")
    tab.until(lambda: np.array_equal(shown_pixels(tab)[..., :3], frame_of(held + 1)), "its frame")

    tab.find(".transport button.live").click()
    tab.until(lambda: tab.step() > held + 10, "the newest step again")


def test_a_paused_step_without_a_map_is_asked_for(world: World, open_tab: Open) -> None:
    world.agent.on_step = None
    tab = open_tab(world.address)
    world.agent.play(20)
    tab.until(lambda: tab.step() > 2, "steps")
    assert tab.alpha() == 0
    tab.press("Space")
    asked = tab.until(lambda: [r for r in world.explainer.requests if isinstance(r, Explain)], "a request")
    tab.until(lambda: tab.alpha() > 0, "its map")
    tab.until(lambda: asked[0].step == tab.step(), "the step that was asked for")
    assert {"observation", "output/logits"} <= set(asked[0].arrays) and "frame" not in asked[0].arrays


def test_waiting_for_the_map_shows_the_newest_step_that_has_one(world: World, open_tab: Open) -> None:
    world.agent.make_step = lambda number: step(number, time=1e9 + number / 20)  # also where the machine is slower
    world.agent.on_step = lambda made: made.step % 10 == 0 and world.explainer.explain(made)
    tab = open_tab(world.address)
    world.agent.play(20)
    tab.until(tab.alpha, "heat")
    tab.switch("Wait for the map").click()
    tab.until(lambda: tab.find(".transport[data-follow=mapped]").count(), "the view following the maps")
    seen = {tab.until(lambda: (tab.page.wait_for_timeout(40), tab.step())[1], "a step") for _ in range(20)}
    assert all(number % 10 == 0 for number in seen), seen


def test_slow_motion_and_the_keys_of_a_control(world: World, open_tab: Open) -> None:
    tab = open_tab(world.address)
    world.agent.play(30)
    tab.until(lambda: tab.step() > 5, "steps")
    tab.find(".transport select.speed").select_option("0.1")
    tab.until(lambda: tab.find(".transport[data-mode=playing]").count(), "slow motion")
    tab.until(lambda: world.agent.number - tab.step() > 20, "the view falling behind")
    tab.find(".transport select.speed").press("ArrowLeft")
    assert tab.find(".transport[data-mode=paused]").count() == 0, "a key meant for the select paused the view"
    tab.page.keyboard.press("Escape")


def test_a_signed_map_is_drawn_for_and_against_though_it_be_negative_throughout(world: World, open_tab: Open) -> None:
    heat = np.full((84, 84), -0.5, np.float32)
    heat[10:30, 10:30] = -4.0
    signed = {"targets": ("chosen",), "scale": "signed", "method": "gradient"}
    world.explainer.make_map = lambda of: saliency_map(of, arrays={"heatmap/chosen": heat}, **signed)
    tab = open_tab(world.address)
    world.agent.play(20)
    legend = tab.find(".stage .legend")
    at_center = "c => Array.from(c.getContext('2d').getImageData(20, 20, 1, 1).data)"

    def colour_but(other: list[int] | None) -> list[int] | None:
        drawn = tab.find(".stage canvas.heat").evaluate(at_center)
        return drawn[:3] if drawn[3] > 150 and drawn[:3] != other else None  # a step may have no map yet

    against = tab.until(lambda: colour_but(None), "heat")
    tab.until(lambda: "raises preferred action" in (text := legend.inner_text()) and "lowers" in text, "the legend")
    world.explainer.make_map = lambda of: saliency_map(of, arrays={"heatmap/chosen": -heat}, **signed)
    favour = tab.until(lambda: colour_but(against), "the other colour")
    colour = "k => getComputedStyle(k, '::before').backgroundColor.match(/\\d+/g).map(Number)"
    for name, drawn in (("against", against), ("for", favour)):
        key = tab.find(f".stage .key.{name}").evaluate(colour)
        assert np.abs(np.subtract(key, drawn)).max() <= 3, f"the legend's colour {name} is not the heat's"


def test_a_score_that_dwarfs_the_others_need_not_hide_them(world: World, open_tab: Open) -> None:
    heat = np.full((84, 84), 0.1, np.float32)
    heat[0, 0] = 10.0
    world.explainer.make_map = lambda of: saliency_map(of, targets=("chosen",), arrays={"heatmap/chosen": heat})
    tab = open_tab(world.address)
    world.agent.play(10)
    tab.until(lambda: tab.alpha() > 150, "heat")
    at_center = "c => c.getContext('2d').getImageData(40, 40, 1, 1).data[3]"
    assert tab.find(".stage canvas.heat").evaluate(at_center) < 5
    tab.choose("Full colour", "99 % of this map")
    tab.until(lambda: tab.find(".stage canvas.heat").evaluate(at_center) > 150, "the other scores")


def test_an_unfinished_map_says_how_far_it_is(world: World, open_tab: Open) -> None:
    world.explainer.make_map = lambda of: saliency_map(of, refined=0.376)
    tab = open_tab(world.address)
    refined = tab.find(".stage .refined")
    world.agent.play(20)
    unfinished = tab.find(".stage .refined.unfinished")
    tab.until(lambda: refined.is_visible() and refined.inner_text() == "37 %" and unfinished.count(), "the share")
    world.explainer.make_map = saliency_map
    tab.until(lambda: refined.inner_text() == "100 %" and not unfinished.count(), "the whole")


def test_an_agent_that_exports_its_policy_is_said_to_be_held(make_world: Callable[..., World], open_tab: Open) -> None:
    called = PolicyInfo(type="P", outputs=("logits", "value"))
    world = make_world(agent=FakeAgent(policy=called), explainer=FakeExplainer(state="pending"))
    world.agent.on_step = None
    tab = open_tab(world.address)
    going_on = tab.find(".notice.exporting")
    tab.until(lambda: going_on.count() and "held" in going_on.inner_text(), "what is going on, before the first step")
    assert not tab.find(".card.policy").is_visible(), "empty cards"
    tab.until(lambda: "held" in tab.find("header .pill").inner_text(), "the state")
    world.agent.make_step = lambda number: without(step(number), "output/logits", "output/value")
    world.agent.take_step()  # made before the first call was seen
    for part in (".card.policy", ".chart.value", ".stage .legend"):
        tab.until(lambda part=part: "held" in tab.find(part).inner_text(), f"the same in {part}")

    world.explainer.fields["state"] = "ready"
    world.agent.hello = hello(policy=msgspec.structs.replace(called, graph="exported"))
    world.agent.publish(world.agent.hello)
    world.agent.make_step, world.agent.on_step = step, world.explainer.explain
    world.agent.play(20)
    tab.until(lambda: tab.alpha() > 0 and "held" not in tab.find("body").inner_text(), "the first map")


def test_defaults_bring_a_methods_options_back(world: World, open_tab: Open) -> None:
    world.explainer.fields["options"] = {"radius": 9, "blur": 3.0, "newest_only": True, "cut": 0.0}  # told each second
    tab = open_tab(world.address)
    world.agent.play(10)
    button = tab.button("Defaults")
    button.click()
    defaults = {"radius": 5, "blur": 3.0, "newest_only": False, "cut": 0.0}
    tab.until(lambda: world.explainer.fields["options"] == defaults, "the request")
    tab.until(lambda: not button.is_visible(), "nothing left to restore")


def test_a_number_can_be_typed_and_stepped(world: World, open_tab: Open) -> None:
    tab = open_tab(world.address)
    world.agent.play(10)
    entry = tab.page.get_by_role("textbox", name="cut")
    entry.fill("0.2")
    entry.press("Enter")
    tab.until(lambda: world.explainer.fields["options"].get("cut") == 0.2, "the number typed")
    entry.press("ArrowUp")
    tab.until(lambda: world.explainer.fields["options"].get("cut") == pytest.approx(0.21), "a step more")
    entry.fill("")
    entry.press("Enter")
    tab.until(lambda: entry.input_value() in ("0.21", "0.2"), "the number that holds, in the place of none")


def test_the_space_bar_pauses_after_a_speed_was_chosen_with_the_mouse(world: World, open_tab: Open) -> None:
    tab = open_tab(world.address)
    world.agent.play(30)
    tab.until(lambda: tab.step() > 5, "steps")
    speed = tab.find(".transport select.speed")
    speed.click()
    speed.select_option("0.5")
    tab.until(lambda: tab.find(".transport[data-mode=playing]").count(), "slow motion")
    tab.press("Space")
    tab.until(lambda: tab.find(".transport[data-mode=paused]").count(), "the pause")


@pytest.mark.parametrize("part", [".stage canvas.frame", ".chart.reward canvas"])
def test_a_finger_on_a_canvas_scrolls_the_page(world: World, open_tab: Open, part: str) -> None:
    tab = open_tab(world.address, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    world.agent.play(10)
    tab.until(lambda: tab.find(".card.explanation").is_visible() and tab.alpha() > 0, "the cards")
    tab.find(part).scroll_into_view_if_needed()
    box, content = tab.find(part).bounding_box(), tab.find(".main-content")
    before = content.evaluate("c => c.scrollTop")
    tab.swipe(box["x"] + box["width"] / 2, box["y"] + 60, -150)
    tab.until(lambda: content.evaluate("c => c.scrollTop") > before + 100, "the page to scroll")


def test_waits_for_an_agent_and_shows_the_line_to_paste(world: World, open_tab: Open) -> None:
    endpoint = world.agent.endpoint
    world.agent.close()
    viewer = Viewer(endpoint, None)
    tab = open_tab(viewer.server.address)
    tab.until(lambda: "InterpretWrapper(env, policy)" in tab.find(".notice.waiting").inner_text(), "the line")
    assert tab.find(".notice .close").is_hidden(), "there is nothing to see but this"
    world.agent = FakeAgent(endpoint)
    world.agent.play(20)
    tab.until(lambda: tab.step() > 0 and tab.find(".notice.waiting").count() == 0, "the stream")
    viewer.close()


def test_an_agent_that_comes_back_is_followed(world: World, open_tab: Open) -> None:
    tab = open_tab(world.address)
    world.agent.play(20)
    tab.until(lambda: tab.step() > 3, "steps")
    endpoint = world.agent.endpoint
    world.agent.close("training is over")
    tab.until(lambda: "training is over" in tab.find("div.notices[aria-live]").inner_text(), "the goodbye")
    live = tab.find(".transport button.live")
    tab.until(lambda: live.inner_text() == "ENDED", "that it is not live any more")
    last = world.agent.number - 1
    tab.until(lambda: tab.step() == last, "its last step")
    tab.press("Space")
    tab.until(lambda: tab.find(".transport[data-mode=playing]").count() and tab.step() < last, "what is kept again")
    tab.until(lambda: tab.step() == last and tab.find(".transport[data-mode=live]").count(), "its end")
    world.agent = FakeAgent(endpoint)
    world.agent.play(20)
    tab.until(lambda: "ended" not in tab.find("div.notices[aria-live]").inner_text(), "the notice to go")
    tab.until(lambda: 0 <= tab.step() <= world.agent.number, "the new stream")
    tab.until(lambda: tab.find(".status[data-state=connected]").count(), "the state")
    tab.until(lambda: live.inner_text() == "LIVE", "that it is live again")


def test_a_notice_is_closed_until_what_it_is_about_comes_again(world: World, open_tab: Open) -> None:
    tab = open_tab(world.address)
    world.agent.play(20)
    tab.until(lambda: tab.step() > 3, "steps")
    endpoint = world.agent.endpoint
    world.agent.close("training is over")
    ended = tab.find(".notice.ended")
    ended.wait_for()
    ended.get_by_role("button", name="Close").click()
    tab.until(lambda: not ended.count() and tab.find(".slot.notices").is_hidden(), "it and its room to go")

    world.agent = FakeAgent(endpoint)
    world.agent.play(20)
    store = world.viewer.store

    def its_step() -> object:
        return store.newest if store.stream == world.agent.stream else None

    tab.until(lambda: world.viewer.do(its_step), "a step to be seen: without one there is nothing but the notice")
    world.agent.close("once more")
    ended.wait_for()

    shut = ended.get_by_role("button", name="Close")
    shut.focus()
    tab.page.keyboard.press("Space")
    tab.until(lambda: not ended.count(), "it to be closed by a key, which plays nothing")
    assert tab.find(".transport[data-mode=live]").count()


def test_a_notice_keeps_its_element_while_its_words_change(world: World, open_tab: Open) -> None:
    tab = open_tab(world.address)
    world.agent.play(20)
    tab.until(lambda: tab.step() > 3, "steps")
    world.agent.make_step = lambda number: step(number, arrays={"output/logits": np.full(2, np.nan, np.float32)})
    bad = tab.find(".notice.nan")
    bad.wait_for()
    shut, said = bad.get_by_role("button", name="Close"), bad.inner_text()
    shut.focus()
    tab.until(lambda: bad.inner_text() != said, "the next step's number")
    assert shut.evaluate("node => node.getRootNode().activeElement === node"), "it lost the focus"
    shut.press("Enter")
    tab.until(lambda: not bad.count(), "it to go")
    before = tab.step()
    tab.until(lambda: tab.step() > before + 3, "further steps with NaN")
    assert not bad.count()


def test_theme_follows_the_system_and_the_toggle(world: World, open_tab: Open) -> None:
    tab = open_tab(world.address, color_scheme="light")
    ground = "getComputedStyle(document.querySelector('body')).getPropertyValue('--aw-ground')"
    tab.find("button.theme").wait_for()
    light = tab.page.evaluate(ground)
    assert tab.page.evaluate("document.documentElement.dataset.awTheme") == "light"
    tab.find("button.theme").click()
    tab.until(lambda: tab.page.evaluate("document.documentElement.dataset.awTheme") == "dark", "the dark theme")
    assert tab.page.evaluate(ground) != light
    tab.page.reload(wait_until="commit")
    tab.find("button.theme").wait_for()
    assert tab.page.evaluate("document.documentElement.dataset.awTheme") == "dark", "the choice was forgotten"


def test_a_page_that_cannot_load_its_scripts_yet_says_that_it_connects(world: World, open_tab: Open) -> None:
    tab = open_tab("about:blank", shown=False)
    tab.page.route("**/*.js", lambda route: None)  # they never come
    tab.page.goto(world.address, wait_until="commit", timeout=60_000)
    said = "['::before', '::after'].map(part => document.body ? getComputedStyle(document.body, part).content : '')"
    tab.until(lambda: tab.page.evaluate(said) == ['"agentwrap"', '"connecting …"'], "name and word")


def test_panels_spinner_shows_nothing_but_errors(world: World, open_tab: Open) -> None:
    tab = open_tab(world.address)
    spinner = tab.find("#loader")
    spinner.evaluate("node => { node.style.display = 'flex' }")  # as Panel does while the page loads
    assert spinner.is_hidden(), "it lies over the page's name and word"
    spinner.evaluate("node => node.classList.add('error')")
    assert spinner.is_visible()


def test_a_page_that_loads_has_the_ground_of_its_theme(world: World, open_tab: Open) -> None:
    tab = open_tab(world.address, color_scheme="light", shown=False)
    ready = tab.find("button.theme")
    while not ready.count() or not ready.is_visible():
        with Image.open(io.BytesIO(tab.page.screenshot(clip={"x": 20, "y": 500, "width": 600, "height": 100}))) as shot:
            ground = np.median(np.asarray(shot.convert("L")))
        assert ground >= 0xEE, "dark or grey before the light page"


def left(card: Locator) -> float:
    """Where a card begins, which is shown."""
    box = card.bounding_box()
    return float("nan") if box is None else box["x"]


def test_features_without_a_picture_leave_their_room_to_the_return(world: World, open_tab: Open) -> None:
    def observed(number: int) -> Step:
        arrays = {"observation": np.array([number, 1.0, 2.0], np.float32), "action": np.array(1)}
        return step(number, arrays=arrays)

    def explained(of: Step) -> SaliencyMap:
        return saliency_map(of, targets=("actor",), arrays={"features/actor": np.array([1.0, 0.0, 2.0], np.float32)})

    world.agent.make_step, world.agent.on_step = observed, None
    tab = open_tab(world.address)
    world.agent.play(10)
    features, returns = tab.find(".card.features"), tab.find(".chart.return")
    tab.until(lambda: features.is_visible() and features.locator(".row").count() == 3, "the features")
    tab.until(lambda: features.locator(".track:visible").count() == 3, "one empty track for each feature")
    tab.until(lambda: returns.is_visible() and left(returns) == left(features), "the return below them")
    tab.until(lambda: features.bounding_box()["height"] < 200 < returns.bounding_box()["height"], "its room")
    world.explainer.make_map, world.agent.on_step = explained, world.explainer.explain
    widest = features.locator(".fill.actor").last
    tab.until(lambda: widest.evaluate("fill => fill.style.width") == "100%", "the bars")
    assert features.locator(".track:visible").count() == 3

    def pictured(number: int) -> Step:
        vector = {"observation": np.linspace(0, 1, 27, dtype=np.float32)}
        return step(number, arrays={**vector, "frame": np.zeros((300, 300, 3), np.uint8), "action": np.array(1)})

    world.explainer.make_map, world.agent.make_step = saliency_map, pictured
    tab.until(lambda: tab.find(".stage canvas.frame").is_visible(), "the picture beside the features")
    tab.until(lambda: features.bounding_box()["height"] > 230, "that gives way to them")
    tab.until(lambda: features.locator(".further").is_visible(), "that there are more than are seen")
    features.locator(".row").last.scroll_into_view_if_needed()
    tab.until(lambda: not features.locator(".further").is_visible(), "the last of them")

    world.agent.make_step = lambda number: step(number)
    tab.until(lambda: tab.find(".stage canvas.frame").is_visible(), "the picture")
    policy = tab.find(".card.policy")
    tab.until(lambda: policy.is_visible() and left(returns) > left(policy), "the return on the right")


@pytest.mark.parametrize("size", [(390, 844), (1280, 800)])
def test_nothing_is_wider_than_the_screen(world: World, open_tab: Open, size: tuple[int, int]) -> None:
    tab = open_tab(world.address, viewport={"width": size[0], "height": size[1]})
    world.agent.play(10)
    tab.until(lambda: tab.find(".stage canvas.frame").is_visible(), "the stage")
    tab.until(lambda: tab.find(".stage canvas.frame").bounding_box()["width"] > 100, "its picture")
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= size[0]
    for part in ("stage", "policy", "transport"):
        box = tab.find(f".card.{part}").bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= size[0], part


def test_a_narrow_page_scrolls_to_its_last_card(world: World, open_tab: Open) -> None:
    tab = open_tab(world.address, viewport={"width": 390, "height": 844})
    world.agent.play(10)
    last = tab.find(".card.explanation")
    tab.until(lambda: last.is_visible() and last.bounding_box()["y"] > 844, "the last card, below the screen")
    tab.page.mouse.move(195, 200)
    transport = tab.find(".card.transport")

    def scrolled() -> bool:  # a turn of the wheel can fall into a change of the layout: a person turns on
        tab.page.mouse.wheel(0, 300)
        return tab.find(".main-content").evaluate("c => c.scrollTop") > 0

    tab.until(scrolled, "the page to scroll")

    def reached() -> bool:
        tab.page.mouse.wheel(0, 5000)
        card, bar = last.bounding_box(), transport.bounding_box()
        return card["y"] > 64 and card["y"] + card["height"] <= bar["y"] and bar["y"] + bar["height"] <= 844

    tab.until(reached, "the last card above the transport bar")


def test_a_pause_holds_its_step_longer_than_the_ring_and_says_so(world: World, open_tab: Open) -> None:
    tab = open_tab(world.address)
    world.agent.play(30)
    tab.until(lambda: tab.alpha() > 0, "heat")
    tab.press("Space")
    tab.until(lambda: tab.find(".transport[data-mode=paused]").count(), "the pause")
    held, where = tab.step(), tab.find(".transport .where")
    width = where.bounding_box()["width"]
    tab.until(lambda: "s behind" in where.inner_text(), "how far behind")
    assert f"step {held}" in where.inner_text() and "gone" not in where.inner_text()

    def keep_few() -> None:
        world.viewer.store.steps.max_steps = 5

    world.viewer.do(keep_few)
    tab.until(lambda: "neighbours gone" in where.inner_text(), "the note")
    assert tab.step() == held and f"step {held}" in where.inner_text()
    np.testing.assert_array_equal(shown_pixels(tab)[..., :3], frame_of(held))
    assert tab.alpha() > 0, "its map went with the ring"
    assert where.bounding_box()["width"] == width
    tab.press("ArrowRight")
    tab.until(lambda: tab.step() > held and "step" in where.inner_text(), "the nearest step kept")


def test_charts_say_where_steps_are_skipped(world: World, open_tab: Open) -> None:
    tab = open_tab(world.address)
    world.agent.play(20)
    captions = {part: tab.find(f".chart.{part} .caption") for part in ("value", "reward")}
    tab.until(lambda: captions["reward"].inner_text() == "last 500 steps", "the caption where none is skipped")
    tab.until(lambda: captions["value"].inner_text() == "V(s), last 500 steps", "the value's")
    world.agent.make_step = lambda number: step(1000 + 5 * number)
    tab.until(lambda: captions["reward"].inner_text() == "summed, last 500 shown steps", "the caption where some are")
    tab.until(lambda: captions["value"].inner_text() == "V(s), last 500 shown steps", "the value's")
    for caption in captions.values():
        assert caption.evaluate("c => c.scrollWidth <= c.clientWidth"), "the caption is cut off"


def test_a_map_of_the_chosen_action_is_shown_for_every_choice_but_none(world: World, open_tab: Open) -> None:
    heat = np.zeros((84, 84), np.float32)
    heat[10:30, 10:30] = 1.0
    world.explainer.make_map = lambda of: saliency_map(of, targets=("chosen",), arrays={"heatmap/chosen": heat})
    tab = open_tab(world.address)
    world.agent.play(20)
    tab.until(lambda: tab.alpha() > 0, "heat")
    legend = tab.find(".stage .legend")
    for choice in ("Critic", "Actor"):
        button = tab.button(choice)
        button.click()
        tab.until(lambda button=button: button.get_attribute("aria-pressed") == "true", choice)
        tab.until(lambda: tab.alpha() > 0 and "preferred action" in legend.inner_text(), f"heat for {choice}")
    tab.button("None").click()
    tab.until(lambda: tab.alpha() == 0 and "preferred" not in legend.inner_text(), "no heat")


def test_space_pauses_after_a_click_and_a_speed_chosen_then_waits(world: World, open_tab: Open) -> None:
    tab = open_tab(world.address)
    world.agent.play(30)
    tab.until(lambda: tab.step() > 5, "steps")
    paused = tab.find(".transport[data-mode=paused]")
    for button in (
        tab.find("header button").first,
        tab.find("button.theme"),
        tab.button("Actor"),
    ):
        button.click()
        tab.press("Space")
        tab.until(paused.count, "the pause")
        tab.find(".transport button.live").click()
        tab.until(lambda: not paused.count(), "the newest step again")
        if not tab.button("Actor").is_visible():  # the first of them closed the sidebar
            tab.find("header button").first.click()
    tab.press("Space")
    tab.until(paused.count, "the pause")
    held = tab.step()
    tab.find(".transport select.speed").select_option("0.5")
    tab.page.wait_for_timeout(500)
    assert paused.count() and tab.step() == held
    tab.find(".transport button.pause").focus()
    tab.press("Space")
    tab.until(tab.find(".transport[data-mode=playing]").count, "playing, by a button reached with the keyboard")
    assert tab.find(".transport select.speed").input_value() == "0.5"
