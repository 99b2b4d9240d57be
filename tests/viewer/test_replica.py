from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import A3CLSTM, FAMILIES, MLP, EnduroNature, Impala, Nature, exported, pixels
from safetensors.numpy import load_file
from torch import nn

from agentwrap.arrays import tensor_to_array
from agentwrap_export.export import export_policy
from agentwrap_export.inputs import call_inputs
from agentwrap_export.results import output_tensors
from agentwrap_protocol import decode, encode
from agentwrap_protocol import graph as g
from agentwrap_protocol.errors import GraphError
from agentwrap_protocol.messages import PolicyGraph, Weights
from agentwrap_protocol.operators import OPERATORS, TENSOR_OPERATORS
from agentwrap_viewer.operators import operator
from agentwrap_viewer.program import MAX_BYTES, MAX_ELEMENTS
from agentwrap_viewer.replica import Replica

ROOT = Path(__file__).parents[2]
STREAM = "0" * 32


def arrays_of(policy):
    return {name: tensor_to_array(tensor) for name, tensor in policy.parameters.items()}


def over_the_wire(policy):
    """A replica of what arrives at the other end."""
    constants = {f"constant/{name}": array for name, array in policy.constants.items()}
    graph = decode(encode(PolicyGraph(stream=STREAM, graph=policy.graph, arrays=constants)))
    weights = decode(encode(Weights(stream=STREAM, policy_version=1, step=0, arrays=arrays_of(policy))))
    return Replica.from_messages(graph, weights)


def replica_of(module, *args, names=("logits",), batched=True):
    return over_the_wire(export_policy(module.eval(), args, {}, output_names=names, batched=batched))


def inputs_of(module, args):
    return {given.name: given.tensor for given in call_inputs(module, args, {})}


def outputs_of(module, args, names):
    return {name: tensor.detach() for name, tensor in zip(names, output_tensors(module(*args)), strict=True)}


def assert_same(got, expected, *, tolerance=1e-5):
    scale = max(1.0, float(expected.abs().max()))
    assert float((got - expected.reshape(got.shape)).abs().max()) <= tolerance * scale


@pytest.mark.parametrize("name", FAMILIES)
def test_replica_and_module_agree(name):
    module, policy = exported(name)
    replica, family = over_the_wire(policy), FAMILIES[name]
    for rows in (1, 2, 7):
        args = family.args(rows)
        expected = outputs_of(module, args, family.names)
        outputs = replica(inputs_of(module, args))
        for name, tensor in replica.state_after(outputs).items():
            output = next(given.next for given in policy.graph.inputs if given.name == name)
            assert_same(tensor, expected.pop(output))
            assert tensor.shape == inputs_of(module, args)[name].shape  # it can be given to the next call
        assert len(replica.state_after(outputs)) == len(family.state_axes)
        for output in outputs.keys() & expected.keys():
            same_for_all = output == "log_std"
            assert_same(outputs[output], expected[output].expand(rows, -1) if same_for_all else expected[output])
        assert all(tensor.shape[0] == rows and not tensor.requires_grad for tensor in outputs.values())
        assert "value" not in outputs or outputs["value"].shape == (rows,)


@pytest.mark.parametrize("name", ["lstm", "lstm_cell", "gru"])
def test_one_state_stands_for_all_rows(name):
    module, policy = exported(name)
    replica, family = over_the_wire(policy), FAMILIES[name]
    inputs = inputs_of(module, family.args(5))
    for given_, axis in zip(policy.graph.inputs[1:], family.state_axes, strict=True):
        inputs[given_.name] = inputs[given_.name].narrow(axis, 2, 1)
    together = replica(inputs)["logits"]
    for row in range(5):
        alone = replica({**inputs, "observation": inputs["observation"][row : row + 1]})["logits"]
        assert_same(together[row], alone)


CONFORMANCE = {"nature-4x84x84": Nature, "impala-3x64x64": Impala, "a3clstm-1x80x80": A3CLSTM}


@pytest.mark.parametrize("name", CONFORMANCE)
def test_published_networks(name):
    """Weights, observation and expected outputs, computed elsewhere in float64."""
    data = np.load(ROOT / "tests/data/conformance" / f"{name}.npz")
    module = CONFORMANCE[name](actions=len(data["logits"])).eval()
    x = torch.from_numpy(data["observation"])[None]
    args = (x,) if "state_h" not in data else (x, tuple(torch.from_numpy(data[f"state_{part}"]) for part in "hc"))
    names = ("logits", "value", "h", "c")[: len(output_tensors(module(*args)))]
    policy = export_policy(module, args, {}, output_names=names, batched=True)
    replica = over_the_wire(policy)
    replica.load({name: data[name] for name in policy.parameters})
    outputs = replica(inputs_of(module, args))
    assert np.abs(outputs["logits"].numpy() - data["logits"]).max() <= 1e-4
    assert np.abs(outputs["value"].numpy() - data["value"]).max() <= 1e-4


def test_weights_of_the_enduro_policies():
    module = EnduroNature().eval()
    observations = pixels(3, 4, 84, 84)
    policy = export_policy(module, (observations[:1],), {}, output_names=("logits", "value"), batched=True)
    replica = over_the_wire(policy)
    for which in ("expert", "novice"):
        weights = load_file(ROOT / "examples/models" / f"enduro-{which}.safetensors")
        module.load_state_dict({name: torch.from_numpy(array).float() for name, array in weights.items()})
        replica.load(arrays_of(policy))
        expected = outputs_of(module, (observations,), ("logits", "value"))
        for name, output in replica({"observation": observations}).items():
            if name in expected:
                assert_same(output, expected[name])


def test_weights_that_do_not_fit_leave_the_old_ones():
    module, policy = exported("mlp")
    replica, weights = over_the_wire(policy), arrays_of(policy)
    x = {"observation": torch.rand(2, 8)}
    before = replica(x)["mean"]
    name = "weight/mean.bias"
    for fault, changed in {
        "is missing": {key: value for key, value in weights.items() if key != name},
        "shape": {**weights, name: np.zeros(4, np.float32)},
        "element type": {**weights, name: np.zeros(3, np.float64)},
        "none of the graph's": {**weights, "other": np.zeros(3)},
    }.items():
        with pytest.raises(GraphError, match=fault):
            replica.load(changed)
        assert torch.equal(replica(x)["mean"], before)
    replica.load({**weights, name: weights[name] + 1})
    assert_same(replica(x)["mean"], before + 1)


def test_weights_are_copied():
    _, policy = exported("mlp")
    weights = arrays_of(policy)
    replica = Replica(policy.graph, policy.constants, weights)
    x = {"observation": torch.rand(2, 8)}
    before = replica(x)["mean"]
    for array in weights.values():
        array += 1
    assert torch.equal(replica(x)["mean"], before)


def test_perturbed_pixels_are_computed_with_as_floats():
    module, policy = exported("nature")
    x = pixels(3, 4, 84, 84).float() + 0.25
    (expected, _) = module(x)
    assert_same(over_the_wire(policy)({"observation": x})["logits"], expected.detach())


def test_integers_that_are_indices_are_rounded():
    _, policy = exported("dict")
    replica = over_the_wire(policy)
    inputs = inputs_of(*(FAMILIES["dict"].make(), FAMILIES["dict"].args(2)))
    kind = inputs["observation/kind"]
    floats = {**inputs, "observation/kind": kind + 0.3}
    assert torch.equal(replica(floats)["logits"], replica(inputs)["logits"])


class OneRow(nn.Module):
    """Takes exactly one observation, without a batch axis, with a state that all rows share."""

    def __init__(self):
        super().__init__()
        self.conv, self.actor = nn.Conv2d(1, 4, 3), nn.Linear(148, 3)
        self.log_std = nn.Parameter(torch.rand(3))

    def forward(self, x, state):
        x = self.conv(x.unsqueeze(0).float()).relu()
        return self.actor(torch.cat([x.reshape(len(x), -1), state[None]], 1))[0], self.log_std


@pytest.mark.parametrize("vectorised", [True, False])
def test_a_graph_for_one_observation_takes_many(vectorised):
    module = OneRow().eval()
    x, state = pixels(5, 1, 8, 8), torch.rand(4)
    replica = replica_of(module, x[0], state, names=("mean", "log_std"), batched=False)
    assert not replica.graph.batched
    replica._vectorises = vectorised
    outputs = replica({"observation": x, "state": state})
    assert replica._vectorises == vectorised
    for row in range(5):
        mean, log_std = module(x[row], state)
        assert_same(outputs["mean"][row], mean.detach())
        assert torch.equal(outputs["log_std"][row], log_std)
    inputs = replica.inputs_from_step({"observation": x[0].numpy(), "input/state": state.numpy()})
    assert {name: tuple(tensor.shape) for name, tensor in inputs.items()} == {
        "observation": (1, 1, 8, 8),
        "state": (4,),
    }


def test_a_graph_for_one_observation_of_a_policy_called_with_a_batch():
    class FixedLength(MLP):
        def forward(self, x):
            return self.mean(self.body(x.reshape(len(x), -1)))

    module = FixedLength().eval()
    replica = replica_of(module, torch.rand(1, 8), names=("mean",))
    assert not replica.graph.batched
    x = torch.rand(4, 8)
    assert_same(replica({"observation": x})["mean"], module(x).detach())


@pytest.mark.parametrize("name", ["nature", "impala", "lstm", "transformer", "normalised"])
def test_gradients_are_those_of_the_module(name):
    module, policy = exported(name)
    args = FAMILIES[name].args(2)
    x = args[0].float().requires_grad_()
    first = output_tensors(module(x, *args[1:]))[0]
    (expected,) = torch.autograd.grad(first.sum(), x)
    got = x.detach().clone().requires_grad_()
    outputs = over_the_wire(policy).run({**inputs_of(module, args), "observation": got}, grad=True)
    (gradient,) = torch.autograd.grad(outputs["logits"].sum(), got)
    scale = expected.abs().max()
    assert_same(gradient / scale, expected / scale, tolerance=1e-4)


def test_inputs_from_a_step():
    module, policy = exported("lstm")
    replica = over_the_wire(policy)
    x, state = np.ones(8), np.zeros((2, 1, 16), np.float32)
    arrays = {"observation": x, "input/state/0": state, "input/state/1": state[:, 0], "frame": np.zeros((2, 2))}
    inputs = replica.inputs_from_step(arrays)
    assert {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in inputs.items()} == {
        "observation": ((1, 8), torch.float32),
        "state/0": ((2, 1, 16), torch.float32),
        "state/1": ((2, 1, 16), torch.float32),
    }
    replica(inputs)
    preprocessed = replica.inputs_from_step({**arrays, "input/observation": x[None] * 2})
    assert torch.equal(preprocessed["observation"], torch.full((1, 8), 2.0))


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({}, "needs array 'observation', which the step does not have"),
        ({"observation": np.zeros(9)}, r"array 'observation' has shape \(9,\), input 'observation' takes \(8,\)"),
        ({"observation": np.zeros((2, 8))}, r"has shape \(2, 8\)"),
        ({"input/observation": np.zeros(())}, "array 'input/observation' has shape"),
    ],
)
def test_steps_that_do_not_fit(arrays, text):
    with pytest.raises(GraphError, match=text):
        over_the_wire(exported("mlp")[1]).inputs_from_step(arrays)


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({}, "input 'observation' is missing"),
        ({"observation": torch.rand(2, 9)}, r"input 'observation' has shape \(2, 9\), the policy takes \(B, 8\)"),
        ({"observation": torch.rand(0, 8)}, r"has shape \(0, 8\)"),
        ({"observation": torch.rand(2, 8), "other": torch.rand(1)}, "no input 'other'"),
    ],
)
def test_inputs_that_do_not_fit(inputs, text):
    with pytest.raises(GraphError, match=text):
        over_the_wire(exported("mlp")[1])(inputs)


def test_inputs_of_different_lengths():
    module, policy = exported("gru")
    inputs = {"observation": torch.rand(3, 8), "state": torch.rand(1, 2, 16)}
    with pytest.raises(GraphError, match="input 'state' has 2 rows, another has 3"):
        over_the_wire(policy)(inputs)


# ── graphs from someone who means harm ──────────────────────────────────────────────────────────────────────────────

X = g.Ref("observation")


def ints(*values):
    return g.List(values)


def hostile(*nodes, parameters=()):
    """A graph of one input, float32 (B, 4), and nodes given as (op, args) or (op, args, kwargs); the last is "n"."""
    names = [f"n{index}" for index in range(len(nodes) - 1)] + ["n"]
    made = [
        g.Node(name=name, op=op, args=tuple(args), kwargs=dict(*kwargs))
        for name, (op, args, *kwargs) in zip(names, nodes, strict=True)
    ]
    return g.Graph(
        inputs=(g.Input(name="observation", array="observation", dtype="float32", shape=(-1, 4)),),
        parameters=tuple(g.Tensor(name=name, dtype="float32", shape=shape) for name, shape in parameters),
        nodes=tuple(made),
        outputs=(g.Output(name="logits", value=g.Ref("n")),),
    )


def load(graph):
    return Replica(graph, {}, {tensor.name: np.zeros(tensor.shape, np.float32) for tensor in graph.parameters})


BATCH = ("aten.sym_size.int", (X, 0))

HOSTILE = {
    "unknown operator": (hostile(("aten.system.default", (X,))), "'aten.system.default' is not allowed"),
    "operator of another library": (hostile(("prims.add.default", (X, X))), "is not allowed"),
    "attribute of the library": (hostile(("aten.__class__.__init__", (X,))), "is not"),
    "in place": (hostile(("aten.relu_.default", (X,))), "'aten.relu_.default' is not allowed"),
    "writes to an argument": (hostile(("aten.add.out", (X, X), {"out": X})), "is not allowed"),
    "random": (hostile(("aten.native_dropout.default", (X, 0.5, True))), "is not allowed"),
    "raw storage": (hostile(("aten.as_strided.default", (X, ints(9), ints(1)))), "is not allowed"),
    "uninitialised": (hostile(("aten.empty.memory_format", (ints(4, 4),))), "is not allowed"),
    "resizes": (hostile(("aten.resize_.default", (X, ints(9)))), "is not allowed"),
    "a cycle": (hostile(("aten.add.Tensor", (X, g.Ref("n")))), "does not come before it"),
    "nothing there": (hostile(("aten.relu.default", (g.Ref("y"),))), "'y', which does not exist"),
    "too few arguments": (hostile(("aten.add.Tensor", (X,))), "node 'n': aten.add.Tensor: argument 'other' is missing"),
    "too many arguments": (hostile(("aten.relu.default", (X, 1))), "takes 1 positional arguments, 2 were given"),
    "unknown keyword": (hostile(("aten.relu.default", (X,), {"out": X})), "has no argument 'out'"),
    "twice": (hostile(("aten.relu.default", (X,), {"self": X})), "argument 'self' is given twice"),
    "a device in words": (hostile(("aten._to_copy.default", (X,), {"device": "cuda:7"})), "'device' takes a device"),
    "pinned memory": (hostile(("aten._to_copy.default", (X,), {"pin_memory": True})), "'pin_memory' must be false"),
    "a type in numbers": (hostile(("aten._to_copy.default", (X,), {"dtype": 6})), "'dtype' takes a dtype"),
    "an unknown type": (hostile(("aten._to_copy.default", (X,), {"dtype": g.Dtype("complex64")})), "complex64"),
    "an unknown layout": (
        hostile(("aten._to_copy.default", (X,), {"layout": g.Enum("layout", "sparse_coo")})),
        "'sparse_coo' is not a layout",
    ),
    "a type as number": (hostile(("aten.add.Tensor", (X, g.Dtype("float32")))), "not a named constant"),
    "a word for a tensor": (hostile(("aten.relu.default", ("x",))), "node 'n': aten.relu.default: "),
    "shapes that do not fit": (
        hostile(("aten.mm.default", (X, g.Ref("w"))), parameters=[("w", (5, 2))]),
        "node 'n': aten.mm.default: ",
    ),
    "types that do not fit": (hostile(("aten.where.self", (X, X, X))), "node 'n': aten.where.self: "),
    "negative lengths": (hostile(("aten.full.default", (ints(-4, 4), 1.0))), "node 'n': aten.full.default: "),
    "no batch axis": (hostile(("aten.select.int", (X, 0, 0))), r"output 'logits' has shape \(4,\) for a batch of 1"),
    "several results": (hostile(("aten.max.dim", (X, 1))), "output 'logits' is not a tensor"),
    "a length": (hostile(BATCH), "output 'logits' is not a tensor"),
    "a huge tensor": (hostile(("aten.full.default", (ints(2**20, 2**20), 1.0))), "more than 268435456 elements"),
    "an overflowing tensor": (hostile(("aten.full.default", (ints(*[2**40] * 4), 1.0))), "node 'n': aten.full.default"),
    "an expand bomb": (
        hostile(("aten.unsqueeze.default", (X, 2)), ("aten.expand.default", (g.Ref("n0"), ints(-1, -1, 2**40)))),
        r"shape \(1, 4, 1099511627776\)",
    ),
    "a repeat bomb": (hostile(("aten.repeat.default", (X, ints(1, 2**30)))), "node 'n': aten.repeat.default"),
    "a padding bomb": (hostile(("aten.constant_pad_nd.default", (X, ints(0, 2**33)))), "more than"),
    "many that are large": (
        hostile(
            *[("aten.full.default", (ints(2**28), 1.0))] * 9,
            ("aten.cat.default", (g.List(tuple(g.Ref(f"n{i}") for i in range(9))),)),
        ),
        "bytes would be held at once",
    ),
    "large numbers": (
        hostile(BATCH, *[("size.mul", (g.Ref(f"n{i}") if i else 2**31, 2**31)) for i in range(3)]),
        "node 'n1': size.mul: gives",
    ),
    "a list times a number": (hostile(("size.mul", (ints(1, 2), 2**30))), "takes whole numbers, not list and int"),
    "a word times a number": (hostile(("size.mul", ("x", 2**30))), "takes whole numbers, not str"),
    "a tensor for a length": (hostile(("size.add", (X, 1))), "takes whole numbers, not Tensor"),
    "division by zero": (hostile(BATCH, ("size.floordiv", (g.Ref("n0"), 0))), "node 'n': size.floordiv"),
    "an item of a tensor": (hostile(("getitem", (X, 0))), "takes several results"),
    "a result too many": (hostile(("aten.max.dim", (X, 1)), ("getitem", (g.Ref("n0"), 2))), "node 'n': getitem"),
    "an axis too many": (hostile(("aten.sym_size.int", (X, 2))), "node 'n': aten.sym_size.int"),
    "statistics of other channels": (
        hostile(
            ("aten._native_batch_norm_legit_no_training.default", (X, *[g.Ref("s")] * 4, 0.1, 1e-5)),
            parameters=[("s", (1,))],
        ),
        r"statistics of shape \(1,\) for 4 channels",
    ),
    "integers divided by integers": (
        hostile(
            ("aten._to_copy.default", (X,), {"dtype": g.Dtype("int64")}),
            ("aten.div.Tensor_mode", (g.Ref("n0"), g.Ref("n0")), {"rounding_mode": "trunc"}),
        ),
        "integers are divided by positive numbers only",
    ),
    "a mask as index": (
        hostile(("aten.gt.Scalar", (X, 0)), ("aten.index.Tensor", (X, g.List((g.Ref("n0"),))))),
        "element type torch.bool",
    ),
    "groups that do not fit": (
        hostile(("aten.native_group_norm.default", (X, None, None, 1000, 4, 1000, 2, 1e-5))),
        "node 'n': aten.native_group_norm.default",
    ),
    "a padding that overflows": (
        hostile(
            ("aten.view.default", (X, ints(-1, 1, 2, 2))),
            ("aten.convolution.default",
             (g.Ref("n0"), g.Ref("w"), None, ints(1, 1), ints(2**31, 0), ints(1, 1), False, ints(0, 0), 1)),
            parameters=[("w", (1, 1, 1, 1))],
        ),
        "padding or dilation is larger than 65536",
    ),
    "a stride of zero": (
        hostile(
            ("aten.view.default", (X, ints(-1, 1, 2, 2))),
            ("aten.max_pool2d_with_indices.default", (g.Ref("n0"), ints(1, 1), ints(0, 0))),
        ),
        "node 'n': aten.max_pool2d_with_indices.default: stride",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_graphs_are_refused_before_anything_runs(name, monkeypatch):
    def run(*_):
        raise AssertionError("an operator ran")

    monkeypatch.setattr("agentwrap_viewer.program.Program.fill", run)
    graph, text = HOSTILE[name]
    with pytest.raises(GraphError, match=text):
        load(graph)


def test_a_graph_that_grows_with_the_batch_is_refused_at_that_batch():
    rows = g.Ref("n0")
    graph = hostile(
        BATCH,
        ("size.sub", (rows, 1)),
        ("size.sub", (rows, 3)),
        ("size.mul", (g.Ref("n1"), g.Ref("n2"))),  # nothing for 1 and for 3
        ("size.mul", (g.Ref("n3"), 2**30)),
        ("aten.full.default", (g.List((rows, g.Ref("n4"))), 1.0)),
    )
    replica = load(graph)
    with pytest.raises(GraphError, match=f"node 'n': aten.full.default: .* more than {MAX_ELEMENTS} elements"):
        replica({"observation": torch.zeros(5, 4)})


def test_a_batch_that_takes_too_much_memory_is_refused():
    replica = over_the_wire(exported("nature")[1])
    x = torch.zeros(1, 4, 84, 84, dtype=torch.uint8).expand(50_000, 4, 84, 84)
    with pytest.raises(GraphError, match=f"more than ({MAX_ELEMENTS} elements|{MAX_BYTES})"):
        replica._check_size([x], 50_000)


def test_an_index_out_of_range_is_an_error_that_names_the_node():
    graph = hostile(
        ("aten._to_copy.default", (X,), {"dtype": g.Dtype("int64")}),
        ("aten.embedding.default", (g.Ref("w"), g.Ref("n0"))),
        parameters=[("w", (3, 2))],
    )
    replica = load(graph)
    assert replica({"observation": torch.full((2, 4), 2.0)})["logits"].shape == (2, 4, 2)
    with pytest.raises(GraphError, match=r"node 'n': aten.embedding.default: index out of range"):
        replica({"observation": torch.full((2, 4), 3.0)})


def test_missing_and_surplus_constants_are_refused():
    _, policy = exported("mlp")
    with pytest.raises(GraphError, match="constant 'more' is none of the graph's"):
        Replica(policy.graph, {"more": np.zeros(1)}, arrays_of(policy))


def test_every_listed_operator_is_a_pure_function_of_pytorch():
    beyond = {"aten.linalg_vector_norm.default", "aten.adaptive_max_pool2d.default"}
    for name in TENSOR_OPERATORS:
        found = operator(name)
        assert found.schema is not None
        tags = getattr(torch.ops.aten, name.split(".")[1]).__getattr__(name.split(".")[2]).tags
        assert (torch.Tag.core in tags) != (name in beyond)
        assert not {torch.Tag.nondeterministic_seeded, torch.Tag.data_dependent_output}.intersection(tags)


ARGUMENTS = st.recursive(
    st.one_of(
        st.just(X), st.just(g.Ref("w")), st.none(), st.booleans(), st.integers(-3, 9), st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False), st.just(g.Number(float("nan"))), st.just("none"),
        st.sampled_from([g.Dtype("int64"), g.Dtype("float16"), g.Dtype("")]), st.just(g.Enum("device", "default")),
        st.sampled_from([g.Enum("memory_format", "channels_last"), g.Enum("layout", "strided")]),
    ),
    lambda items: st.lists(items, max_size=4).map(lambda found: g.List(tuple(found))),
    max_leaves=6,
)  # fmt: skip
NODES = st.tuples(
    st.sampled_from(sorted(OPERATORS)),
    st.lists(ARGUMENTS, max_size=5),
    st.dictionaries(st.sampled_from(["dtype", "dim", "device", "rounding_mode", "other"]), ARGUMENTS, max_size=2),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(NODES, min_size=1, max_size=3))
def test_whatever_the_graph_it_runs_or_is_refused(nodes):
    graph = hostile(*nodes, parameters=[("w", (4, 4))])
    try:
        outputs = load(graph)({"observation": torch.ones(2, 4)})
    except GraphError as error:
        assert str(error)
    else:
        assert outputs["logits"].shape[0] == 2
