"""The reference maps of tests/data/conformance: published definitions, computed in float64 one mask at a time."""

import numpy as np
import pytest
import torch

from agentwrap_export.export import export_policy
from agentwrap_viewer.replica import Replica
from agentwrap_viewer.saliency import explain


def spots(params):
    return {name: params[name] for name in ("stride", "mask_sigma", "blur_sigma")}


#: Map in the file: method, target, options from the case.
METHODS = {
    "perturbation_actor": ("perturbation", "actor", lambda case: spots(case.params)),
    "perturbation_critic": ("perturbation", "critic", lambda case: spots(case.params)),
    "sarfa": ("sarfa", "chosen", lambda case: spots(case.params)),
    "chosen_action_black_disc": (
        "chosen_action",
        "chosen",
        lambda case: {name: case.params[name] for name in ("stride", "disc_radius")},
    ),
    "occlusion_zero_patch_chosen_logit": (
        "occlusion",
        "chosen",
        lambda case: {name: case.params[name] for name in ("patch", "patch_stride")},
    ),
    "rise_given_masks": ("rise", "chosen", lambda case: {"masks": case.rise_masks, "p": case.params["rise_p"]}),
}


def agrees(computed, expected):
    assert computed.shape == expected.shape
    assert computed.dtype == np.float32
    return np.abs(computed - expected).max() <= 1e-4 * np.abs(expected).max()


def test_every_reference_map_is_compared(case):
    assert set(case.expected) == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_map_agrees_with_the_reference(case, name):
    method, target, options = METHODS[name]
    saliency = explain(case.policy, case.observation, method=method, target=target, state=case.state, **options(case))
    assert agrees(saliency.grid, case.expected[name])


def test_actor_and_critic_of_shared_forwards_agree_with_the_reference(case):
    actor, critic = explain(
        case.policy, case.observation, target=("actor", "critic"), state=case.state, **spots(case.params)
    )
    assert agrees(actor.grid, case.expected["perturbation_actor"])
    assert agrees(critic.grid, case.expected["perturbation_critic"])
    assert actor.forwards == actor.grid.size


def test_plain_callable_agrees_with_the_reference(case):
    def policy(*inputs):
        return case.policy(*inputs)

    saliency = explain(policy, case.observation, target="actor", state=case.state, **spots(case.params))
    assert agrees(saliency.grid, case.expected["perturbation_actor"])


def test_replica_agrees_with_the_reference(case):
    state = () if case.state is None else (case.state,)
    arguments = (torch.from_numpy(case.observation)[None], *state)
    names = ("logits", "value", "h", "c")[: 4 if state else 2]
    exported = export_policy(case.policy, arguments, {}, output_names=names, batched=True)
    parameters = {name: tensor.detach().numpy() for name, tensor in exported.parameters.items()}
    replica = Replica(exported.graph, exported.constants, parameters)
    inputs = [item.name for item in exported.graph.inputs if item.role == "state"]
    maps = explain(
        replica,
        case.observation,
        target=("actor", "critic"),
        state=dict(zip(inputs, case.state or (), strict=True)),
        **spots(case.params),
    )
    for saliency in maps:
        assert agrees(saliency.grid, case.expected[f"perturbation_{saliency.target}"])
