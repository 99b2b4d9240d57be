"""The reference maps of tests/data/conformance: published definitions, computed in float64 one mask at a time."""

import numpy as np
import pytest

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


#: A policy and its state as it is given to explain, and how it is to be evaluated.
WAYS = {
    "module": lambda case: (case.policy, case.state, "auto"),
    "module in batches": lambda case: (case.policy, case.state, "dense"),
    "replica": lambda case: (*case.replica, "auto"),
    "callable": lambda case: (lambda *inputs: case.policy(*inputs), case.state, "auto"),
}


def test_every_reference_map_is_compared(case):
    assert set(case.expected) == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("way", WAYS)
def test_map_agrees_with_the_reference(case, way, name):
    policy, state, evaluation = WAYS[way](case)
    method, target, options = METHODS[name]
    saliency = explain(
        policy,
        case.observation,
        method=method,
        target=target,
        state=state,
        evaluation=evaluation,
        **options(case),
    )
    assert agrees(saliency.grid, case.expected[name])
    assert saliency.evaluation.startswith("incremental" if way in ("module", "replica") else "dense: ")


def test_actor_and_critic_of_shared_forwards_agree_with_the_reference(case):
    actor, critic = explain(
        case.policy, case.observation, target=("actor", "critic"), state=case.state, **spots(case.params)
    )
    assert agrees(actor.grid, case.expected["perturbation_actor"])
    assert agrees(critic.grid, case.expected["perturbation_critic"])
    assert actor.forwards == actor.grid.size
