"""Policies that look, by construction, at one known place."""

import numpy as np
import pytest
import torch
from torch import nn

from agentwrap_viewer.saliency import PerturbingMethod, explain, methods

IMAGE_METHODS = sorted(
    name
    for name, method in methods().items()
    if "image" in method.observations and issubclass(method, PerturbingMethod)
)
LOCAL_METHODS = [name for name in IMAGE_METHODS if name not in ("rise", "chosen_action")]  # zero where nothing changes


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(50, 200, shape)).float()


def looks_at(image, pick):
    """A policy whose preferred action, 0, owes its logit to the mean of what ``pick`` picks."""
    usual = pick(image[None]).flatten(1).mean(1)

    def policy(batch):
        away = (pick(batch).flatten(1).mean(1) - usual).abs() / 50
        return torch.stack([3 - away, away, away * 0], 1), -away

    return policy


def small(method):
    """Options for sharp maps."""
    return {
        "perturbation": {"stride": 2, "mask_sigma": 1.0},
        "sarfa": {"stride": 2, "mask_sigma": 1.0},
        "chosen_action": {"stride": 2, "disc_radius": 1},
        "occlusion": {"patch": 3, "patch_stride": 1},
        "rise": {"n": 2000, "s": 8},
    }[method]


class Looks(nn.Module):
    """The same for one channel of rows 9 to 11, columns 30 to 32, in layers."""

    def __init__(self, image, channel):
        super().__init__()
        self.mean, self.place = nn.Conv2d(3, 1, 3, 3, bias=False), nn.Linear(130, 1, bias=False)
        with torch.no_grad():
            self.mean.weight.zero_()[:, channel] = 1 / 9
            self.place.weight.zero_()[:, 3 * 13 + 10] = 1
            self.usual = float(self.place(self.mean(image[None]).flatten(1)))

    def forward(self, batch):
        away = (self.place(self.mean(batch).flatten(1)) - self.usual).abs() / 50
        return torch.cat([3 - away, away, away * 0], 1), -away


def one_region(image):
    return looks_at(image, lambda batch: batch[:, :, 9:12, 30:33])


def one_channel(image):
    return looks_at(image, lambda batch: batch[:, 1, 9:12, 30:33])


POLICIES = {
    "region": one_region,
    "oldest frame": lambda image: Looks(image, 0),
    "channel": one_channel,
    "channel, in layers": lambda image: Looks(image, 1),
}


@pytest.mark.parametrize("method", IMAGE_METHODS)
@pytest.mark.parametrize("kind", POLICIES)
def test_map_peaks_where_the_policy_looks_and_is_zero_elsewhere(method, kind):
    image = noise(3, 32, 40)
    policy = POLICIES[kind](image)
    (saliency,) = explain(policy, image, method=method, target=["chosen"], **small(method))
    assert saliency.evaluation.startswith("incremental") is isinstance(policy, nn.Module)
    assert saliency.heatmap.shape == (32, 40)
    y, x = np.unravel_index(saliency.heatmap.argmax(), saliency.heatmap.shape)
    assert abs(y - 10) <= 3 and abs(x - 31) <= 3
    elsewhere = np.ones((32, 40), bool)
    elsewhere[2:19, 23:40] = False
    rest, peak = saliency.heatmap[elsewhere], saliency.heatmap.max()
    if method == "rise":  # random masks: only differences count, and few hundred leave noise
        assert rest.std() < 0.2 * (peak - rest.mean())
    elif method == "chosen_action":  # 1 less the probability, which is what it is without a disc
        logits = policy(image[None])[0].detach()
        np.testing.assert_allclose(rest, 1 - float(logits.softmax(1)[0, 0]), atol=1e-6)
    else:
        np.testing.assert_allclose(rest, 0, atol=1e-6)


@pytest.mark.parametrize("method", IMAGE_METHODS)
def test_what_is_in_other_channels_does_not_matter(method):
    image, other = noise(3, 32, 40), noise(3, 32, 40, seed=1)
    other[1] = image[1]
    policy = Looks(image, 1)
    one, same = (explain(policy, each, method=method, target="chosen", **small(method)) for each in (image, other))
    np.testing.assert_allclose(one.grid, same.grid, rtol=0, atol=1e-4 * np.abs(one.grid).max())


class Constant(nn.Module):
    """Layers whose last gives the same whatever it is given."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 4, 4), nn.Linear(100, 3)
        nn.init.zeros_(self.head.weight)

    def forward(self, batch):
        logits = self.head(self.conv(batch).relu().flatten(1))
        return logits, logits[:, 0]


def constant(batch):
    return torch.tensor([1.0, 2.0]).expand(len(batch), 2), torch.zeros(len(batch))


@pytest.mark.parametrize("policy", [constant, Constant()], ids=["callable", "module"])
@pytest.mark.parametrize("method", IMAGE_METHODS)
def test_constant_policy_gives_a_map_without_differences(method, policy):
    for saliency in explain(policy, noise(1, 20, 20), method=method, target=None):
        if method in LOCAL_METHODS:
            np.testing.assert_array_equal(saliency.heatmap, 0)
        elif method == "chosen_action":  # by its definition: what is left to the other actions
            np.testing.assert_allclose(saliency.grid, saliency.grid[0, 0], rtol=1e-6)
        else:  # by RISE's: how often a pixel is visible
            assert np.isfinite(saliency.grid).all() and saliency.grid.std() < 0.1 * saliency.grid.mean()
        assert methods()[method].scale == "relative" or method in LOCAL_METHODS


@pytest.mark.parametrize("method", sorted(name for name, each in methods().items() if "vector" in each.observations))
def test_one_feature_alone_has_a_score(method):
    observation, history = noise(6) / 100, noise(4, 6, seed=1) / 100
    saliency = explain(
        lambda batch: batch[:, 2:3].tanh() * 3, observation, method=method, target="actor", history=history
    )
    assert saliency.heatmap[2] > 0
    np.testing.assert_array_equal(np.delete(saliency.heatmap, 2), 0)


@pytest.mark.parametrize("pick", [lambda b: b[:, 0], lambda b: b[:, 3]], ids=["oldest", "newest"])
def test_frames_newest_leaves_the_other_frames_alone(pick):
    image = noise(4, 20, 20)
    newest_only = explain(looks_at(image, pick), image, target="actor", frames="newest")
    all_alike = explain(looks_at(image, pick), image, target="actor", frames="all")
    assert all_alike.grid.max() > 0
    assert newest_only.grid.max() == (all_alike.grid.max() if pick(image[None])[0].equal(image[3]) else 0)


@pytest.mark.parametrize("shape", [(20, 24), (2, 20, 24), (20, 24, 2), (2, 20, 24, 3), (2, 3, 20, 24)])
def test_layouts_of_the_same_picture_give_the_same_map(shape):
    planes = 1 if len(shape) == 2 else int(np.prod(shape)) // 480
    picture = noise(20, 24)
    where = [axis for axis, n in enumerate(shape) if n in (20, 24)]
    image = picture.reshape([n if axis in where else 1 for axis, n in enumerate(shape)]).expand(shape)

    def policy(batch):
        flat = batch.movedim([axis + 1 for axis in where], (-2, -1)).reshape(len(batch), planes, 20, 24)
        return flat[:, :, 5:8, 6:9].mean((1, 2, 3))[:, None]

    saliency = explain(policy, image, target="actor")
    expected = explain(lambda batch: batch[:, 5:8, 6:9].mean((1, 2))[:, None], picture, target="actor")
    assert saliency.heatmap.shape == (20, 24)
    np.testing.assert_allclose(saliency.grid, expected.grid, rtol=1e-3, atol=1e-4)


def test_scale_of_the_observation_does_not_matter():
    image = noise(1, 20, 20)
    policy = looks_at(image, lambda batch: batch[:, :, 4:8, 4:8])
    scaled = explain(lambda batch: policy(batch * 255), image / 255, target="actor")
    np.testing.assert_allclose(scaled.grid, explain(policy, image, target="actor").grid, rtol=1e-3, atol=1e-6)


def test_critic_and_actor_have_maps_of_their_own():
    def policy(batch):
        return batch[:, :1, 3, 3], batch[:, 0, 27, 27]

    actor, critic = explain(policy, noise(1, 31, 31), target=("actor", "critic"), stride=3, mask_sigma=1.0)
    assert np.unravel_index(actor.grid.argmax(), (11, 11)) == (1, 1)
    assert np.unravel_index(critic.grid.argmax(), (11, 11)) == (9, 9)


def test_feature_perturbation_is_half_the_mean_squared_change():
    x, history = np.array([1.0, 2.0, 3.0], np.float32), np.array([[0, 0, 0], [3, 1, 9]], np.float32)

    def policy(batch):  # logits 2·x₀ and x₁; x₂ is not looked at
        return batch[:, :2] * torch.tensor([2.0, 1.0]), batch[:, 0]

    actor, critic = explain(policy, x, target=("actor", "critic"), history=history)
    np.testing.assert_allclose(actor.heatmap, [0.25 * (2**2 + 4**2), 0.25 * (2**2 + 1**2), 0])
    np.testing.assert_allclose(critic.heatmap, [0.25 * (1**2 + 2**2), 0, 0])
    assert actor.method == "feature_perturbation" and actor.forwards == 6


@pytest.mark.parametrize("history", [None, np.float32([[1, -4], [1, -4]])], ids=["none", "itself alone"])
def test_feature_perturbation_without_history_replaces_by_zero(history):
    saliency = explain(lambda batch: batch, np.array([1.0, -4.0]), target="actor", history=history)
    np.testing.assert_allclose(saliency.grid, [0.5, 8.0])
