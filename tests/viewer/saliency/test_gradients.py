"""The gradient family: equal to Captum, true to policies whose gradient is known, and without a trace in the policy."""

import copy
import re
import sys

import captum.attr
import numpy as np
import pytest
import torch
from networks import Nature
from torch import nn

from agentwrap_viewer.saliency import SaliencyError, explain, methods, refine
from agentwrap_viewer.saliency.masks import blur

METHODS = ["gradient", "gradient_x_input", "integrated_gradients", "smoothgrad"]
TARGETS = ("chosen", "critic", "actor", 2)
ON_NATURE = pytest.mark.parametrize("case", [Nature], indirect=True, ids=["nature"])
QUICK = {"integrated_gradients": {"steps": 8}, "smoothgrad": {"n": 6}}


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(50, 200, shape)).float()


def agrees(computed, expected):
    return computed.shape == expected.shape and np.abs(computed - expected).max() <= 1e-4 * np.abs(expected).max()


def output_of(case, target):
    """The output in question, for a batch, without anything of ours."""

    def output(batch):
        state = () if case.state is None else ([part.expand(len(batch), -1) for part in case.state],)
        result = case.policy(batch, *state)
        logits, value = (result["logits"], result["value"]) if isinstance(result, dict) else result[:2]
        return {"actor": logits.sum(1), "critic": value.flatten()}.get(
            target, logits[:, target if target == 2 else best]
        )

    best = 0
    if target == "chosen":
        state = () if case.state is None else (case.state,)
        result = case.policy(torch.from_numpy(case.observation)[None].float(), *state)
        best = int((result["logits"] if isinstance(result, dict) else result[0])[0].argmax())
    return output


def captums(method, output, image):
    """Captum, called as its documentation says."""
    leaf = image.clone().requires_grad_()
    if method == "gradient":
        return captum.attr.Saliency(output).attribute(leaf, abs=False)
    if method == "gradient_x_input":
        return captum.attr.InputXGradient(output).attribute(leaf)
    if method == "integrated_gradients":
        return captum.attr.IntegratedGradients(output).attribute(image, baselines=0.0, n_steps=8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(output))
        spread = float(0.15 * (image.max() - image.min()))
        return tunnel.attribute(leaf, nt_samples=6, nt_samples_batch_size=1, stdevs=spread, abs=False)


@ON_NATURE
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("method", METHODS)
def test_map_is_captums_summed_over_channels(case, method, target):
    image = torch.from_numpy(case.observation)[None].float()
    saliency = explain(
        case.policy, case.observation, method=method, target=target, state=case.state, **QUICK.get(method, {})
    )
    assert saliency.grid.dtype == np.float32 and saliency.grid is saliency.heatmap
    expected = captums(method, output_of(case, target), image)
    assert agrees(saliency.grid, expected[0].sum(0).detach().numpy())


def test_replica_and_plain_callable_give_the_modules_map(case):
    replica, state = case.replica
    for method in METHODS:
        options = {"method": method, "target": ("chosen", "critic"), **QUICK.get(method, {})}
        expected = explain(case.policy, case.observation, state=case.state, **options)
        ours = explain(replica, case.observation, state=state, **options)
        plain = explain(lambda *inputs: case.policy(*inputs), case.observation, state=case.state, **options)
        for maps in (ours, plain):
            assert all(agrees(one.grid, other.grid) for one, other in zip(maps, expected, strict=True))
            assert all(item.grid.any() for item in maps)


@pytest.mark.parametrize("channels", ["first", "last"])
def test_blurred_baseline_is_blurred_plane_by_plane(channels):
    image = noise(3, 20, 24)
    weights = noise(3, 20, 24, seed=1)
    expected = (weights * (image - blur(image, 5.0))).sum(0)  # of a linear policy, whatever the way
    if channels == "last":
        image, weights = image.movedim(0, 2), weights.movedim(0, 2)
    saliency = explain(
        lambda batch: (batch * weights).flatten(1).sum(1, keepdim=True),
        image,
        method="integrated_gradients",
        target="actor",
        baseline="blur",
        channels=channels,
    )
    np.testing.assert_allclose(saliency.grid, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def linear(weights):
    return lambda batch: ((batch * weights).flatten(1).sum(1, keepdim=True) + 7, -(batch * weights).flatten(1).sum(1))


@pytest.mark.parametrize("shape", [(3,), (8, 9), (2, 8, 9), (8, 9, 2), (2, 3, 8, 9), (2, 8, 9, 3)])
@pytest.mark.parametrize("method", METHODS)
def test_linear_policy_has_its_weights_as_gradient(method, shape):
    observation, weights = noise(*shape), noise(*shape, seed=1) - 125
    actor, critic = explain(linear(weights), observation, method=method, target=("actor", "critic"))
    full = weights if method in ("gradient", "smoothgrad") else weights * observation
    others = [axis for axis, length in enumerate(shape) if length not in (8, 9)] if len(shape) > 1 else []
    expected = full.sum(others).numpy() if others else full.numpy()
    np.testing.assert_allclose(actor.heatmap, expected, rtol=1e-3, atol=1e-2)
    np.testing.assert_array_equal(critic.heatmap, -actor.heatmap)


@pytest.mark.parametrize("method", METHODS)
def test_scores_are_zero_but_where_the_policy_looks(method):
    image = noise(3, 32, 40)
    for pick in (lambda b: b[:, :, 9:12, 29:32], lambda b: b[:, 2, 9:12, 29:32]):
        saliency = explain(
            lambda batch, pick=pick: torch.tanh(pick(batch) / 200).flatten(1).sum(1, keepdim=True),
            image,
            method=method,
            target="actor",
        )
        inside = np.zeros((32, 40), bool)
        inside[9:12, 29:32] = True
        assert (saliency.heatmap[~inside] == 0).all() and (saliency.heatmap[inside] > 0).all()


@ON_NATURE
def test_integrated_gradients_add_up_to_the_change_of_the_output(case):
    saliency = explain(
        case.policy, case.observation, method="integrated_gradients", target="critic", state=case.state, steps=256
    )
    output, image = output_of(case, "critic"), torch.from_numpy(case.observation)[None].float()
    change = (output(image) - output(torch.zeros_like(image))).item()
    assert saliency.grid.sum() == pytest.approx(change, rel=0.02)


CONSTANT = {
    "detached": lambda batch: (torch.tensor([1.0, 2.0]).expand(len(batch), 2), torch.zeros(len(batch))),
    "attached": lambda batch: (batch.flatten(1)[:, :2] * 0, batch.flatten(1)[:, 0] * 0),
    "of weights": lambda batch: nn.Parameter(torch.ones(3)).expand(len(batch), 3),
}


@pytest.mark.parametrize("kind", CONSTANT)
@pytest.mark.parametrize("method", METHODS)
def test_constant_policy_gives_a_zero_map(method, kind):
    for observation in (noise(1, 20, 20), noise(5)):
        saliency = explain(CONSTANT[kind], observation, method=method, target="chosen", **QUICK.get(method, {}))
        np.testing.assert_array_equal(saliency.heatmap, 0)


def test_smoothgrad_depends_on_its_seed_alone():
    policy, image = (lambda b: b.square().sum((1, 2, 3))[:, None]), noise(2, 10, 10)
    options = {"method": "smoothgrad", "target": "actor", "n": 20}
    state = torch.random.get_rng_state()
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = explain(policy, image, **options)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.random.set_rng_state(state)
    np.testing.assert_array_equal(explain(policy, image, **options).grid, first.grid)
    np.testing.assert_allclose(explain(policy, image, chunk=3, **options).grid, first.grid, rtol=1e-5)
    assert np.abs(explain(policy, image, seed=1, **options).grid - first.grid).max() > 1
    np.testing.assert_allclose(
        explain(policy, image, sigma=0.0, **options).grid,
        explain(policy, image, method="gradient").grid,
        rtol=1e-5,
    )


@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_chunks_do_not_change_integrated_gradients(chunk):
    image = noise(2, 10, 10)
    options = {"method": "integrated_gradients", "target": "actor"}
    whole = explain(lambda b: b.pow(3).sum((1, 2, 3))[:, None], image, **options)
    chunked = explain(lambda b: b.pow(3).sum((1, 2, 3))[:, None], image, chunk=chunk, **options)
    np.testing.assert_allclose(chunked.grid, whole.grid, rtol=1e-4)


class Unsettled(nn.Module):
    """Everything that training mode changes, and a first operation in place."""

    def __init__(self):
        super().__init__()
        self.norm, self.drop, self.head = nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Linear(400, 3)

    def forward(self, x):
        x /= 255
        return self.head(self.drop(self.norm(x).flatten(1)))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_module_and_observation_are_left_alone(method, training):
    policy, image = Unsettled().train(training), noise(1, 20, 20)
    policy.head.bias.grad = torch.ones(3)
    before, seen = copy.deepcopy(policy.state_dict()), image.clone()
    explain(policy, image, method=method, **QUICK.get(method, {}))
    assert all(module.training is training for module in policy.modules())
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())
    assert [name for name, parameter in policy.named_parameters() if parameter.grad is not None] == ["head.bias"]
    assert torch.equal(policy.head.bias.grad, torch.ones(3))
    assert torch.equal(image, seen) and not image.requires_grad
    assert not any(module._forward_hooks or module._backward_hooks for module in policy.modules())


def test_entries_are_explained_with_the_others_and_the_state_held():
    observation = {
        "camera": np.full((1, 8, 8), 3, np.uint8),
        "speed": np.array([2.0, 5.0], np.float32),
        "mission": np.int64(4),
    }

    def policy(batch, state):
        assert batch["mission"].dtype == torch.int64 and batch["camera"].dtype in (torch.uint8, torch.float32)
        return batch["camera"][:, 0, :1, 3] * batch["speed"][:, :1] * state

    maps = explain(policy, observation, method="gradient", target=["actor"], state=np.full((1, 1), 10.0, np.float32))
    camera, speed = maps
    assert (camera.entry, speed.entry) == ("camera", "speed")
    assert camera.grid[0, 3] == 20 and np.count_nonzero(camera.grid) == 1
    np.testing.assert_array_equal(speed.grid, [30, 0])


def test_gradients_are_there_in_whatever_mode_the_caller_is():
    class Product(nn.Module):
        def forward(self, batch, state):
            return batch["a"] * batch["b"] * state

    with torch.inference_mode():
        observation = {"a": torch.full((2,), 3.0), "b": torch.full((2,), 4.0)}
        (a, b) = explain(Product(), observation, method="gradient", target=[1], state=torch.full((1, 1), 2.0))
    np.testing.assert_array_equal([a.grid, b.grid], [[0, 8], [0, 6]])


def test_refinement_has_one_step_and_counts_what_it_evaluates():
    maps = list(refine(linear(noise(5)), noise(5), method="smoothgrad", target=("actor", "critic"), n=7, budget_ms=0))
    assert len(maps) == 1
    assert all(item.refined == 1 and item.forwards == 14 and item.evaluation == "gradient" for item in maps[0])


def test_default_targets_are_the_chosen_action_else_what_a_continuous_policy_has():
    assert [m.target for m in explain(lambda b: (b, b[:, 0]), noise(4), method="gradient", target=None)] == ["chosen"]
    continuous = explain(lambda b: {"mean": b, "value": b[:, 0]}, noise(4), method="gradient", target=None)
    assert [m.target for m in continuous] == ["actor", "critic"]
    assert [m.target for m in explain(lambda b: {"value": b[:, 0]}, noise(4), method="gradient", target=None)] == [
        "critic"
    ]


def without_gradients(batch):
    with torch.no_grad():
        return batch.flatten(1)[:, :3]


class Detaching(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(x.detach())


REFUSED = {
    "NumPy": (lambda b: b.numpy()[:, :3], {}, "no gradients can be taken .*numpy.*take a method that perturbs"),
    "no_grad": (without_gradients, {}, "output for action 0 depends .*no gradient comes back.*in torch throughout"),
    "detached": (Detaching(), {}, "no gradient comes back"),
    "integers": (lambda b: b.round().long()[:, :3].float(), {}, "no gradient comes back"),
    "NaN": (lambda b: (b[:, :3] * 0).sqrt(), {}, "gradient: the gradient of the output for action 0 is not finite"),
    "blur of a vector": (
        lambda b: b,
        {"method": "integrated_gradients", "baseline": "blur"},
        "baseline='blur' is for images",
    ),
    "unknown baseline": (lambda b: b, {"method": "integrated_gradients", "baseline": "grey"}, "one of 'zero', 'blur'"),
    "no steps": (lambda b: b, {"method": "integrated_gradients", "steps": 0}, "from 1 up to 1024"),
    "unknown target": (lambda b: b, {"target": "player"}, "not defined for target 'player'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_gradient_is_refused_by_name(name):
    policy, arguments, text = REFUSED[name]
    with pytest.raises(SaliencyError, match=re.compile(text, re.DOTALL)):
        explain(policy, noise(4), **{"method": "gradient", **arguments})


def test_missing_captum_is_named_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(SaliencyError, match=r"pip install 'agentwrap-rl\[viewer\]'"):
        explain(lambda b: b, noise(4), method="gradient")


@ON_NATURE
def test_occlusion_is_captums(case):
    output, image = output_of(case, "chosen"), torch.from_numpy(case.observation)[None].float()
    patch, stride = case.observation.shape[1] // 4, case.observation.shape[1] // 8
    channels = len(case.observation)
    saliency = explain(
        case.policy, case.observation, method="occlusion", target="chosen", state=case.state, patch=patch,
        patch_stride=stride,
    )  # fmt: skip
    with torch.no_grad():  # Captum divides what windows have in common: give it one window at a time
        for row, column in ((0, 0), (2, 3), (6, 6)):
            inside = torch.zeros(1, 1, *image.shape[2:], dtype=torch.long)
            inside[..., row * stride :, column * stride :][..., :patch, :patch] = 1
            expected = captum.attr.FeatureAblation(output).attribute(image, feature_mask=inside)
            value = float(expected[0, 0, row * stride, column * stride])
            assert saliency.grid[row, column] == pytest.approx(value, rel=1e-3, abs=1e-5)
        tiles = explain(case.policy, case.observation, method="occlusion", target="chosen", state=case.state,
                        patch=stride, patch_stride=stride)  # fmt: skip
        window = (channels, stride, stride)
        expected = captum.attr.Occlusion(output).attribute(image, window, strides=(channels, stride, stride))
        rows, columns = tiles.grid.shape
        placed = expected[0, 0, ::stride, ::stride][:rows, :columns].numpy()
        np.testing.assert_allclose(tiles.grid, placed, atol=1e-4 * np.abs(placed).max())


def test_feature_perturbation_by_one_background_is_captums_ablation_squared():
    torch.manual_seed(0)
    policy, x, background = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3)), noise(6) / 100, noise(6)
    saliency = explain(policy, x, method="feature_perturbation", target=1, history=background[None])
    with torch.no_grad():
        ablation = captum.attr.FeatureAblation(policy).attribute(x[None], baselines=background[None], target=1)
    np.testing.assert_allclose(saliency.grid, 0.5 * ablation[0].square(), rtol=1e-4, atol=1e-7)


def test_gradient_methods_are_described_for_the_menu():
    family = {name: method for name, method in methods().items() if method.__module__.endswith("gradients")}
    assert set(family) == set(METHODS)
    assert all(option.live for method in family.values() for option in method.options().values())
