import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import A3CLSTM, Impala, Nature
from torch import nn

from agentwrap_export.export import export_policy
from agentwrap_viewer.replica import Replica
from agentwrap_viewer.saliency.incremental import evaluator
from agentwrap_viewer.saliency.incremental.costs import Costs

DATA = Path(__file__).parents[2] / "data" / "conformance"


@pytest.fixture(autouse=True)
def usual_costs(monkeypatch):
    """Plans do not depend on how busy the machine is: costs as two quiet cores have them."""
    monkeypatch.setattr(evaluator, "costs", lambda device, threads: Costs(group=1.2e7, moved=13.5))


@dataclass
class Case:
    name: str
    policy: nn.Module
    observation: np.ndarray
    state: Any
    params: dict[str, Any]
    rise_masks: np.ndarray
    expected: dict[str, np.ndarray]

    @cached_property
    def replica(self) -> tuple[Replica, dict[str, torch.Tensor]]:
        """The policy's replica, and the state by the names of its inputs."""
        state = () if self.state is None else (self.state,)
        arguments = (torch.from_numpy(self.observation)[None], *state)
        names = ("logits", "value", "h", "c")[: 4 if state else 2]
        exported = export_policy(self.policy, arguments, {}, output_names=names, batched=True)
        parameters = {name: tensor.detach().numpy() for name, tensor in exported.parameters.items()}
        inputs = [item.name for item in exported.graph.inputs if item.role == "state"]
        named = dict(zip(inputs, self.state or (), strict=True))
        return Replica(exported.graph, exported.constants, parameters), named


@pytest.fixture(scope="session", params=[Nature, Impala, A3CLSTM], ids=lambda network: network.__name__.lower())
def case(request) -> Case:
    network = request.param()
    name = request.param.__name__.lower()
    (path,) = DATA.glob(f"{name}-*.npz")
    with np.load(path) as data:
        arrays = dict(data)
    weights = {key[7:]: torch.from_numpy(array) for key, array in arrays.items() if key.startswith("weight/")}
    network.load_state_dict(weights)
    state = (torch.from_numpy(arrays["state_h"]), torch.from_numpy(arrays["state_c"])) if "state_h" in arrays else None
    return Case(
        name=name,
        policy=network.eval(),
        observation=arrays["observation"],
        state=state,
        params=json.loads(str(arrays["params"])),
        rise_masks=arrays["rise_masks"],
        expected={key.removeprefix("map/"): a for key, a in arrays.items() if key.startswith("map/")},
    )
