import copy
import random
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import FAMILIES, MLP, EnduroNature, Nature, Normalised, exported, pixels
from torch import nn
from torch.utils._pytree import tree_flatten

from agentwrap_export.errors import ExportError
from agentwrap_export.export import export_policy


class Wrapped(nn.Module):
    """A linear policy with something done before its head."""

    def __init__(self, before, *, size=4):
        super().__init__()
        self.before, self.actor = before, nn.Linear(size, 3)

    def forward(self, x):
        return self.actor(self.before(x))


def export(module, *args, names=("logits",), batched=True, **kwargs):
    return export_policy(module, args, kwargs, output_names=names, batched=batched)


def operators(policy):
    return [node.op for node in policy.graph.nodes]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_takes_batches(name):
    module, policy = exported(name)
    family = FAMILIES[name]
    assert policy.graph.batched
    assert [given.shape.index(-1) for given in policy.graph.inputs if given.role == "state"] == list(family.state_axes)
    assert all(given.shape[0] == -1 for given in policy.graph.inputs if given.role == "observation")
    outputs = {output.name for output in policy.graph.outputs}
    assert {"logits", "mean", "value"} & set(family.names) <= outputs
    own = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
    assert {id(tensor) for tensor in policy.parameters.values()} <= own


def test_inputs_are_described_as_the_policy_was_called():
    _, policy = exported("lstm_cell")
    described = [(i.name, i.array, i.role, i.dtype, i.shape) for i in policy.graph.inputs]
    assert described == [
        ("observation", "observation", "observation", "uint8", (-1, 1, 80, 80)),
        ("state/0", "input/state/0", "state", "float32", (-1, 64)),
        ("state/1", "input/state/1", "state", "float32", (-1, 64)),
    ]


def test_latent_is_what_the_head_is_given():
    _, policy = exported("nature")
    latent = next(output.value.name for output in policy.graph.outputs if output.name == "latent")
    assert next(node.op for node in policy.graph.nodes if node.name == latent) == "aten.relu.default"


def test_an_own_output_named_latent_stays():
    class Own(Nature):
        def forward(self, x):
            logits, value = super().forward(x)
            return logits, value * 2

    policy = export(Own(), pixels(1, 4, 84, 84), names=("logits", "latent"))
    latent = next(output.value.name for output in policy.graph.outputs if output.name == "latent")
    assert next(node.op for node in policy.graph.nodes if node.name == latent) == "aten.mul.Tensor"


def test_the_policy_and_the_random_states_are_left_alone():
    module = Normalised().train()
    module.conv.eval()
    module.actor.weight.requires_grad_(False)
    module.register_forward_hook(lambda *_: None)
    module(torch.rand(2, 3, 16, 16)).sum().backward()
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())

    def seen():
        return (
            {name: (tensor.clone(), tensor._version, tensor.requires_grad) for name, tensor in tensors.items()},
            {name: parameter.grad for name, parameter in module.named_parameters()},
            [child.training for child in module.modules()],
            [len(child._forward_hooks) for child in module.modules()],
            (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()),
            (torch.distributions.Distribution._validate_args, torch.is_grad_enabled()),
        )

    x = torch.rand(1, 3, 16, 16)
    before, structure = tree_flatten(seen())
    export(module, x)
    after, structure_after = tree_flatten(seen())
    assert structure_after == structure
    assert all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(before, after, strict=True))
    assert all(tensors[name] is tensor for name, tensor in module.named_parameters())


def test_the_captured_arguments_are_left_alone():
    class InPlace(MLP):
        def forward(self, x):
            return super().forward(x.mul_(2))

    x = torch.ones(1, 8)
    export(InPlace(), x, names=FAMILIES["mlp"].names)
    assert torch.equal(x, torch.ones(1, 8))


def test_a_random_policy_that_samples_leaves_no_trace_in_the_random_state():
    module = FAMILIES["dict"].make()
    args = FAMILIES["dict"].args(1)
    state = torch.get_rng_state()
    policy = export(module, *args, names=("action", "logits"))
    assert torch.equal(state, torch.get_rng_state())
    assert "action" not in {output.name for output in policy.graph.outputs}


class Capture:
    """As the wrapper's hook: cannot be copied, and must not be called on a copy."""

    __agentwrap__ = True

    def __init__(self):
        self.lock = threading.Lock()

    def see(self, *_):
        raise AssertionError("our hook ran on the copy")


def test_our_hooks_are_not_on_the_copy_and_those_of_the_user_are():
    module = Wrapped(nn.Identity())
    module.actor.register_forward_hook(lambda _, __, output: output * 3)
    handle = module.register_forward_hook(Capture().see)
    module.before.register_forward_pre_hook(Capture().see, with_kwargs=True)
    assert "aten.mul.Tensor" in operators(export(module, torch.rand(1, 4)))
    assert handle.id in module._forward_hooks


def test_a_policy_that_cannot_be_copied_is_exported_and_keeps_its_state():
    class Holding(Nature):
        def __init__(self):
            super().__init__()
            self.lock, self.seen, self.count = threading.Lock(), [], 0
            self.last = self.actor.weight.sum()  # has a history that cannot be copied

        def forward(self, x):
            self.seen.append(1)
            self.count += 1
            return super().forward(x)

    module = Holding()
    policy = export(module, pixels(1, 4, 84, 84), names=("logits", "value"))
    assert policy.parameters["weight/conv1.weight"] is module.conv1.weight
    assert (module.seen, module.count) == ([], 0)


def test_modules_that_a_list_names_too_have_weights_and_no_constants():
    class Ensemble(nn.Module):
        """As Stable-Baselines3's critics, in a policy that cannot be copied."""

        def __init__(self):
            super().__init__()
            self.lock = threading.Lock()
            self.members, self.by_name, self.first = [], {}, None
            for index in range(2):
                member = nn.Linear(4, 3)
                self.add_module(f"member{index}", member)
                self.members.append(member)
                self.by_name[index] = member

        def forward(self, x):
            return self.members[0](x) + self.by_name[1](x)

    module = Ensemble()
    policy = export(module, torch.rand(1, 4))
    assert not policy.constants and len(policy.parameters) == 4
    assert all(policy.parameters[name] is module.get_parameter(source) for name, source in policy.sources.items())
    assert module.members[0] is module.member0 and module.by_name[1] is module.member1


def test_what_only_counts_calls_is_no_part_of_the_graph():
    _, policy = exported("normalised")
    assert "weight/calls" not in policy.parameters
    assert "weight/batch.running_mean" in policy.parameters


def test_keyword_arguments_and_compiled_modules():
    module = MLP()
    policy = export(torch.compile(module, backend="eager"), x=torch.rand(1, 8), names=FAMILIES["mlp"].names)
    assert policy.parameters["weight/log_std"] is module.log_std


def test_a_policy_called_without_batch_axis_takes_batches_where_it_can():
    policy = export(MLP(), torch.rand(8), names=FAMILIES["mlp"].names, batched=False)
    assert policy.graph.batched
    assert policy.graph.inputs[0].shape == (-1, 8)


def test_a_recurrent_policy_called_without_batch_axis():
    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.actor = nn.LSTMCell(4, 8), nn.Linear(8, 2)

        def forward(self, x, state):
            h, c = self.cell(x, state)
            return self.actor(h), (h, c)

    state = (torch.zeros(8), torch.zeros(8))
    policy = export(Cell(), torch.rand(4), state, names=("logits", "h", "c"), batched=False)
    assert [given.shape for given in policy.graph.inputs] == [(-1, 4), (-1, 8), (-1, 8)]


@pytest.mark.parametrize(
    "before",
    [
        lambda x: x.reshape(len(x), -1),  # takes the length of the batch as a fixed number
        lambda x: x - x.mean(0) + x.sum(),  # mixes the rows
    ],
    ids=["fixed", "mixing"],
)
def test_a_policy_that_takes_one_row_at_a_time_is_exported_for_one(before):
    policy = export(Wrapped(before), torch.rand(1, 4))
    assert not policy.graph.batched
    assert policy.graph.inputs[0].shape == (4,)


def test_an_axis_that_the_policy_adds_itself():
    policy = export(Wrapped(lambda x: x[None]), torch.rand(4), batched=False)
    assert policy.graph.batched is False or policy.graph.inputs[0].shape == (-1, 4)


def test_distributions_are_understood():
    class Returns(MLP):
        def forward(self, x):
            return torch.distributions.Independent(torch.distributions.Normal(self.mean(self.body(x)), 0.5), 1)

    policy = export(Returns(), torch.rand(1, 8), names=("mean", "log_std"))
    assert [output.name for output in policy.graph.outputs] == ["mean", "log_std", "latent"]


def test_tensors_that_are_no_parameters_are_constants():
    support = torch.linspace(-1, 1, 4)
    policy = export(Wrapped(lambda x: x * support), torch.rand(1, 4))
    (constant,) = policy.constants.values()
    assert np.array_equal(constant, support.numpy())


def test_half_precision():
    half = export(Wrapped(nn.Identity()).half(), torch.rand(1, 4).half())
    assert {tensor.dtype for tensor in half.graph.parameters} == {"float16"}
    # bfloat16 does not travel: float32 does, and the graph makes bfloat16 of it
    brain = export(Wrapped(nn.Identity()).bfloat16(), torch.rand(1, 4).bfloat16())
    assert {tensor.dtype for tensor in brain.graph.parameters} == {"float32"}
    assert operators(brain).count("aten._to_copy.default") == 2


def test_names_that_modules_may_have_become_names_of_a_graph():
    module = nn.Sequential(nn.Linear(4, 4), nn.ModuleDict({"left arm": nn.Linear(4, 2)})["left arm"])
    module.add_module("an-other", nn.Linear(2, 2))
    assert list(export(module, torch.rand(1, 4)).parameters) == [
        "weight/0.weight", "weight/0.bias", "weight/1.weight", "weight/1.bias",
        "weight/an_other.weight", "weight/an_other.bias",
    ]  # fmt: skip


def test_shared_weights_are_one():
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    module[2].weight = module[0].weight
    policy = export(module, torch.rand(1, 4))
    assert {id(tensor) for tensor in policy.parameters.values()} == {id(tensor) for tensor in module.parameters()}


def test_arrays_as_arguments():
    policy = export(Wrapped(torch.as_tensor), np.ones((1, 4), np.float32))
    assert policy.graph.inputs[0].dtype == "float32"


def branch(x):
    return x if x.sum() > 0 else -x


REFUSED = {
    "random": (lambda x: F.dropout(x, 0.5), "aten.native_dropout.default", "draws random numbers"),
    "unlisted": (lambda x: torch.fft.rfft(x, 6).real, "aten._fft_r2c.default", "not among the operators"),
    "branch": (branch, "return x if x.sum() > 0 else -x", "test_export.py"),
    "numpy": (lambda x: torch.from_numpy(x.numpy()), None, "numpy"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exported_is_named(name, capfd):
    before, operation, text = REFUSED[name]
    with pytest.raises(ExportError, match=text) as caught:
        export(Wrapped(before), torch.rand(1, 4))
    if operation:
        assert caught.value.operation == operation
        assert operation in str(caught.value)
    assert "test_export.py" in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_policy_that_changes_from_call_to_call_is_refused():
    class Alternating(MLP):
        sign = 1

        def forward(self, x):
            self.sign = -self.sign
            return self.sign * self.mean(self.body(x))

    with pytest.raises(ExportError, match="differs from the policy's own"):
        export(Alternating(), torch.rand(1, 8), names=("mean",))


def test_large_constants_are_refused():
    table = torch.zeros(17 * 2**20)
    with pytest.raises(ExportError, match="register them as buffers"):
        export(Wrapped(lambda x: x + table[:4] + table.sum()), torch.rand(1, 4))


def test_a_call_with_more_than_one_observation_is_refused():
    with pytest.raises(ExportError, match=r"observation has shape \(3, 8\)"):
        export(MLP(), torch.rand(3, 8), names=FAMILIES["mlp"].names)


def test_a_policy_that_raises_in_evaluation_mode():
    class Training(MLP):
        def forward(self, x):
            if not self.training:
                raise ValueError("only for training")
            return super().forward(x)

    with pytest.raises(ExportError, match="only for training"):
        export(Training(), torch.rand(1, 8), names=FAMILIES["mlp"].names)


def test_names_that_are_not_those_of_the_outputs():
    with pytest.raises(ExportError, match="gave 3 tensors"):
        export(MLP(), torch.rand(1, 8), names=("logits",))


def test_weights_trained_after_the_export_are_seen():
    module = EnduroNature()
    policy = export(module, pixels(1, 4, 84, 84), names=("logits", "value"))
    before = copy.deepcopy(policy.parameters["weight/actor.bias"])
    with torch.no_grad():
        module.actor.bias += 1
    assert torch.equal(policy.parameters["weight/actor.bias"], before + 1)
