"""All methods on a device that is not the processor, by `elsewhere`: nothing is made or left on the wrong one.

That device is one for the whole process, so it is tried in one of its own, which this file is too.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from networks import Impala, Nature, pixels
from torch import nn

from agentwrap_export.export import export_policy
from agentwrap_viewer.replica import Replica
from agentwrap_viewer.saliency import explain, methods, refine

OPTIONS = {"rise": {"n": 20}, "smoothgrad": {"n": 3}, "integrated_gradients": {"steps": 4}, "occlusion": {"patch": 6}}
METHODS = sorted(name for name, method in methods().items() if "image" in method.observations)
NETWORKS = {"nature": (Nature, (4, 84, 84)), "impala": (Impala, (3, 64, 64))}


def main() -> None:
    """Print how far maps elsewhere are from those here, as a share of their maximum, a JSON line for each."""
    from elsewhere import DEVICE, MixedDevicesError

    try:
        torch.ones(2, device=DEVICE) + torch.ones(2)
    except MixedDevicesError:
        print(json.dumps({"case": "mixed", "raised": True}))
    for network, (make, shape) in NETWORKS.items():
        torch.manual_seed(0)
        observation = pixels(*shape)
        here, there = replicas_of(make().eval(), pixels(1, *shape), ("cpu", DEVICE))
        for method in METHODS if network == "nature" else ["perturbation", "occlusion"]:
            options = {"method": method, "stride": 12, **OPTIONS.get(method, {})}
            options = {k: v for k, v in options.items() if k == "method" or k in methods()[method].options()}
            for evaluation in ("auto", "dense"):
                found = [
                    [
                        explain(policy, observation, evaluation=evaluation, **options, target=None)
                        for policy in (here, there)
                    ],
                    [
                        list(refine(policy, observation, evaluation=evaluation, **options, target=None))[-1]
                        for policy in (here, there)
                    ],
                ]
                far = max(apart(a, b) for a, b in found)
                print(json.dumps({"case": f"{network} {method} {evaluation}", "far": far, "way": way_of(found[0][1])}))


def replicas_of(module: nn.Module, example: torch.Tensor, devices: Iterable[torch.device | str]) -> list[Replica]:
    policy = export_policy(module, (example,), {}, output_names=("logits", "value"), batched=True)
    weights = {name: tensor.detach().numpy() for name, tensor in policy.parameters.items()}
    return [Replica(policy.graph, policy.constants, weights, device) for device in devices]


def maps_of(result):
    return result if isinstance(result, tuple) else (result,)


def way_of(result) -> str:
    return maps_of(result)[0].evaluation


def apart(one, other) -> float:
    pairs = list(zip(maps_of(one), maps_of(other), strict=True))
    return max(float(np.abs(a.grid - b.grid).max() / max(np.abs(a.grid).max(), 1e-12)) for a, b in pairs)


@pytest.fixture(scope="module")
def found():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, timeout=600)
    assert child.returncode == 0, child.stderr[-3000:]
    return {line["case"]: line for line in map(json.loads, child.stdout.splitlines())}


def test_tensors_of_two_devices_do_not_meet_unnoticed(found):
    assert found["mixed"]["raised"]


@pytest.mark.parametrize("evaluation", ["auto", "dense"])
@pytest.mark.parametrize("case", [f"nature {name}" for name in METHODS] + ["impala perturbation", "impala occlusion"])
def test_maps_are_those_of_the_processor(found, case, evaluation):
    line = found[f"{case} {evaluation}"]
    assert line["far"] <= 1e-4
    if evaluation == "auto" and "grad" not in case:
        assert line["way"] == "incremental"


if __name__ == "__main__":
    main()
