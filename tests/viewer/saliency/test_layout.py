import pytest
import torch

from agentwrap_viewer.saliency import SaliencyError, layout_of


@pytest.mark.parametrize(
    ("shape", "channels", "axes", "stack"),
    [
        ((5,), "auto", None, None),
        ((84, 84), "auto", (0, 1), None),
        ((4, 84, 84), "auto", (1, 2), 0),
        ((210, 160, 3), "auto", (0, 1), 2),
        ((3, 3, 3), "auto", (1, 2), 0),
        ((3, 3, 3), "last", (0, 1), 2),
        ((7, 7, 20), "none", (1, 2), 0),
        ((4, 96, 96, 3), "auto", (1, 2), 0),
        ((4, 3, 96, 96), "auto", (2, 3), 0),
    ],
)
def test_axes_of_height_width_and_stack(shape, channels, axes, stack):
    layout = layout_of(shape, channels)
    assert (layout.axes, layout.stack) == (axes, stack)
    assert layout.kind == ("image" if axes else "vector")


@pytest.mark.parametrize("shape", [(0,), (4, 0, 84), (1, 2, 3, 4, 5)])
def test_other_shapes_are_refused_by_name(shape):
    with pytest.raises(SaliencyError, match="neither a vector nor an image"):
        layout_of(shape)


def test_unknown_channels_are_refused():
    with pytest.raises(SaliencyError, match="'first', 'last'"):
        layout_of((1, 2, 3), "middle")


@pytest.mark.parametrize("shape", [(4, 6), (3, 4, 6), (4, 6, 3), (2, 4, 6, 3), (2, 3, 4, 6)])
def test_masks_spread_over_every_plane(shape):
    layout = layout_of(shape)
    masks = torch.rand(2, 4, 6)
    spread = layout.spread(masks).expand(2, *shape).movedim([axis + 1 for axis in layout.axes], (-2, -1))
    assert torch.equal(spread, masks.reshape(2, *[1] * (len(shape) - 2), 4, 6).expand(spread.shape))


def test_newest_only_keeps_the_last_of_the_stack():
    change = torch.ones(4, 5, 5)
    kept = layout_of((4, 5, 5)).newest_only(change)
    assert kept[3].eq(1).all() and kept[:3].eq(0).all()
    assert change.eq(1).all()
