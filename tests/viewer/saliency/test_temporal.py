"""Scores of past frames, of policies that are built to remember one of them."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
import torch
from networks import A3CLSTM, exported
from torch import nn

from agentwrap_export.arrays import tensor_to_array
from agentwrap_viewer.replica import Replica
from agentwrap_viewer.saliency import SaliencyError, explain_frames, explain_stack, temporal


class Remembers(nn.Module):
    """Chooses by one pixel of the frame of ``ago`` steps before; the state holds the last frames' pixels."""

    def __init__(self, ago: int, *, shape: tuple[int, ...] = (1, 12, 12)) -> None:
        super().__init__()
        self.ago = ago

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        seen = x.float().flatten(1)[:, 70:71]
        memory = torch.cat([seen[None], state[:-1]])  # (frames, B, 1), newest first
        return memory[self.ago] * torch.tensor([1.0, -1.0]), memory[0], memory


@pytest.mark.parametrize("ago", [0, 1, 4])
def test_only_the_frame_that_is_remembered_counts(ago: int) -> None:
    frames = [torch.randint(0, 256, (1, 12, 12), dtype=torch.uint8) for _ in range(6)]
    found = explain_frames(Remembers(ago), frames, state=torch.zeros(5, 1, 1), state_axis=1)
    actor, critic = found.weights["actor"], found.weights["critic"]
    assert actor.shape == (6,) and np.flatnonzero(actor).tolist() == [5 - ago]
    assert np.flatnonzero(critic).tolist() == [5]  # its value sees the newest alone
    assert found.outputs["logits"][0] == frames[5 - ago].flatten()[70]


def test_the_score_is_half_the_squared_distance_of_the_outputs() -> None:
    frames = [torch.tensor([value]) for value in (1.0, 2.0, 6.0)]
    found = explain_frames(lambda x, state: (state, x), frames, state=torch.zeros(1, 1))
    # the frame before, 2, becomes the mean of the others, 3.5
    assert found.weights["actor"].tolist() == [0.0, 0.5 * 1.5**2, 0.0]


def test_a_replica_is_carried_on_as_the_module_would_be() -> None:
    module, policy = exported("lstm_cell")
    assert isinstance(module, A3CLSTM)
    parameters = {name: tensor_to_array(tensor) for name, tensor in policy.parameters.items()}
    replica = Replica(policy.graph, policy.constants, parameters)
    frames = [torch.randint(0, 256, (1, 80, 80), dtype=torch.uint8) for _ in range(4)]
    state = (torch.zeros(1, 64), torch.zeros(1, 64))
    ours = explain_frames(replica, frames, state={"state/0": state[0], "state/1": state[1]})
    theirs = explain_frames(module, frames, state=state)
    for target, weights in ours.weights.items():
        assert weights.max() > 0
        assert np.allclose(weights, theirs.weights[target], rtol=1e-3, atol=1e-4 * weights.max())
    with torch.no_grad():
        for frame in frames[:-1]:
            _, _, state = module(frame[None].float(), state)
    assert torch.allclose(ours.state["state/1"], state[1], atol=1e-5)


def test_frames_of_a_stack_are_perturbed_one_at_a_time() -> None:
    stack = torch.randint(0, 256, (4, 12, 12), dtype=torch.uint8)
    found = explain_stack(lambda x: x[:, 1, 5, :2], stack)
    assert found is not None and np.flatnonzero(found.weights["actor"]).tolist() == [1]
    assert found.weights["actor"].shape == (4,) and "critic" not in found.weights


@pytest.mark.parametrize("shape", [(3, 12, 12), (12, 12), (12, 12, 1), (7,)])
def test_colours_and_single_frames_are_no_stack(shape: tuple[int, ...]) -> None:
    assert explain_stack(lambda x: x.flatten(1)[:, :2], torch.rand(shape)) is None


def test_what_cannot_be_carried_on_is_told() -> None:
    frames = [torch.rand(3)] * 2
    with pytest.raises(SaliencyError, match="no observation"):
        explain_frames(lambda x, state: (x, state), [], state=torch.zeros(1, 2))
    with pytest.raises(SaliencyError, match="last, the new state"):
        explain_frames(lambda x, state: x, frames, state=torch.zeros(1, 2))
    with pytest.raises(SaliencyError, match="no batch axis of 2 at axis 0"):
        explain_frames(lambda x, state: (x, state[0]), frames, state=torch.zeros(1, 5))
    _, policy = exported("mlp")
    parameters = {name: tensor_to_array(tensor) for name, tensor in policy.parameters.items()}
    with pytest.raises(SaliencyError, match="carries no state"):
        explain_frames(Replica(policy.graph, policy.constants, parameters), [torch.rand(8)], state={})


def test_the_example_runs() -> None:
    assert doctest.testmod(temporal).failed == 0
