"""A module is exported once, its replica follows it, and what has no replica says why."""

import copy
import gc
import weakref

import numpy as np
import pytest
import torch
from networks import A3CLSTM, DictObservation, Recurrent, pixels
from torch import nn

from agentwrap_viewer.saliency import SaliencyError, explain, exported

IMAGE = np.random.default_rng(0).integers(0, 256, (2, 20, 20), np.uint8)
GREY = np.random.default_rng(1).integers(0, 256, (1, 80, 80), np.uint8)
GENERATOR = torch.Generator().manual_seed(0)


def state_of(*shape):
    return tuple(torch.randn(shape, generator=GENERATOR) for _ in range(2))


class Small(nn.Module):
    """A convolution, what training mode changes, and a number that is no weight."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(2, 6, 4, 2), nn.BatchNorm2d(6), nn.Dropout(0.5)
        self.actor, self.critic, self.scale = nn.Linear(486, 3), nn.Linear(486, 1), scale

    def forward(self, x):
        x = self.drop(self.norm(self.conv(x / 255))).relu().flatten(1)
        return self.actor(x) * self.scale, self.critic(x)


@pytest.fixture
def policy():
    torch.manual_seed(0)
    return Small().eval()


@pytest.fixture
def exports(monkeypatch):
    """The exports made, by what they were given."""
    calls = []

    def counted(module, *arguments, **named):
        calls.append(module)
        return export(module, *arguments, **named)

    export = exported.export_policy
    monkeypatch.setattr(exported, "export_policy", counted)
    return calls


def assert_true(policy, observation=IMAGE, **arguments):
    """The map is incremental, and that of whole batches."""
    arguments = {"target": None, **arguments}
    maps = explain(policy, observation, **arguments)
    for got, dense in zip(maps, explain(policy, observation, evaluation="dense", **arguments), strict=True):
        assert got.evaluation.startswith("incremental")
        assert dense.evaluation == "dense: as asked"
        assert np.abs(got.grid - dense.grid).max() <= 1e-4 * np.abs(dense.grid).max()
        assert got.grid.any()
    return maps


def test_module_is_exported_once_whatever_its_mode_and_the_observation(policy, exports):
    first = assert_true(policy)
    policy.train()
    second = assert_true(policy)
    assert all(module.training for module in policy.modules())
    np.testing.assert_array_equal(first[0].grid, second[0].grid)
    assert_true(policy, pixels(2, 20, 20), method="occlusion", target=["chosen"])
    assert exports == [policy]


def test_masks_that_are_cut_change_less_and_err_little(policy):
    exact, _ = assert_true(policy, mask_sigma=2.0, blur_sigma=1.0)
    cut, _ = assert_true(policy, mask_sigma=2.0, blur_sigma=1.0, mask_cut=0.02)
    error = np.abs(cut.grid - exact.grid).max() / exact.grid.max()
    assert 0 < error < 0.1


def test_module_and_random_state_are_left_alone(policy):
    before, random = copy.deepcopy(policy.state_dict()), torch.random.get_rng_state()
    policy.train()
    explain(policy, IMAGE)
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in policy.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in policy.modules())


def step(policy):
    optimizer = torch.optim.SGD(policy.parameters(), lr=10.0)
    policy(torch.from_numpy(IMAGE)[None].float())[0].square().sum().backward()
    optimizer.step()


def replace(policy):
    policy.actor.weight = nn.Parameter(2 * policy.actor.weight.detach())


def write_through_data(policy):
    policy.conv.weight.data.mul_(1.5)


def change_a_buffer(policy):
    policy.norm.running_mean += 0.5


@pytest.mark.parametrize("change", [step, replace, write_through_data, change_a_buffer])
def test_weights_that_change_are_followed_without_another_export(policy, exports, change):
    before = assert_true(policy)
    change(policy)
    after = assert_true(policy)
    assert np.abs(after[0].grid - before[0].grid).max() > 1e-3 * before[0].grid.max()
    assert exports == [policy]


def put_in_another_head(policy):
    policy.actor = nn.Sequential(nn.Linear(486, 8), nn.Tanh(), nn.Linear(8, 3))


def put_in_more_actions(policy):
    policy.actor = nn.Linear(486, 5)


def change_a_number(policy):
    policy.scale = 3.0


@pytest.mark.parametrize("change", [put_in_another_head, put_in_more_actions, change_a_number])
def test_computation_that_changes_is_exported_anew(policy, exports, change):
    assert_true(policy)
    change(policy)
    assert_true(policy)
    assert exports == [policy, policy]


def test_module_that_changes_all_the_time_is_left_to_batches(policy):
    for scale in range(1, exported.MOST_EXPORTS + 1):
        policy.scale = float(scale)
        assert_true(policy)
    policy.scale = 99.0
    got = explain(policy, IMAGE, target="actor")
    assert got.evaluation == "dense: it changes from call to call in other ways than by its weights"
    np.testing.assert_array_equal(got.grid, explain(policy, IMAGE, target="actor", evaluation="dense").grid)


def test_dense_evaluation_exports_nothing(policy, exports):
    explain(policy, IMAGE, evaluation="dense")
    explain(policy, IMAGE, method="gradient")
    explain(nn.Linear(4, 2), np.ones(4, np.float32))
    assert exports == []


def test_replica_is_gone_with_its_module():
    policy = Small().eval()
    explain(policy, IMAGE)
    (replicas,) = (kept for module, kept in exported._KEPT.items() if module is policy)
    replica, module = (weakref.ref(next(iter(replicas.values()))), weakref.ref(policy))
    del policy, replicas
    gc.collect()
    assert module() is None and replica() is None


@pytest.mark.parametrize(
    ("make", "observation", "state", "axis"),
    [
        (A3CLSTM, GREY, state_of(1, 64), 0),
        (lambda: OverImages(Recurrent(nn.LSTM)), GREY[:, :20, :20], state_of(2, 1, 16), 1),
    ],
    ids=["cell", "layers"],
)
def test_state_is_held(make, observation, state, axis):
    torch.manual_seed(0)
    policy = make().eval()
    held = assert_true(policy, observation, state=state, state_axis=axis, target=["actor", "critic"])
    other = explain(policy, observation, state=tuple(3 * part for part in state), state_axis=axis, target=None)
    assert not np.allclose(held[0].grid, other[0].grid, rtol=1e-2)


class OverImages(nn.Module):
    """A recurrent network that sees an image's features."""

    def __init__(self, network):
        super().__init__()
        self.conv, self.network = nn.Conv2d(1, 2, 8, 12), network

    def forward(self, x, state):
        return self.network(self.conv(x / 16).flatten(1), state)  # far from rounding, whatever the weights


def test_images_of_a_dict_are_explained_with_the_others_held(exports):
    torch.manual_seed(0)
    policy = DictObservation().eval()
    observation = {"image": pixels(16, 16, 3), "vector": torch.randn(4), "kind": torch.tensor(2)}
    (image,) = assert_true(policy, observation, method="perturbation", target=["actor"])
    assert image.entry == "image"
    both = {item.entry: item for item in explain(policy, observation, target=["actor"])}
    np.testing.assert_array_equal(both["image"].grid, image.grid)
    assert both["vector"].evaluation == "dense: only masked images are evaluated otherwise"
    assert exports == [policy]


class Returns(nn.Module):
    """Something computed of three numbers that depend on the image, and of the image itself."""

    def __init__(self, compute):
        super().__init__()
        self.conv, self.head, self.compute = nn.Conv2d(2, 4, 4, 4), nn.Linear(100, 3), compute

    def forward(self, x):
        return self.compute(self.head(self.conv(x / 255).relu().flatten(1)), x)


def test_distributions_stand_for_their_parameters():
    categorical = Returns(lambda q, x: (torch.distributions.Categorical(logits=q), q[:, 0]))
    maps = assert_true(categorical)
    assert [item.target for item in maps] == ["actor", "critic"]
    plain = explain(lambda batch: tuple(categorical(batch)), IMAGE, target=None)
    np.testing.assert_allclose(plain[0].grid, maps[0].grid, rtol=1e-2)
    normal = Returns(lambda q, x: torch.distributions.Normal(q, torch.ones_like(q)))
    (mean,) = assert_true(normal)
    assert mean.target == "actor"


NOT_EXPORTED = {
    "branches on values": (Returns(lambda q, x: q if float(x.sum()) > 3 else 2 * q), "torch.where"),
    "leaves torch": (Returns(lambda q, x: q.detach().numpy()), "without any tensor"),
    "plain callable": (lambda x: x.flatten(1)[:, :3], "dense: what a plain callable computes is not known"),
}


@pytest.mark.parametrize("name", NOT_EXPORTED)
def test_what_cannot_be_exported_is_evaluated_in_batches_and_says_why(name):
    policy, text = NOT_EXPORTED[name]
    for _ in range(2):  # what failed once is not tried again, and gives the same
        got = explain(policy, IMAGE, target="actor")
        assert got.evaluation.startswith("dense: ") and text in got.evaluation
        np.testing.assert_allclose(
            got.grid, explain(policy, IMAGE, target="actor", evaluation="dense").grid, rtol=1e-3, atol=1e-7
        )


def test_output_that_is_not_finite_is_named():
    policy = Returns(lambda q, x: q + x.flatten(1).min(1, keepdim=True).values.log())
    with pytest.raises(SaliencyError, match="logits is infinite"):
        explain(policy, IMAGE + 1.0, method="occlusion", target="chosen")
