"""A graph that is not whole is refused by a text that names what is at fault."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from agentwrap_protocol import GraphError
from agentwrap_protocol.graph import Dtype, Graph, Input, List, Node, Output, Ref, Tensor
from agentwrap_protocol.graph_check import MAX_DEPTH, MAX_NODES, check, check_constants, check_parameters
from agentwrap_protocol.operators import OPERATORS

INPUT = Input(name="x", array="observation", dtype="float32", shape=(-1, 3))
WEIGHT = Tensor(name="w", dtype="float32", shape=(2, 3))
SHIFT = Tensor(name="c", dtype="int64", shape=())


def node(name, *args, op="aten.relu.default", **kwargs):
    return Node(name=name, op=op, args=args, kwargs=kwargs)


def output(name="logits", value="y"):
    return Output(name=name, value=Ref(value))


def graph(**changed):
    whole = {
        "inputs": (INPUT,),
        "parameters": (WEIGHT,),
        "constants": (SHIFT,),
        "nodes": (
            node("n", Ref("x"), 0, op="aten.sym_size.int"),
            node("h", List((Ref("x"), List((Ref("w"), Ref("n"))))), op="aten.cat.default"),
            node("y", Ref("h"), op="aten.add.Tensor", other=Ref("c"), dtype=Dtype("float32")),
        ),
        "outputs": (output(), output("value", "h"), output("latent", "x")),
    }
    return Graph(**{**whole, **changed})


def test_a_whole_graph_passes():
    check(graph())
    check(graph(), allowed=OPERATORS.__contains__)
    unbatched = msgspec.structs.replace(INPUT, shape=(3,))
    check(graph(inputs=(unbatched,), batched=False))


FAULTS = {
    "no input": ({"inputs": ()}, "no input"),
    "no output": ({"outputs": ()}, "no output"),
    "two nodes of a name": ({"nodes": (node("y"), node("y"))}, "2 .* named 'y'"),
    "a node named as an input": ({"nodes": (node("x"), node("y"))}, "named 'x'"),
    "a weight named as a constant": ({"constants": (msgspec.structs.replace(SHIFT, name="w"),)}, "named 'w'"),
    "a reference to nothing": ({"nodes": (node("y", Ref("z")),)}, "node 'y': refers to 'z', which does not exist"),
    "a reference to nothing in a list": ({"nodes": (node("y", List((List((Ref("z"),)),))),)}, "'z'.*does not exist"),
    "a reference to nothing by keyword": ({"nodes": (node("y", other=Ref("z")),)}, "'z'.*does not exist"),
    "a node that refers to itself": ({"nodes": (node("y", Ref("y")),)}, "'y'.*cycle"),
    "two nodes in a cycle": ({"nodes": (node("h", Ref("y")), node("y", Ref("h")))}, "node 'h': .*'y'.*cycle"),
    "an output of nothing": ({"outputs": (output(value="z"),)}, "output 'logits': .*'z'.*does not exist"),
    "two outputs of a name": ({"outputs": (output(), output())}, "2 outputs are named 'logits'"),
    "an operator that is none": ({"nodes": (node("y", op="os.system('x')"),)}, "'y'.*not the name of an operator"),
    "an operator without a name": ({"nodes": (node("y", op=""),)}, "'y'.*not the name of an operator"),
    "an input filled by an action": (
        {"inputs": (msgspec.structs.replace(INPUT, array="action"),)}, "input 'x': .*'action'",
    ),
    "an input filled by no key": (
        {"inputs": (msgspec.structs.replace(INPUT, array="observation/"),)}, "input 'x': .*'observation/'",
    ),
    "an input of an unknown type": ({"inputs": (msgspec.structs.replace(INPUT, dtype="object"),)}, "'x'.*'object'"),
    "an input with two batch axes": (
        {"inputs": (msgspec.structs.replace(INPUT, shape=(-1, -1)),)}, "'x'.*more than one",
    ),
    "a batch axis where there is none": ({"batched": False}, "'x'.*not batched"),
    "no batch axis where there is one": (
        {"inputs": (msgspec.structs.replace(INPUT, shape=(3,)),)}, "batched, but no input",
    ),
    "an observation with a next value": (
        {"inputs": (msgspec.structs.replace(INPUT, next="logits"),)}, "'x': has a next value, but is no state",
    ),
    "state whose next value is missing": (
        {"inputs": (INPUT, msgspec.structs.replace(INPUT, name="s", role="state", next="h"))}, "'s'.*'h'.*not exist",
    ),
    "state without a batch axis": (
        {"inputs": (INPUT, Input(name="s", array="input/s", role="state", dtype="float32", shape=(2,), next="value"))},
        "'s': has a next value, but is no state with a batch axis",
    ),
    "a weight with a batch axis": (
        {"parameters": (msgspec.structs.replace(WEIGHT, shape=(-1, 3)),)}, "parameter 'w'.*batch axis",
    ),
    "a weight of complex numbers": (
        {"parameters": (msgspec.structs.replace(WEIGHT, dtype="complex64"),)}, "parameter 'w'.*'complex64'",
    ),
    "a weight of 16 GiB": (
        {"parameters": (msgspec.structs.replace(WEIGHT, shape=(2**16, 2**16)),)}, "parameter 'w'.*at most 1073741824",
    ),
    "a constant that overflows": (
        {"constants": (msgspec.structs.replace(SHIFT, shape=(2**31, 2**31, 2**31)),)}, "constant 'c'.*at most",
    ),
    "weights of 3 GiB together": (
        {"parameters": tuple(Tensor(name=f"w{i}", dtype="uint8", shape=(2**30,)) for i in range(3))},
        "parameters of 3221225472 bytes",
    ),
    "too many nodes": ({"nodes": (node("y"),) * (MAX_NODES + 1)}, "65537 nodes, at most"),
    "too many weights": ({"parameters": (WEIGHT,) * 16_385}, "16385 parameters, at most"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault):
    changed, says = FAULTS[fault]
    with pytest.raises(GraphError, match=says):
        check(graph(**changed))


def test_an_operator_that_is_not_allowed_is_named():
    with pytest.raises(GraphError, match=r"node 'y': operator 'aten.from_file.default' is not allowed"):
        check(graph(nodes=(node("y", op="aten.from_file.default"),)), allowed=OPERATORS.__contains__)


def test_lists_nest_within_bounds():
    def nested(depth):
        argument = Ref("x")
        for _ in range(depth):
            argument = List((argument,))
        return graph(nodes=(node("y", argument),), outputs=(output(),))

    check(nested(MAX_DEPTH))
    with pytest.raises(GraphError, match="node 'y': lists nest"):
        check(nested(MAX_DEPTH + 1))
    with pytest.raises(GraphError, match="node 'y': lists nest"):
        check(nested(100_000))


def test_arrays_that_fit_pass():
    check_parameters(graph(), {"w": np.zeros((2, 3), np.float32)})
    check_constants(graph(), {"c": np.array(0)})


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({}, "parameter 'w' is missing"),
        ({"w": np.zeros((3, 2), np.float32)}, r"parameter 'w': shape \(3, 2\), the graph has \(2, 3\)"),
        ({"w": np.zeros((2, 3))}, "parameter 'w': element type float64, the graph has float32"),
        ({"w": np.zeros((2, 3), np.float32), "v": np.zeros(1)}, "parameter 'v' is none of the graph's"),
    ],
)
def test_arrays_that_do_not_fit_are_named(arrays, says):
    with pytest.raises(GraphError, match=says):
        check_parameters(graph(), arrays)


def test_constants_are_checked_as_parameters_are():
    with pytest.raises(GraphError, match="constant 'c' is missing"):
        check_constants(graph(), {"constant/c": np.array(0)})
