import numpy as np
import pytest
import torch
from networks import Nature, pixels
from replicas import replica_of

from agentwrap_viewer.saliency.incremental import Incremental, evaluator
from agentwrap_viewer.saliency.incremental import costs as costs_module
from agentwrap_viewer.saliency.incremental.costs import costs
from agentwrap_viewer.saliency.masks import patch_masks


@pytest.fixture
def engine():
    """A replica's evaluation of 64 masks, and what it should give, computed in batches."""
    torch.manual_seed(0)
    replica, image = replica_of(Nature(), pixels(1, 4, 84, 84)), pixels(4, 84, 84).float()
    masks, (given,) = patch_masks((84, 84), 10, 14), replica.graph.inputs
    engine = Incremental(replica, {given.name: image[None]}, given.name, change=-image, masks=masks, axes=(1, 2))
    with torch.no_grad():
        expected = replica({given.name: image * (1 - masks.make(torch.arange(64))[:, None])})["logits"]
    return engine, replica, expected


def evaluated(engine: Incremental, blocks: list[torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([engine.evaluate(block)["logits"] for block in blocks])


def test_plans_that_do_not_fit_are_made_anew(engine, monkeypatch):
    engine, replica, expected = engine
    blocks = engine.blocks(torch.arange(64), 8)
    torch.testing.assert_close(evaluated(engine, blocks[:1]), expected[:8], rtol=1e-4, atol=1e-5)
    (plans,) = [plans for program, plans in evaluator._PLANS.items() if program is replica._program]
    assert plans._bytes() > 0
    monkeypatch.setattr(evaluator, "PLAN_BYTES", 3 * plans._bytes())
    for _ in range(2):
        torch.testing.assert_close(evaluated(engine, blocks), expected, rtol=1e-4, atol=1e-5)
    assert 0 < plans._bytes() <= evaluator.PLAN_BYTES
    assert 0 < len(plans._plans) < len(blocks)


def test_a_plan_does_not_hold_the_masks(engine):
    engine, replica, _ = engine
    (block,) = engine.blocks(torch.arange(64))
    evaluated(engine, [block])
    (plans,) = [plans for program, plans in evaluator._PLANS.items() if program is replica._program]
    ((_, plan),) = plans._plans.values()
    held = [cell.cell_contents for act in plan._acts for cell in act.call.__closure__ or ()]
    assert not [item for item in held if isinstance(item, torch.Tensor) and item.shape == (64, 84, 84)]


def test_costs_are_measured_once_for_a_device_and_a_number_of_threads():
    measured = costs(torch.device("cpu"), torch.get_num_threads())
    assert costs(torch.device("cpu"), torch.get_num_threads()) is measured
    assert measured.moved > 0
    assert measured.group >= 0
    assert np.isfinite([measured.moved, measured.group]).all()


@pytest.mark.parametrize("best", range(3))
@pytest.mark.parametrize("threads", [1, 2])
def test_blocks_are_measured_whichever_size_is_best(threads, best, monkeypatch):
    def all_of(ways, device, budget):
        for way in ways:
            way()
        return best

    monkeypatch.setattr(costs_module, "fastest", all_of)
    found = costs_module._in_blocks(torch.device("cpu"), threads)
    assert (found.block, found.piece) == tuple(int(usual * (1, 0.5, 2)[best]) for usual in (2**18, 256))
