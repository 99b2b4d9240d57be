import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import A3CLSTM, DictObservation, Impala, Nature, Normalised, pixels
from replicas import replica_of
from torch import nn

from agentwrap_export.export import export_policy
from agentwrap_viewer.saliency import Explanation, explain, refine
from agentwrap_viewer.saliency.incremental.evaluator import LEVEL_IMAGES
from agentwrap_viewer.saliency.incremental.geometry import Axis, grouped, partition, spans

METHODS = {
    "perturbation": {},
    "sarfa": {"frames": "newest"},
    "chosen_action": {"stride": 4, "disc_radius": 3},
    "occlusion": {"patch": 6, "patch_stride": 4},
    "rise": {"n": 24, "seed": 0},
}


class Dense:
    """The same replica, of which nothing is known but that it has a graph and can be called."""

    def __init__(self, replica):
        self.graph, self.device, self._replica = replica.graph, replica.device, replica

    def __call__(self, inputs):
        return self._replica(inputs)


def assert_same(one, other, *, tolerance=1e-4):
    for a, b in zip(one, other, strict=True):
        assert (a.target, a.entry, a.grid.shape) == (b.target, b.entry, b.grid.shape)
        assert np.abs(a.grid - b.grid).max() <= tolerance * np.abs(b.grid).max()


@pytest.fixture(scope="module")
def nature():
    torch.manual_seed(0)
    return replica_of(Nature(), pixels(1, 4, 84, 84)), pixels(4, 84, 84)


@pytest.mark.parametrize("method", METHODS)
def test_maps_equal_those_of_whole_batches(nature, method):
    replica, observation = nature
    got = explain(replica, observation, method=method, **METHODS[method], target=None)
    assert {item.evaluation for item in got} == {"incremental"}
    assert_same(got, explain(Dense(replica), observation, method=method, **METHODS[method], target=None))


@pytest.mark.parametrize("method", METHODS)
def test_residual_networks_too(method):
    torch.manual_seed(1)
    replica, observation = replica_of(Impala(), pixels(1, 3, 64, 64)), pixels(3, 64, 64)
    got = explain(replica, observation, method=method, **METHODS[method], target=None)
    assert {item.evaluation for item in got} == {"incremental"}
    assert_same(got, explain(Dense(replica), observation, method=method, **METHODS[method], target=None))


class Deep(nn.Module):
    """Layers as in networks for pictures: convolutions, pools, batch norms, a shortcut, a mean over the map."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 7, 2, 3, bias=False), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        )  # fmt: skip
        self.body = nn.Sequential(
            nn.Conv2d(12, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1)
        )
        self.shortcut, self.head = nn.Conv2d(12, 16, 1, 2), nn.Linear(16, 5)
        nn.init.uniform_(self.stem[6].running_var, 0.5, 2)
        for layer in (*self.stem, *self.body):
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, x):
        x = self.stem(x / 255.0)
        return self.head((self.body(x) + self.shortcut(x)).relu().mean((2, 3)))


def test_large_pictures_are_perturbed_in_windows_block_by_block():
    torch.manual_seed(6)
    replica = replica_of(Deep(), pixels(1, 3, 160, 144), names=("logits",))
    observation, options = pixels(3, 160, 144), {"patch": 12, "patch_stride": 9}
    got = explain(replica, observation, method="occlusion", **options)
    expected = explain(Dense(replica), observation, method="occlusion", **options)
    small = explain(replica, observation, method="occlusion", chunk=7, **options)
    assert got.evaluation == "incremental"
    assert np.ptp(expected.grid) > 1e-3
    assert_same([got, small], [expected, expected])


def test_recurrent_state_is_held():
    torch.manual_seed(2)
    state = (torch.randn(1, 64), torch.randn(1, 64))
    replica = replica_of(A3CLSTM(), pixels(1, 1, 80, 80), state, names=("logits", "value", "h", "c"))
    names = [item.name for item in replica.graph.inputs if item.role == "state"]
    observation, held = pixels(1, 80, 80), dict(zip(names, state, strict=True))
    got = explain(replica, observation, state=held, target=None)
    assert got[0].evaluation == "incremental"
    assert_same(got, explain(Dense(replica), observation, state=held, target=None))
    other = explain(replica, observation, state={name: 3 * tensor for name, tensor in held.items()}, target=None)
    assert not np.allclose(got[0].grid, other[0].grid, rtol=1e-2)


def test_channels_last_image_in_a_dict():
    torch.manual_seed(3)
    observation = {"image": pixels(16, 16, 3), "vector": torch.randn(4), "kind": torch.tensor(2)}
    batch = ({name: tensor[None] for name, tensor in observation.items()},)
    replica = replica_of(DictObservation(), *batch, names=("action", "logits"))
    got, expected = (
        explain(policy, observation, method="perturbation", target=None) for policy in (replica, Dense(replica))
    )
    assert [item.entry for item in got] == ["image"]
    assert got[0].evaluation.startswith("incremental")
    assert_same(got, expected)


def test_operator_without_a_rule_is_named():
    torch.manual_seed(4)
    replica, observation = replica_of(Normalised(), torch.rand(1, 3, 16, 16), names=("logits",)), torch.rand(3, 16, 16)
    got = explain(replica, observation, method="perturbation", stride=2)
    assert got.evaluation == "incremental, dense from aten.native_group_norm.default on"
    assert_same([got], explain(Dense(replica), observation, method="perturbation", stride=2, target=None))


class Squared(nn.Module):
    """Squares the image before anything else, which is not affine, or looks at all of it at once."""

    def __init__(self, whole):
        super().__init__()
        self.whole, self.conv, self.head = whole, nn.Conv2d(1, 4, 3), nn.Linear(4 * 14 * 14, 3)

    def forward(self, x):
        x = x / x.amax((2, 3), keepdim=True) if self.whole else x * x
        return self.head(self.conv(x).relu().flatten(1))


@pytest.mark.parametrize(("whole", "evaluation"), [(False, "incremental"), (True, "dense")])
def test_what_begins_with_something_else_than_a_convolution(whole, evaluation):
    torch.manual_seed(8)
    replica = replica_of(Squared(whole), torch.rand(1, 1, 16, 16), names=("logits",))
    observation, options = torch.rand(1, 16, 16), {"stride": 3, "mask_sigma": 0.5}
    got = explain(replica, observation, **options)
    assert got.evaluation.partition(":")[0] == evaluation
    assert_same([got], explain(Dense(replica), observation, **options, target=None))


def test_refinement_ends_with_the_same_map(nature):
    replica, observation = nature
    *_, last = refine(replica, observation, target=None)
    assert last[0].refined == 1
    assert_same(last, explain(replica, observation, target=None))


def test_levels_are_cut_into_blocks_so_that_others_get_a_turn(nature):
    replica, observation = nature
    explanation = Explanation(replica, observation)
    evaluated = []
    while not explanation.done:
        before = explanation.forwards
        explanation.advance()
        evaluated.append(explanation.forwards - before)
    assert explanation.evaluation == "incremental"
    assert sum(evaluated) == 289 and max(evaluated) <= LEVEL_IMAGES < 289 - 81


def test_new_weights_are_followed(nature):
    _, observation = nature
    torch.manual_seed(5)
    replica = replica_of(Nature(), pixels(1, 4, 84, 84))
    before = explain(replica, observation, target="actor")
    policy = export_policy(Nature().eval(), (pixels(1, 4, 84, 84),), {}, output_names=("logits", "value"), batched=True)
    replica.load({name: tensor.detach().numpy() for name, tensor in policy.parameters.items()})
    after = explain(replica, observation, target="actor")
    assert_same([after], [explain(Dense(replica), observation, target="actor")])
    assert not np.allclose(before.grid, after.grid, rtol=0.1)


class Stack(nn.Module):
    """Some layers drawn at random: convolutions of all kinds, pools, norms, residuals."""

    def __init__(self, seed, channels, size):
        super().__init__()
        draw = random.Random(seed)
        self.scale, self.shift = draw.choice([1.0, 255.0]), draw.choice([0.0, 0.5])
        self.layers = nn.ModuleList()
        self.kinds = []
        x = torch.zeros(1, channels, size, size)
        for _ in range(draw.randint(2, 5)):
            kind = draw.choice(["conv", "conv", "pool", "residual", "norm"])
            kernel, stride, dilation = draw.randint(1, 4), draw.randint(1, 3), draw.randint(1, 2)
            if kind == "conv" or not self.kinds:
                kind = "conv"
                layer = nn.Conv2d(x.shape[1], 6, kernel, stride, draw.randint(0, 2), dilation, bias=draw.random() < 0.8)
            elif kind == "pool":
                layer = nn.MaxPool2d(kernel, stride, kernel // 2)
            elif kind == "norm":
                layer = nn.BatchNorm2d(x.shape[1]).eval()
                nn.init.normal_(layer.running_mean)
            else:
                layer = nn.Conv2d(x.shape[1], x.shape[1], 3, 1, 1)
            try:
                y = layer(x)
            except RuntimeError:  # the map has become smaller than the kernel
                continue
            x = y
            self.layers.append(layer)
            self.kinds.append(kind)
        self.activation = draw.choice([F.relu, F.elu, torch.tanh, F.leaky_relu])
        self.head = nn.Linear(x[0].numel(), 4)

    def forward(self, x):
        x = x / self.scale - self.shift
        for kind, layer in zip(self.kinds, self.layers, strict=True):
            x = x + layer(self.activation(x)) if kind == "residual" else layer(x)
            x = self.activation(x)
        return self.head(x.flatten(1))


@pytest.mark.parametrize("seed", range(14))
def test_any_stack_of_layers(seed):
    torch.manual_seed(seed)
    channels, size = 1 + seed % 3, 17 + seed
    replica = replica_of(Stack(seed, channels, size), torch.rand(1, channels, size, size), names=("logits",))
    observation = torch.rand(channels, size, size)
    for method, options in (("perturbation", {"stride": 3, "mask_sigma": 0.7}), ("occlusion", {"patch": 3})):
        got = explain(replica, observation, method=method, **options)
        expected = explain(Dense(replica), observation, method=method, **options)
        assert got.evaluation == "incremental"
        # a score is a difference of outputs of size 1, in float32
        assert np.abs(got.grid - expected.grid).max() <= 1e-4 * np.abs(expected.grid).max() + 2e-6


axes = st.builds(Axis, st.integers(1, 5), st.integers(1, 3), st.integers(0, 3), st.integers(1, 2), st.integers(1, 12))


@given(axes, st.integers(0, 20), st.integers(1, 20))
def test_touched_outputs_are_those_that_see_the_interval(axis, low, length):
    inputs = range(low, low + length)
    sees = [
        any(start + tap * axis.dilation in inputs for tap in range(axis.kernel))
        for start in (axis.source(np.arange(axis.length))).tolist()
    ]
    (first,), (beyond,) = axis.touched(np.array([low]), np.array([low + length]))
    # an interval: with dilation there may be outputs between that skip the inputs
    assert [index for index, seen in enumerate(sees) if seen and not first <= index < beyond] == []
    if axis.dilation == 1:
        assert sees == [first <= index < beyond for index in range(axis.length)]


@settings(max_examples=60)
@given(st.data())
def test_windows_hold_the_boxes_and_rows_are_not_shared(data):
    size = (data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9)))
    count = data.draw(st.integers(1, 12))
    low = np.array([[data.draw(st.integers(0, length - 1)) for length in size] for _ in range(count)])
    high = np.array([[data.draw(st.integers(int(a), n)) for a, n in zip(row, size, strict=True)] for row in low])
    cost = data.draw(st.sampled_from([1.0, 1e5, 1e8]))
    field = grouped(low, high, size, cost=cost, group_cost=1.6e7, clean=True)
    groups, rows = field.groups, field.whole(np.arange(count))
    assert sorted(np.concatenate([group.which for group in groups])) == list(range(count))
    own = rows[rows > field.pixels]
    assert len(np.unique(own)) == len(own) == field.count - field.pixels - 1
    for n in range(count):
        differs = rows[n] > field.pixels
        assert differs[low[n, 0] : high[n, 0], low[n, 1] : high[n, 1]].all()
        clean = np.arange(field.pixels).reshape(size)
        assert (rows[n] == clean)[~differs].all()


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=20), st.sampled_from([1.0, 1e7]))
def test_spans_hold_their_intervals(pairs, cost):
    low, high = (np.array(ends) for ends in zip(*((min(pair), max(pair)) for pair in pairs), strict=True))
    groups = spans(low, high, cost=cost, group_cost=1.6e7)
    assert sorted(np.concatenate([which for which, _, _ in groups])) == list(range(len(pairs)))
    assert all(first <= low[n] and high[n] <= beyond for which, first, beyond in groups for n in which)


@given(st.lists(st.integers(1, 50), max_size=9))
def test_partition_is_the_cheapest(numbers):
    def cost(i, j):
        return 20 + max(numbers[i:j]) * (j - i)

    def cheapest(i):
        return min((cost(i, j) + cheapest(j) for j in range(i + 1, len(numbers) + 1)), default=0)

    cuts = partition(len(numbers), cost)
    assert [i for cut in cuts for i in range(*cut)] == list(range(len(numbers)))
    assert sum(cost(i, j) for i, j in cuts) == cheapest(0)
