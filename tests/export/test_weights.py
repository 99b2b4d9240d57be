import numpy as np
import pytest
import torch

from agentwrap_export.weights import WeightsWatch


def watch(**tensors):
    made = WeightsWatch(tensors, every=1e-9)
    made.snapshot()
    assert not made.changed()
    return made


def test_before_the_first_snapshot_all_is_new():
    weights = WeightsWatch({"a": torch.zeros(2)})
    assert weights.changed()
    assert weights.snapshot()["a"].tolist() == [0, 0]
    assert not weights.changed()


def test_snapshots_are_copies():
    tensor = torch.zeros(2)
    array = WeightsWatch({"a": tensor}).snapshot()["a"]
    tensor += 1
    assert array.tolist() == [0, 0]


@pytest.mark.parametrize(
    "change",
    [
        lambda tensor: tensor.add_(1),
        lambda tensor: tensor.data.add_(1),
        lambda tensor: tensor.data.__setitem__(0, float("nan")),
        lambda tensor: setattr(tensor, "data", torch.full((3,), 2.0)),
        lambda tensor: tensor.numpy().__setitem__(1, 1e-30),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_changes_of_all_kinds_show(change, dtype):
    tensor = torch.zeros(3) if dtype is torch.bfloat16 else torch.zeros(3, dtype=dtype)
    weights = watch(a=torch.ones(2), b=tensor)
    change(tensor)
    if dtype is torch.float16 and not tensor.any():
        return  # 1e-30 is nothing in half precision
    assert weights.changed()
    assert weights.changed(), "until there is a snapshot"
    weights.snapshot()
    assert not weights.changed()


def test_what_nobody_sees_can_be_told():
    weights = watch(a=torch.zeros(2))
    weights.suspect()
    assert weights.changed()
    weights.mark()
    assert not weights.changed()


def test_an_optimizers_step_shows():
    layer = torch.nn.Linear(2, 2)
    weights = watch(**dict(layer.named_parameters()))
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    assert not weights.changed(), "gradients are no weights"
    optimizer.step()
    assert weights.changed()


def test_sums_are_made_no_more_often_than_asked_for():
    tensor = torch.zeros(3)
    weights = WeightsWatch({"a": tensor}, every=1000)
    weights.snapshot()
    tensor.data.add_(1)
    assert not weights.changed()


def test_tensors_of_all_kinds():
    with torch.inference_mode():
        inference = torch.ones(2)
    weights = watch(
        bf16=torch.ones(2, dtype=torch.bfloat16),
        flag=torch.tensor([True, False]),
        count=torch.tensor(3),
        empty=torch.zeros(0),
        strided=torch.arange(6.0).reshape(2, 3).T,
        inference=inference,
        complex=torch.ones(2, dtype=torch.complex128),
    )
    arrays = weights.snapshot()
    assert arrays["bf16"].dtype == np.float32
    assert arrays["count"].shape == ()
    assert arrays["strided"].tolist() == [[0, 3], [1, 4], [2, 5]]


def assigned(layer):
    layer[0].load_state_dict({name: tensor + 1 for name, tensor in layer[0].state_dict().items()}, assign=True)


def parameter_replaced(layer):
    layer[0].weight = torch.nn.Parameter(layer[0].weight.detach() + 1)


def layer_replaced(layer):
    layer[0] = torch.nn.Linear(2, 2)


def buffer_replaced(layer):
    layer[1].running_mean = torch.ones(2)


@pytest.mark.parametrize("replace", [assigned, parameter_replaced, layer_replaced, buffer_replaced])
def test_tensors_that_take_the_place_of_others_are_followed(replace):
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    live = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    sources = {f"weight/{name}": name for name in live}
    watched = {f"weight/{name}": tensor for name, tensor in live.items()}
    weights = WeightsWatch(watched, module=module, sources=sources, every=1e-9)
    weights.snapshot()
    assert not weights.changed()
    replace(module)
    assert weights.changed()
    arrays = weights.snapshot()
    for name, tensor in module.state_dict().items():
        np.testing.assert_array_equal(arrays[f"weight/{name}"], tensor.numpy())
    assert not weights.changed()
    with torch.no_grad():
        module[0].weight.add_(1)
    assert weights.changed(), "and changes of them are seen"
