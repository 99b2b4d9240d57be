"""What is refused says what was wrong and what is accepted."""

import numpy as np
import pytest
import torch

from agentwrap_export.export import export_policy
from agentwrap_viewer.replica import Replica
from agentwrap_viewer.saliency import SaliencyError, explain, refine

IMAGE = np.random.default_rng(0).uniform(0, 1, (1, 20, 20)).astype(np.float32)


def logits(batch):
    return batch[:, 0, :3, 0]


class Undefined(torch.nn.Module):
    """A convolution whose logits are NaN where a patch makes the picture dark."""

    def __init__(self):
        super().__init__()
        self.mean = torch.nn.Conv2d(1, 3, 20, bias=False)
        torch.nn.init.constant_(self.mean.weight, 1 / 400)
        self.usual = float(IMAGE.mean()) - 1e-4

    def forward(self, x):
        return (self.mean(x).flatten(1) - self.usual).sqrt()


CASES = {
    "unknown method": (logits, IMAGE, {"method": "magic"}, "no method 'magic'; there are .*perturbation.*sarfa"),
    "unknown option": (logits, IMAGE, {"strid": 4}, "no option 'strid'; it has stride, mask_sigma"),
    "option of a wrong type": (
        logits,
        IMAGE,
        {"stride": "4"},
        "stride='4': accepted is a value of type int from 1",
    ),
    "option that is not whole": (logits, IMAGE, {"stride": 4.5}, "option stride=4.5"),
    "option out of bounds": (logits, IMAGE, {"stride": 0}, "from 1 up to 64"),
    "option that is NaN": (logits, IMAGE, {"blur_sigma": float("nan")}, "option blur_sigma=nan"),
    "option not among the choices": (logits, IMAGE, {"frames": "old"}, "one of 'all', 'newest'"),
    "unknown target": (logits, IMAGE, {"target": "player"}, "not defined for target 'player', but for actor, critic"),
    "target without critic": (logits, IMAGE, {"target": "critic"}, "'critic': this policy offers actor, chosen"),
    "target out of range": (logits, IMAGE, {"target": 3}, "an index below 3"),
    "target not of the method": (logits, IMAGE, {"method": "sarfa", "target": "critic"}, "sarfa is not defined for"),
    "patch larger than the picture": (logits, IMAGE, {"method": "occlusion", "patch": 21}, "larger than the picture"),
    "disc larger than the picture": (
        logits,
        IMAGE,
        {"method": "chosen_action", "disc_radius": 10.0},
        r"disc_radius=10: the disc is larger than the picture, \(20, 20\)",
    ),
    "spot larger than the picture": (
        logits,
        IMAGE,
        {"mask_sigma": 21},
        r"mask_sigma=21: the spot is larger than the picture, \(20, 20\)",
    ),
    "chunk of none": (logits, IMAGE, {"chunk": 0}, "chunk=0: accepted is a whole number from 1"),
    "chunk in parts": (logits, IMAGE, {"chunk": 2.5}, "chunk=2.5"),
    "unknown evaluation": (logits, IMAGE, {"evaluation": "fast"}, "'fast' is not one of 'auto', 'dense'"),
    "unknown channels": (logits, IMAGE, {"channels": "middle"}, "'middle' is not one of 'auto', 'first'"),
    "no targets": (logits, IMAGE, {"target": ()}, "wanted is 'actor', 'critic', 'chosen', 'choice:<i>'"),
    "target that is no target": (logits, IMAGE, {"target": [1.5]}, r"target \[1.5\]: wanted is 'actor'"),
    "image method on a vector": (lambda b: b, np.ones(4), {"method": "sarfa"}, "vector observation; feature_perturb"),
    "vector method on an image": (logits, IMAGE, {"method": "feature_perturbation"}, "an image observation; .*sarfa"),
    "NaN in the observation": (logits, IMAGE * np.nan, {}, "observation has values that are NaN"),
    "objects": (logits, np.array([object()]), {}, "observation: can't convert"),
    "shape that the policy refuses": (
        torch.nn.Linear(3, 2),
        np.ones(4, np.float32),
        {},
        r"refuses observation torch.float32 \(1, 4\): mat1 and mat2",
    ),
    "shape that a convolution refuses": (
        torch.nn.Sequential(torch.nn.Conv2d(3, 2, 4), torch.nn.Flatten()),
        IMAGE,
        {},
        r"refuses observation torch.float32 \(1, 1, 20, 20\): .*3 channels",
    ),
    "scalar observation": (logits, np.float32(3), {}, "a single number has no parts"),
    "NaN in the outputs": (lambda b: logits(b) * torch.nan, IMAGE, {}, "logits is NaN"),
    "module with NaN in its outputs": (Undefined(), IMAGE, {"method": "occlusion"}, "logits is NaN"),
    "infinite outputs": (lambda b: logits(b) / 0, IMAGE, {}, "logits is infinite"),
    "wrong batch size": (lambda b: logits(b)[:1].expand(7, 3), IMAGE, {}, r"shape \(7, 3\) for a batch of 1"),
    "outputs without names": (lambda b: {"policy": logits(b)}, IMAGE, {}, "outputs are policy; one of logits"),
    "no outputs": (lambda b: None, IMAGE, {}, "not NoneType"),
    "value of several numbers": (lambda b: (logits(b), logits(b)), IMAGE, {}, "value has 3 numbers"),
    "no policy": (3, IMAGE, {}, "not int"),
    "actions of a continuous policy": (
        lambda b: {"mean": logits(b)},
        IMAGE,
        {"method": "sarfa"},
        "only actor; .* take pert",
    ),
    "history of another shape": (lambda b: b, np.ones(4), {"history": np.ones((2, 3))}, r"wanted is \(k, 4\)"),
    "rise masks of another size": (logits, IMAGE, {"method": "rise", "masks": np.ones((2, 5, 5))}, "picture is"),
    "state without batch axis": (lambda b, s: logits(b), IMAGE, {"state": np.ones(3)}, "no batch axis of one"),
}


class Called(torch.nn.Module):
    """A callable as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


#: Kinds of policy: what each makes of a case's.
KINDS = {
    "as it is": lambda policy: policy,
    "module": lambda policy: Called(policy) if callable(policy) else policy,
    "callable": lambda policy: (lambda *inputs: policy(*inputs)) if callable(policy) else policy,
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_bad_input_is_refused_by_name(name, kind):
    policy, observation, arguments, text = CASES[name]
    policy = KINDS[kind](policy)
    with np.errstate(invalid="ignore"), pytest.raises(SaliencyError, match=text):
        explain(policy, observation, **arguments)


def test_numbers_of_other_types_are_taken():
    whole = explain(logits, IMAGE, target=np.int64(2), stride=4.0, mask_sigma=3)
    assert whole.options["stride"] == 4 and isinstance(whole.options["mask_sigma"], float)
    assert whole.target == 2


@pytest.fixture(scope="module")
def replica():
    torch.manual_seed(0)
    policy = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 4, 4), torch.nn.Flatten(), torch.nn.Linear(50, 3)).eval()
    exported = export_policy(policy, (torch.from_numpy(IMAGE)[None],), {}, output_names=("logits",), batched=True)
    return Replica(exported.graph, exported.constants, {n: p.detach().numpy() for n, p in exported.parameters.items()})


#: What a replica can be asked: all but what only another policy would do wrong.
ASKED = [name for name, (policy, observation, _, _) in CASES.items() if policy is logits and observation is IMAGE]


@pytest.mark.parametrize("name", ASKED)
def test_replica_refuses_by_name(replica, name):
    _, observation, arguments, text = CASES[name]
    with pytest.raises(SaliencyError, match=text):
        explain(replica, observation, **arguments)


def test_replica_refuses_a_picture_of_another_shape(replica):
    with pytest.raises(SaliencyError, match=r"refuses observation .*\(3, 20, 20\)"):
        explain(replica, np.ones((3, 20, 20), np.float32))


@pytest.mark.parametrize("budget", [-1, float("nan"), "16", None])
def test_a_budget_is_a_number_from_zero(budget):
    with pytest.raises(SaliencyError, match=f"budget_ms={budget!r}: accepted is a number of milliseconds"):
        next(refine(logits, IMAGE, budget_ms=budget))
