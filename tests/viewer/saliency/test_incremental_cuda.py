"""The incremental way on a GPU: the same maps as on the processor, and nothing fetched mask by mask."""

import numpy as np
import pytest
import torch
from networks import Impala, Nature, pixels

from agentwrap_export.export import export_policy
from agentwrap_viewer.replica import Replica
from agentwrap_viewer.saliency import explain

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none")

METHODS = {
    "perturbation": {},
    "occlusion": {"patch": 6, "patch_stride": 4},
    "chosen_action": {"stride": 4, "disc_radius": 3},
}


@pytest.fixture
def full_precision():
    """Products of float32 in float32: what a GPU does by default would hide errors below a thousandth."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield
    torch.set_float32_matmul_precision(before)


def replicas(module, example):
    policy = export_policy(module.eval(), (example,), {}, output_names=("logits", "value"), batched=True)
    weights = {name: tensor.detach().numpy() for name, tensor in policy.parameters.items()}
    return [Replica(policy.graph, policy.constants, weights, device) for device in ("cpu", "cuda")]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("network", "shape"), [(Nature, (4, 84, 84)), (Impala, (3, 64, 64))])
def test_maps_equal_those_of_the_processor(full_precision, network, shape, method):
    torch.manual_seed(0)
    observation = pixels(*shape)
    here, there = replicas(network(), pixels(1, *shape))
    for chunk in (None, 50):
        expected, got = (
            explain(p, observation, method=method, chunk=chunk, **METHODS[method], target=None) for p in (here, there)
        )
        assert {item.evaluation for item in got} == {"incremental"}
        for a, b in zip(got, expected, strict=True):
            assert np.abs(a.grid - b.grid).max() <= 1e-4 * np.abs(b.grid).max()


def test_a_planned_map_waits_for_the_gpu_a_few_times_whatever_the_number_of_masks(full_precision, monkeypatch):
    torch.manual_seed(0)
    observation, (_, replica) = pixels(4, 84, 84), replicas(Nature(), pixels(1, 4, 84, 84))
    original, calls, fetched = torch.Tensor.cpu, [], {}
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor, *args: calls.append(1) or original(tensor, *args))
    for stride in (12, 5):
        explain(replica, observation, stride=stride)  # plans are made
        calls.clear()
        explain(replica, observation, stride=stride)
        fetched[stride] = len(calls)
    assert 0 < fetched[5] == fetched[12]
