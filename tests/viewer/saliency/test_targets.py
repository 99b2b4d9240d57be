"""What is explained: the actor as a whole, one of its options, a choice among several, a dimension, the critic."""

import numpy as np
import pytest
import torch

from agentwrap_viewer.saliency import SaliencyError, explain, explain_frames, explain_stack, refine

IMAGE = torch.rand(1, 12, 12, generator=torch.Generator().manual_seed(1))

#: Options of two choices; each choice owes its logits to a row of pixels of its own.
CHOICES, ROWS = (3, 2), (2, 9)
WEIGHTS = torch.tensor([1.0, -1.0, 0.5, 2.0, -0.5])


def two_choices(batch):
    first, second = (batch[:, 0, row].mean(1, keepdim=True) for row in ROWS)
    return torch.cat([first.expand(-1, 3), second.expand(-1, 2)], 1) * WEIGHTS


def rows_of(saliency):
    """The rows of the map where anything matters."""
    return set(np.flatnonzero(np.abs(saliency.heatmap).max(1) > 1e-6 * np.abs(saliency.heatmap).max()).tolist())


def explained(target, method="occlusion", **more):
    sharp = {"patch": 1, "patch_stride": 1} if method == "occlusion" else {"stride": 1, "mask_sigma": 0.3}
    return explain(two_choices, IMAGE, method=method, target=target, choices=CHOICES, **sharp, **more)


def test_one_map_is_what_one_gets_without_a_target():
    both = {"logits": two_choices(IMAGE[None]), "value": IMAGE[None].mean((1, 2, 3))}

    def policy(batch, names=("logits", "value")):
        return {name: both[name] * batch.mean((1, 2, 3)).view(-1, *[1] * (both[name].ndim - 1)) for name in names}

    assert explain(policy, IMAGE, stride=6).target == "actor"
    assert explain(policy, IMAGE, method="occlusion", patch=6).target == "chosen"
    assert explain(lambda batch: policy(batch, ("value",)), IMAGE, stride=6).target == "critic"
    assert [saliency.target for saliency in refine(policy, IMAGE, stride=6)][-1] == "actor"
    assert [saliency.target for saliency in explain(policy, IMAGE, stride=6, target=None)] == ["actor", "critic"]


def test_choice_is_explained_by_its_own_options_alone():
    actor, first, second = explained(("actor", "choice:0", "choice:1"), "perturbation")
    assert [int(each.heatmap.max(1).argmax()) for each in (first, second)] == list(ROWS)
    np.testing.assert_allclose(first.grid + second.grid, actor.grid, rtol=1e-4, atol=1e-12)


def test_chosen_action_of_several_choices_is_the_option_of_each():
    chosen, first, second = explained(("chosen", 0, 3))
    np.testing.assert_allclose(chosen.grid, first.grid + second.grid, rtol=1e-5)
    assert rows_of(first) == {ROWS[0]} and rows_of(second) == {ROWS[1]}


@pytest.mark.parametrize("method", ["sarfa", "occlusion"])
def test_method_for_single_actions_takes_the_option_that_a_choice_prefers(method):
    maps = explained(("choice:1", 3), method)
    np.testing.assert_array_equal(maps[0].grid, maps[1].grid)


def test_probability_is_that_within_the_options_choice():
    black = {"disc_radius": 0, "stride": 12}
    alone = explain(lambda x: two_choices(x)[:, 3:], IMAGE, method="chosen_action", target=0, **black)
    among = explain(two_choices, IMAGE, method="chosen_action", target=3, choices=CHOICES, **black)
    np.testing.assert_allclose(among.grid, alone.grid, rtol=1e-6)


def test_masked_options_are_neither_chosen_nor_rivals():
    free = np.array([False, True, True, False, True])
    chosen, third, fifth = explained(("chosen", 2, 4), action_mask=free)
    np.testing.assert_allclose(chosen.grid, third.grid + fifth.grid, rtol=1e-5)
    black = {"disc_radius": 0, "stride": 12}
    options = explain(two_choices, IMAGE, method="chosen_action", target=1, choices=CHOICES, action_mask=free, **black)
    rivals = explain(lambda x: two_choices(x)[:, 1:3], IMAGE, method="chosen_action", target=0, **black)
    np.testing.assert_allclose(options.grid, rivals.grid, rtol=1e-6)


def test_switches_are_chosen_each_for_itself():
    only = {"choices": (), "patch": 1, "patch_stride": 1, "method": "occlusion"}
    assert rows_of(explain(two_choices, IMAGE, target=4, **only)) == {ROWS[1]}
    chosen, *each = explain(two_choices, IMAGE, target=("chosen", 0, 1, 2, 3, 4), **only)
    on = np.sign(WEIGHTS.numpy())  # pixels are not negative: those of a negative weight are off
    np.testing.assert_allclose(chosen.grid, sum(sign * one.grid for sign, one in zip(on, each, strict=True)), atol=1e-6)
    gradient = explain(two_choices, IMAGE, method="gradient", choices=(), target=None)
    assert np.allclose(gradient[0].heatmap[ROWS[0]], (1 + 1 + 0.5) / 12) and rows_of(gradient[0]) == set(ROWS)
    for offered in ("choice:0", -1):
        with pytest.raises(SaliencyError, match="this policy offers actor, chosen, or an index below 5"):
            explain(two_choices, IMAGE, target=offered, method="perturbation", choices=())


@pytest.mark.parametrize("name", ["chosen_action", "sarfa", "rise"])
def test_a_switch_is_a_choice_of_off_and_on(name):
    def both(batch):
        logits = two_choices(batch)
        return torch.stack([torch.zeros_like(logits), logits], 2).flatten(1)

    alone = explain(two_choices, IMAGE, method=name, choices=())
    pairs = explain(both, IMAGE, method=name, choices=(2,) * 5)
    np.testing.assert_allclose(alone.grid, pairs.grid, rtol=1e-5, atol=1e-7)


def moved(batch):
    """A mean of two dimensions, each owed to a row of pixels, with standard deviations of their own."""
    mean = torch.stack([batch[:, 0, row].sum(1) for row in ROWS], 1)
    return {"mean": mean, "log_std": torch.tensor([0.5, 2.0]).log().expand_as(mean)}


def test_a_continuous_action_as_a_whole_is_explained_by_how_far_its_mean_moves_in_standard_deviations():
    def density(of, mean):
        normal = torch.distributions.Normal(moved(IMAGE[None])["mean"], torch.tensor([0.5, 2.0]))
        return normal.log_prob(mean).sum(1) if of is None else normal.log_prob(mean)[:, of]

    sharp = {"patch": 1, "patch_stride": 1}
    whole = explain(moved, IMAGE, method="occlusion", **sharp)
    without = IMAGE.repeat(144, 1, 1, 1).flatten(1)
    without[torch.arange(144), torch.arange(144)] = 0
    changed = moved(without.view(144, 1, 12, 12))["mean"]
    fall = density(None, moved(IMAGE[None])["mean"]) - density(None, changed)
    np.testing.assert_allclose(whole.grid, fall.view(12, 12), rtol=1e-3, atol=1e-5)
    discs = {"method": "chosen_action", "disc_radius": 0, "stride": 1}
    for target in ("actor", 1):
        of = None if target == "actor" else target
        (left,) = explain(moved, IMAGE, target=(target,), **discs)
        share = (density(of, changed) - density(of, moved(IMAGE[None])["mean"])).exp()
        np.testing.assert_allclose(left.grid, 1 - share.view(12, 12), rtol=1e-3, atol=1e-5)
    visible = explain(moved, IMAGE, method="rise", n=32)
    assert 0 <= visible.grid.min() < visible.grid.max() <= 2
    plain = explain(lambda x: {"mean": moved(x)["mean"]}, IMAGE, method="occlusion", target="actor", **sharp)
    distance = 0.5 * (moved(IMAGE[None])["mean"] - changed).square().sum(1)
    np.testing.assert_allclose(plain.grid, distance.view(12, 12), rtol=1e-3, atol=1e-5)


def test_what_a_continuous_action_has_not_is_refused_with_what_explains_it():
    with pytest.raises(SaliencyError, match="sarfa explains chosen.*only actor.*continuous.*take perturbation, .*rise"):
        explain(moved, IMAGE, method="sarfa")
    with pytest.raises(SaliencyError, match="occlusion is not defined for target 'actor'"):
        explain(two_choices, IMAGE, method="occlusion", target="actor")
    with pytest.raises(SaliencyError, match="log_std has 3 numbers for a mean of 2"):
        explain(lambda x: {**moved(x), "log_std": torch.zeros(len(x), 3)}, IMAGE, method="occlusion")


def test_dimension_of_a_mean_and_the_value_of_the_action():
    def continuous(batch):
        mean = torch.stack([batch[:, 0, row].mean(1) for row in ROWS], 1)
        return {"mean": mean, "state_action_value": mean[:, :1] * 0 + batch[:, 0, 5].mean(1, keepdim=True)}

    sharp = {"patch": 1, "patch_stride": 1, "method": "occlusion"}
    first, second, critic = explain(continuous, IMAGE, target=(0, 1, "critic"), **sharp)
    assert [rows_of(each) for each in (first, second, critic)] == [{ROWS[0]}, {ROWS[1]}, {5}]
    with pytest.raises(SaliencyError, match="this policy offers actor, critic, or an index below 2"):
        explain(continuous, IMAGE, target=2, **sharp)


def test_frames_of_the_past_are_scored_for_the_same_targets():
    stack = torch.rand(4, 12, 12, generator=torch.Generator().manual_seed(2))

    def newest_and_oldest(batch):
        return torch.stack([batch[:, frame, 4, 4] for frame in (3, 3, 3, 0, 0)], 1)

    found = explain_stack(newest_and_oldest, stack, targets=("choice:0", "choice:1", 4), choices=CHOICES)
    matter = {name: (each > 0).tolist() for name, each in found.weights.items()}
    newest, oldest = [False, False, False, True], [True, False, False, False]
    assert matter == {"choice:0": newest, "choice:1": oldest, "4": oldest}
    remember = lambda x, state: (torch.cat([state, x], 1), x)  # noqa: E731
    frames = [torch.tensor([float(value)]) for value in (1, 5, 2)]
    found = explain_frames(remember, frames, state=torch.zeros(1, 1), targets=("chosen", 0, 1))
    assert {name: (each > 0).tolist() for name, each in found.weights.items()} == {
        "chosen": [False, True, False],
        "0": [False, True, False],
        "1": [False, False, True],
    }


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"choices": (3, 3)}, r"choices=\(3, 3\) are 6 options, but there are 5"),
        ({"choices": (5, 0)}, "each is the number of its options, from 1"),
        ({"action_mask": [True, False]}, "action_mask is about 2 options, but there are 5"),
        ({"action_mask": [False] * 5}, "action_mask leaves nothing to choose"),
        (
            {"target": "choice:2", "choices": CHOICES},
            "this policy offers actor, chosen, choice:0, choice:1, or an index",
        ),
        ({"target": "choice:0"}, "target 'choice:0': this policy offers actor, chosen, or an index below 5"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(asked, said):
    with pytest.raises(SaliencyError, match=said):
        explain(two_choices, IMAGE, **{"method": "perturbation", **asked})
