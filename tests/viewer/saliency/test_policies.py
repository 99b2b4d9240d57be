import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from agentwrap_viewer.saliency import SaliencyError, explain

IMAGE = np.random.default_rng(0).uniform(0, 1, (1, 20, 20)).astype(np.float32)


class Unsettled(nn.Module):
    """Everything that training mode changes."""

    def __init__(self):
        super().__init__()
        self.norm, self.drop, self.head = nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Linear(400, 3)

    def forward(self, x):
        return self.head(self.drop(self.norm(x).flatten(1)))


def test_module_in_training_mode_is_explained_in_evaluation_mode_and_left_alone():
    torch.manual_seed(0)
    policy = Unsettled().train()
    before = copy.deepcopy(policy.state_dict())
    training = explain(policy, IMAGE, target="actor")
    assert all(module.training for module in policy.modules())
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())
    assert all(parameter.grad is None for parameter in policy.parameters())
    np.testing.assert_array_equal(training.grid, explain(policy.eval(), IMAGE, target="actor").grid)


def test_module_in_evaluation_mode_is_not_copied():
    policy = Unsettled().eval()
    calls = []
    policy.register_forward_hook(lambda *_: calls.append(1))
    explain(policy, IMAGE, target="actor")
    assert calls


def test_observation_is_not_changed():
    observation = IMAGE.copy()
    tensor = torch.from_numpy(IMAGE.copy())
    policy = Unsettled().eval()
    explain(policy, observation, target="actor")
    explain(policy, tensor, target="actor")
    np.testing.assert_array_equal(observation, IMAGE)
    np.testing.assert_array_equal(tensor.numpy(), IMAGE)


def test_weights_remain_trainable_after_an_explanation():
    policy = Unsettled().eval()
    explain(policy, IMAGE, target="actor")
    policy(torch.from_numpy(IMAGE)[None]).sum().backward()
    assert policy.head.weight.grad is not None


RESULTS = {
    "logits": lambda q, v: q,
    "pair": lambda q, v: (q, v),
    "pair with state": lambda q, v: (q, v[:, None], (q, q)),
    "dict": lambda q, v: {"latent": q * 7, "q_values": q, "value": v},
    "mean": lambda q, v: {"mean": q, "log_std": q * 0, "value": v},
    "numpy": lambda q, v: q.numpy(),
}


@pytest.mark.parametrize("kind", RESULTS)
def test_results_that_policies_return(kind):
    def policy(batch):
        return RESULTS[kind](batch[:, 0, 3:5, 3], batch[:, 0, 9, 9])

    expected = explain(lambda batch: batch[:, 0, 3:5, 3], IMAGE, target="actor")
    maps = explain(policy, IMAGE, target=None)
    assert [m.target for m in maps] == (["actor"] if kind in ("logits", "numpy") else ["actor", "critic"])
    np.testing.assert_array_equal(maps[0].grid, expected.grid)


def test_state_is_expanded_to_the_batch_along_its_axis():
    def policy(batch, state):
        h, c = state
        assert h.shape == (2, len(batch), 5) and c.shape == (1, len(batch))
        return batch[:, 0, :3, 0] + c.T

    maps = explain(policy, IMAGE, state=(np.zeros((2, 1, 5)), np.zeros((1, 1))), state_axis=1, target=None)
    assert len(maps) == 1


def test_entries_of_a_dict_observation_are_explained_with_the_others_held():
    observation = {"camera": IMAGE, "speed": np.array([2.0, 5.0], np.float32), "mission": np.int64(3)}

    def policy(batch):
        assert batch["mission"].dtype == torch.int64
        return batch["camera"][:, 0, 3:5, 3] * batch["speed"][:, :1], batch["speed"][:, 1]

    maps = {
        (m.entry, m.target): m for m in explain(policy, observation, history={"speed": np.zeros((1, 2))}, target=None)
    }
    assert set(maps) == {(entry, target) for entry in ("camera", "speed", "mission") for target in ("actor", "critic")}
    assert maps["camera", "actor"].heatmap.shape == (20, 20) and maps["camera", "actor"].grid.max() > 0
    assert maps["camera", "critic"].grid.max() == 0
    assert maps["speed", "actor"].grid[1] == 0
    assert maps["speed", "critic"].grid.tolist() == [0, 12.5]
    assert maps["mission", "actor"].grid.tolist() == [0]


def test_dict_observation_with_a_method_explains_the_entries_it_fits():
    observation = {"camera": IMAGE, "speed": np.ones(2, np.float32)}
    maps = explain(
        lambda batch: batch["camera"][:, 0, :2, 0], observation, method="perturbation", stride=10, target=None
    )
    assert [(m.entry, m.grid.shape) for m in maps] == [("camera", (2, 2))]


def test_every_entry_gets_a_map_by_the_method_or_its_kinds_default():
    observation = {"camera": IMAGE, "speed": np.ones(2, np.float32)}

    def policy(batch):
        return batch["camera"][:, 0, :2, 0] * batch["speed"]

    maps = explain(policy, observation, method="rise", n=100, target=["chosen"], every_entry=True)
    assert {m.entry: m.method for m in maps} == {"camera": "rise", "speed": "feature_perturbation"}
    maps = explain(policy, observation, method="feature_perturbation", samples=4, target=["actor"], every_entry=True)
    assert {m.entry: m.method for m in maps} == {"camera": "perturbation", "speed": "feature_perturbation"}
    assert maps[1].options["samples"] == 4
    with pytest.raises(SaliencyError, match="rise has no option 'samples'"):  # though the vector's method has
        explain(policy, observation, method="rise", samples=4, every_entry=True)


class GraphPolicy:
    """What a replica offers: a graph that names its inputs, and a call with a dict."""

    device = "cpu"

    def __init__(self, *inputs):
        self.graph = SimpleNamespace(inputs=[SimpleNamespace(**item) for item in inputs])

    def __call__(self, inputs):
        return {
            "logits": inputs["x"][:, 0, 3:5, 3] + inputs["h"][0, :, :1],
            "value": inputs["h"][0, :, 0].expand(len(inputs["x"])),
        }


INPUTS = (
    {"name": "x", "array": "observation", "role": "observation", "shape": (-1, 1, 20, 20)},
    {"name": "h", "array": "input/h", "role": "state", "shape": (1, -1, 4)},
)


def test_graph_policy_gets_its_inputs_by_name():
    policy = GraphPolicy(*INPUTS)
    actor, critic = explain(policy, IMAGE, state={"h": np.zeros((1, 1, 4), np.float32)}, target=None)
    np.testing.assert_array_equal(actor.grid, explain(lambda b: b[:, 0, 3:5, 3], IMAGE, target="actor").grid)
    assert critic.grid.max() == 0


def test_graph_policy_without_its_state_is_refused_by_name():
    with pytest.raises(SaliencyError, match="state 'h' is missing"):
        explain(GraphPolicy(*INPUTS), IMAGE)


def test_integer_observations_that_the_policy_treats_otherwise_are_refused():
    def policy(batch):
        return (batch.float() / 255 if batch.dtype == torch.uint8 else batch)[:, 0, :2, 0]

    with pytest.raises(SaliencyError, match="something else from float32 than from torch.uint8"):
        explain(policy, (IMAGE * 255).astype(np.uint8))


def test_integer_observations_are_converted_for_a_policy_that_takes_float32_alone():
    policy = nn.Sequential(nn.Flatten(), nn.Linear(400, 2))
    observation = (IMAGE * 255).astype(np.uint8)
    saliency = explain(policy, observation, target="actor")
    np.testing.assert_array_equal(saliency.grid, explain(policy, observation.astype(np.float32), target="actor").grid)


def test_a_function_of_arrays_gets_the_maps_of_one_of_tensors():
    weight = np.random.default_rng(1).normal(size=(400, 3)).astype(np.float32)

    def of_arrays(x):
        assert isinstance(x, np.ndarray | torch.Tensor)
        return np.tanh(x.reshape(len(x), -1)) @ weight

    def of_tensors(x):
        return torch.tanh(x.flatten(1)) @ torch.from_numpy(weight)

    expected = explain(of_tensors, IMAGE, target="actor").heatmap
    np.testing.assert_allclose(explain(of_arrays, IMAGE, target="actor").heatmap, expected, atol=1e-5 * expected.max())


def test_a_function_of_jax_is_explained():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    weight = np.random.default_rng(1).normal(size=(400, 3)).astype(np.float32)
    policy = jax.jit(lambda x: jax.numpy.tanh(x.reshape(len(x), -1)) @ weight)
    expected = explain(lambda x: torch.tanh(x.flatten(1)) @ torch.from_numpy(weight), IMAGE, target="actor").heatmap
    np.testing.assert_allclose(explain(policy, IMAGE, target="actor").heatmap, expected, atol=1e-4 * expected.max())


def test_what_a_function_raises_of_its_own_is_told():
    def broken(x):
        raise TypeError("no such colour")

    with pytest.raises(SaliencyError, match="no such colour"):
        explain(broken, IMAGE, target="actor")
