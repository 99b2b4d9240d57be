import captum.attr
import numpy as np
import pytest
import torch
from networks import exported
from torch import nn

from agentwrap_viewer.replica import Replica
from agentwrap_viewer.saliency import SaliencyError, explain

IMAGE = np.random.default_rng(0).integers(0, 256, (3, 64, 64), np.uint8)


def policy_with(*, inplace=False, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 8, 4), nn.ReLU(inplace), nn.Conv2d(6, 8, 4, 2), nn.ReLU(inplace), nn.Flatten(),
        nn.Linear(288, 5),
    ).eval()  # fmt: skip


def captums(policy, layer, target):
    batch = torch.from_numpy(IMAGE)[None].float()
    return captum.attr.LayerGradCam(policy, layer).attribute(batch, target=target, relu_attributions=True)


@pytest.mark.parametrize("layer", ["0", "1", "2", "3", ""])
def test_map_is_captums(layer):
    policy = policy_with()
    saliency = explain(policy, IMAGE, method="grad_cam", target=1, layer=layer)
    expected = captums(policy, policy[int(layer or 2)], 1)
    assert expected.max() > 0
    np.testing.assert_allclose(saliency.grid, expected[0, 0].detach(), rtol=1e-4, atol=1e-6)
    placed = captum.attr.LayerAttribution.interpolate(expected, (64, 64), "bilinear")
    np.testing.assert_allclose(saliency.heatmap, placed[0, 0].detach(), rtol=1e-4, atol=1e-6)


def test_operation_in_place_after_the_layer_does_not_matter():
    expected = explain(policy_with(), IMAGE, method="grad_cam", target=1)
    saliency = explain(policy_with(inplace=True), IMAGE, method="grad_cam", target=1)
    np.testing.assert_allclose(saliency.grid, expected.grid, rtol=1e-5)


@pytest.mark.parametrize("family", ["nature", "impala", "lstm_cell"])
def test_replica_gives_the_modules_map(family):
    module, policy = exported(family)
    parameters = {name: tensor.detach().numpy() for name, tensor in policy.parameters.items()}
    replica = Replica(policy.graph, policy.constants, parameters)
    shape = {"nature": (4, 84, 84), "impala": (3, 64, 64), "lstm_cell": (1, 80, 80)}[family]
    observation = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    state = (torch.ones(1, 64), torch.ones(1, 64)) if family == "lstm_cell" else None
    inputs = [item.name for item in policy.graph.inputs if item.role == "state"]
    named = dict(zip(inputs, state or (), strict=True))
    targets = ("chosen", "critic", "actor", 3)
    expected = explain(module, observation, method="grad_cam", target=targets, state=state)
    maps = explain(replica, observation, method="grad_cam", target=targets, state=named)
    assert any(item.grid.max() > 0 for item in expected)
    for one, other in zip(maps, expected, strict=True):
        np.testing.assert_allclose(one.grid, other.grid, rtol=1e-4, atol=1e-4 * other.grid.max())
    first = explain(replica, observation, method="grad_cam", state=named, layer="convolution")
    assert first.grid.size > maps[0].grid.size or family == "impala"


class TwoTrunks(nn.Module):
    """Actor and critic each with a convolution; one camera for the actor's, another for the critic's."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.actor, self.critic = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 4, 3)
        self.logits, self.value = nn.Linear(4, 2), nn.Linear(4, 1)

    def forward(self, x):
        value = self.value(self.critic(x["right"]).relu().mean((2, 3)))
        return self.logits(self.actor(x["left"]).relu().mean((2, 3))), value


def test_default_is_the_last_convolution_between_entry_and_target():
    cameras = {name: IMAGE[:1, :9, :9].astype(np.float32) for name in ("left", "right")}
    for target, entry in (("actor", "left"), ("critic", "right")):
        maps = {item.entry: item for item in explain(TwoTrunks(), cameras, method="grad_cam", target=[target])}
        assert maps[entry].grid.shape == (7, 7)  # the convolution's
        assert not maps[({"left", "right"} - {entry}).pop()].grid.any()  # does not matter to that output
    with pytest.raises(SaliencyError, match="nothing leads from left through critic to actor"):
        explain(TwoTrunks(), cameras, method="grad_cam", target="actor", layer="critic")


def test_map_peaks_where_the_policy_looks_and_is_zero_elsewhere():
    policy = nn.Sequential(nn.Conv2d(1, 1, 4, 4, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(64, 1, bias=False))
    with torch.no_grad():
        policy[0].weight.fill_(1)
        policy[3].weight.fill_(1)
    image = np.zeros((1, 32, 32), np.float32)
    image[0, 8:12, 20:24] = 1  # what the layer is active for
    saliency = explain(policy, image, method="grad_cam", target="actor")
    assert np.argwhere(saliency.grid).tolist() == [[2, 5]]
    peak = np.argwhere(saliency.heatmap == saliency.heatmap.max())
    assert peak.min(0).tolist() == [9, 21] and peak.max(0).tolist() == [10, 22]


def test_constant_policy_gives_a_zero_map():
    policy = policy_with()
    with torch.no_grad():
        policy[5].weight.zero_()
    saliency = explain(policy, IMAGE, method="grad_cam", target="chosen")
    np.testing.assert_array_equal(saliency.heatmap, np.zeros((64, 64), np.float32))


class Raises(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.calls = nn.Conv2d(3, 2, 3), 0

    def forward(self, x):
        hooked = bool(self.conv._forward_hooks)
        features = self.conv(x)
        if hooked:
            raise RuntimeError("out of luck")
        return features.mean((2, 3))


def test_hooks_are_removed_also_when_the_policy_raises():
    policy = Raises().train(False)
    with pytest.raises(SaliencyError, match="out of luck"):
        explain(policy, IMAGE, method="grad_cam")
    assert not policy.conv._forward_hooks


@pytest.mark.parametrize("training", [True, False])
def test_module_is_left_alone(training):
    policy = policy_with().train(training)
    explain(policy, IMAGE, method="grad_cam")
    assert all(module.training is training and not module._forward_hooks for module in policy.modules())
    assert all(parameter.grad is None for parameter in policy.parameters())


LINEAR = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 2))
REFUSED = {
    "no convolution": (LINEAR, "", "has no convolution; take gradient"),
    "unknown layer": (policy_with(), "conv9", "no layer 'conv9'; its convolutions are 0, 2"),
    "unknown layer without convolutions": (LINEAR, "conv9", "no layer 'conv9'; it has no convolution"),
    "layer without pictures": (policy_with(), "5", r"layer '5' gives \(1, 5\)"),
    "plain callable": (lambda batch: policy_with()(batch), "", "give the module itself"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_looked_at_is_refused_by_name(name):
    policy, layer, text = REFUSED[name]
    with pytest.raises(SaliencyError, match=text):
        explain(policy, IMAGE, method="grad_cam", layer=layer)


def test_vectors_have_no_grad_cam():
    with pytest.raises(SaliencyError, match="grad_cam does not explain a vector observation; .*gradient"):
        explain(nn.Linear(4, 2), np.ones(4, np.float32), method="grad_cam")
