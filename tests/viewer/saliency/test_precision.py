"""``precision="bf16"``: what masks change is multiplied in bfloat16, nothing else is."""

import numpy as np
import pytest
import torch
from networks import Impala, Nature, pixels
from replicas import replica_of
from torch import nn

from agentwrap.demo import load_policy, make_enduro, models_directory
from agentwrap_viewer.saliency import SaliencyError, explain, refine
from agentwrap_viewer.saliency.incremental import changes, flat, maps, refusal

can_multiply = pytest.mark.skipif(bool(refusal(torch.device("cpu"))), reason="a processor without bfloat16")
IMAGE = np.random.default_rng(0).uniform(0, 1, (1, 20, 20)).astype(np.float32)


def error(policy, observation, **request):
    """The largest difference to the map in float32, as a share of that map's maximum, for each target."""
    request = {"target": ("chosen",), **request}
    low = explain(policy, observation, precision="bf16", **request)
    full = explain(policy, observation, **request)
    assert [item.precision for item in (*low, *full)] == ["bf16", "float32"]
    assert {item.evaluation for item in (*low, *full)} == {"incremental"}
    differences = [np.abs(a.grid - b.grid).max() / np.abs(b.grid).max() for a, b in zip(low, full, strict=True)]
    assert min(differences) > 1e-5  # it was another computation
    return max(differences)


def on_the_road(policy, steps=(60,)):
    """The replica of a policy of Enduro, and what is seen after some steps straight on."""
    env = make_enduro()
    observation, _ = env.reset(seed=0)
    seen = []
    for step in range(max(steps)):
        observation, *_ = env.step(1)
        if step + 1 in steps:
            seen.append(np.asarray(observation))
    env.close()
    policy = load_policy(models_directory() / f"enduro-{policy}.safetensors")
    return replica_of(policy, torch.from_numpy(seen[0])[None]), seen


@can_multiply
@pytest.mark.parametrize("method", ["perturbation", "occlusion", "sarfa"])
def test_what_a_trained_policy_sees(method):
    replica, (observation,) = on_the_road("expert")
    assert error(replica, observation, method=method) <= 0.01


@can_multiply
@pytest.mark.parametrize(("policy", "bounds"), [("expert", (0.01, 0.01)), ("novice", (0.015, 0.03))])
def test_actor_and_critic_on_several_frames(policy, bounds):
    """The novice's value hardly answers to a blur, and is rounded as what does: 2.1 % was the worst of 20 frames."""
    replica, seen = on_the_road(policy, steps=range(10, 101, 10))
    for observation in seen:
        for target, bound in zip(("actor", "critic"), bounds, strict=True):
            assert error(replica, observation, target=(target,)) <= bound


class Deep(nn.Module):
    """Windows, whole maps, pools, a norm and a shortcut; two linear layers."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2))
        self.body = nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU(), nn.Conv2d(16, 16, 5, 1, 2, bias=False))
        self.last = nn.Sequential(nn.Conv2d(16, 32, 5, 3, 2), nn.ReLU(), nn.Flatten())
        self.head = nn.Sequential(
            nn.Linear(32 * 8 * 8, 256), nn.ReLU(), nn.Linear(256, 300), nn.ReLU(), nn.Linear(300, 5)
        )

    def forward(self, x):
        x = self.stem(x / 255.0)
        return self.head(self.last((self.body(x) + x).relu()))


@can_multiply
@pytest.mark.parametrize("large", [2**24, 2**10])
@pytest.mark.parametrize("whole", [False, True])
def test_all_ways_that_a_layer_can_go(large, whole, monkeypatch):
    torch.manual_seed(3)
    replica, observation = (
        replica_of(Deep(), pixels(1, 3, 48, 48).float(), names=("logits",)),
        pixels(3, 48, 48).float(),
    )
    monkeypatch.setattr(flat, "LARGE", large)
    if whole:  # nothing is computed in windows from the second convolution on
        monkeypatch.setattr(maps, "grouped", lambda low, high, size, *, cost, group_cost, clean: _whole(low, size))
    assert error(replica, observation, method="occlusion", patch=6, patch_stride=6) <= 0.01


def _whole(low, size):
    from agentwrap_viewer.saliency.incremental.geometry import grouped

    none = np.zeros_like(low)
    return grouped(none, none + size, size, cost=1, group_cost=1, clean=False)


@can_multiply
@pytest.mark.parametrize(("network", "shape"), [(Nature, (4, 84, 84)), (Impala, (3, 64, 64))])
def test_networks_that_play(network, shape):
    torch.manual_seed(4)
    replica, observation = replica_of(network(), pixels(1, *shape)), pixels(*shape)
    for method in ("perturbation", "occlusion"):
        assert error(replica, observation, method=method) <= 0.01


@can_multiply
def test_rounding_is_relative_to_the_change():
    """A faint spot on a bright picture: activations in bfloat16 would drown it."""
    torch.manual_seed(5)
    replica = replica_of(Nature(), pixels(1, 4, 84, 84).float())
    observation = torch.full((4, 84, 84), 200.0)
    observation[:, 30:50, 30:50] += 1
    assert error(replica, observation) <= 0.01


@can_multiply
def test_the_last_map_of_a_refinement_is_that_of_explain():
    torch.manual_seed(6)
    replica, observation = replica_of(Nature(), pixels(1, 4, 84, 84)), pixels(4, 84, 84)
    *_, last = refine(replica, observation, target="actor", precision="bf16")
    full = explain(replica, observation, target="actor", precision="bf16")
    assert last.precision == full.precision == "bf16"
    assert np.abs(last.grid - full.grid).max() <= 1e-2 * full.grid.max()


@pytest.mark.parametrize(
    ("policy", "request_", "text"),
    [
        (
            lambda batch: batch[:, 0, :3, 0],
            {},
            "whole batches are evaluated: what a plain callable computes is not known",
        ),
        (nn.Flatten(), {"evaluation": "dense"}, "whole batches are evaluated: as asked"),
        (nn.Flatten(), {}, "whole batches are evaluated: none of the policy's operators has a rule"),
        (nn.Flatten(), {"method": "gradient"}, "gradient takes gradients, in float32"),
        (nn.Flatten(), {"precision": "float16"}, "precision='float16' is not one of 'float32', 'bf16'"),
    ],
)
def test_it_is_refused_where_no_change_is_multiplied_by_itself(policy, request_, text, monkeypatch):
    monkeypatch.setattr(changes, "_processor_multiplies", lambda: True)
    with pytest.raises(SaliencyError, match=text):
        explain(policy, IMAGE, **{"precision": "bf16", "target": "actor", **request_})


def test_a_processor_without_it_says_so(monkeypatch):
    monkeypatch.setattr(changes, "_processor_multiplies", lambda: False)
    with pytest.raises(SaliencyError, match="neither AVX512-BF16 nor AMX; float32 goes everywhere"):
        explain(nn.Flatten(), IMAGE, precision="bf16")
