"""Rules for the perturbed image.

What is affine passes by. The first convolution sees mask and image apart, where that takes less than to perturb the
image in windows, one for each mask, as which it goes to all other layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view

from agentwrap_viewer.program import Values

from .changes import low
from .costs import Costs
from .geometry import Axis, Field, Ints, Listed, Size, grouped
from .maps import convolution_axes
from .values import Boxes, Hold, Image, Map, Planned, Site

#: Operators that change image and change alike, and those that change the image alone.
_SCALING = {f"aten.{name}" for name in ("_to_copy.default", "mul.Tensor", "div.Tensor", "mul.Scalar", "div.Scalar")}
_SHIFTING = {f"aten.{name}" for name in ("add.Tensor", "sub.Tensor", "add.Scalar", "sub.Scalar")}

#: The operator that changes the order of axes.
ORDER = "aten.permute.default"

#: Most bytes of the masks' pieces, or of the first layer's table.
MAX_BYTES = 2**28

#: Most numbers of pieces that are cut at a time: 1 MiB.
PIECES_AT_A_TIME = 2**18

#: From this share of the image on that masks cover, there is nothing to win by windows.
COVERED = 0.9


def image_rule(site: Site) -> Planned | None:
    """Plan a step whose first argument is the perturbed image; None where there is no rule."""
    op, kind = site.step.node.op, site.kinds[0]
    assert isinstance(kind, Image)
    if not site.rest_is_fixed:
        return None
    if is_affine(op, site.arguments[1:]) and op != ORDER:
        return _affine(site, kind, change_too=is_scaling(op))
    if op == ORDER:
        return _affine(site, Image(moved(kind.axes, site.arguments[1])), change_too=True)
    if op == "aten.convolution.default" and kind.axes == (2, 3):
        return _first_convolution(site)
    return None


def is_affine(op: str, others: Sequence[Any]) -> bool:
    """Whether a step does to all pixels the same, a scaling or shift or a change of axes; ``others`` come after it."""
    return op == ORDER or (op in _SCALING | _SHIFTING and all(map(_without_place, others)))


def is_scaling(op: str) -> bool:
    """Whether an affine step shifts nothing, so that a change goes through it as the image does."""
    return op == ORDER or op in _SCALING


def moved(axes: tuple[int, int], order: Sequence[int]) -> tuple[int, int]:
    """Return where two axes are after a permutation."""
    positive = [axis % len(order) for axis in order]
    return positive.index(axes[0]), positive.index(axes[1])


def _without_place(argument: Any) -> bool:
    """Whether an argument of pointwise arithmetic is the same for all pixels."""
    return not isinstance(argument, torch.Tensor) or all(length == 1 for length in argument.shape)


def _affine(site: Site, kind: Image, *, change_too: bool) -> Planned:
    call, (slot, *rest) = site.step.call, site.step.slots

    def act(values: Values) -> Any:
        image, change, memo = values[slot]
        arguments = [values[other] for other in rest]
        return call(image, *arguments), call(change, *arguments) if change_too else change, memo

    return act, kind


def _first_convolution(site: Site) -> Planned | None:
    """Plan conv(image + M·change) = conv(image) + Σ over the pixels under the kernel of M · (what that pixel adds).

    It is one product for each output pixel, to which the clean result comes as one more pixel that every mask has.
    """
    axes = convolution_axes(site)
    if axes is None or not _pieces_pay(site, axes):
        return None
    weight, _, stride, padding, dilation = site.arguments[1:6]
    out_channels, in_channels, *kernel = weight.shape
    sliding = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    pieces = _mask_pieces(site.masks, axes, site.hold)
    masks, field, seen = pieces.masks, pieces.field, pieces.seen  # what is run holds no layout
    pixels, count, taps, is_low = field.pixels, field.count, masks.shape[2] - 1, site.low
    if is_low:
        masks = site.hold(low(masks[:, :, :taps]).contiguous())
    slots, out, clean_slot = site.step.slots, site.step.out, site.clean()

    def added(values: Values) -> torch.Tensor:
        """Return (taps + 1, pixels, C): what each input adds to the outputs that see it, and the clean outputs."""
        _, change, memo = values[slots[0]]
        if out not in memo:
            by_tap = values[slots[1]].permute(2, 3, 1, 0).reshape(taps, in_channels, out_channels)
            under = F.unfold(change, **sliding).view(in_channels, taps, pixels).permute(1, 2, 0)
            adds = under.new_empty(taps + 1, pixels, out_channels)
            torch.bmm(under, by_tap, out=adds[:taps])
            adds[taps] = values[clean_slot]
            memo[out] = adds
        kept: torch.Tensor = memo[out]
        return kept

    def act(values: Values) -> torch.Tensor:
        adds = added(values)
        table = adds.new_empty(count, out_channels)
        table[:pixels] = adds[taps]
        table[pixels] = 0
        differing = table[pixels + 1 :].view(*masks.shape[:2], out_channels)
        by_pixel = adds.transpose(0, 1)[seen]
        if is_low:
            torch.add(by_pixel[:, taps:], torch.bmm(masks, low(by_pixel[:, :taps])), out=differing)
        else:
            torch.bmm(masks, by_pixel, out=differing)
        return table

    return act, Map(field, out_channels)


def _pieces_pay(site: Site, axes: tuple[Axis, Axis]) -> bool:
    """Whether it takes less to go by output pixels and masks than by windows of perturbed images."""
    out_channels, in_channels, *kernel = site.arguments[1].shape
    boxes = site.boxes()
    ends = [axis.touched(boxes[0][:, place], boxes[1][:, place]) for place, axis in enumerate(axes)]
    low, high = (np.stack([end[which] for end in ends], 1) for which in (0, 1))
    size, taps = (axes[0].length, axes[1].length), kernel[0] * kernel[1]
    pixels, rows = size[0] * size[1], size[0] * size[1] * _most_on_one(low, high, size)
    if 4 * rows * max(taps, out_channels) > MAX_BYTES:
        return False
    by_pixel: float = (pixels * in_channels + 2 * rows) * taps * out_channels  # small products: half as fast
    area = float((high - low).prod(1).sum())
    read = in_channels * axes[0].stride * axes[1].stride
    return by_pixel < area * site.costs.window(taps * in_channels * out_channels, 2 * read, out_channels)


def _most_on_one(low: Ints, high: Ints, size: Size) -> int:
    """Return how many boxes lie on the pixel on which most do."""
    steps = np.zeros((size[0] + 1, size[1] + 1), np.int64)
    for y, x, sign in ((low, low, 1), (low, high, -1), (high, low, -1), (high, high, 1)):
        np.add.at(steps, (y[:, 0], x[:, 1]), sign)
    return int(steps.cumsum(0).cumsum(1).max())


def windows_of(
    shape: tuple[int, ...], kind: Image, masks: torch.Tensor, boxes: Boxes, costs: Costs, hold: Hold
) -> tuple[_Perturb, Map] | None:
    """Perturb an image in windows, one for each mask, and lay them out as a feature map.

    Args:
        shape: Of the image, with its batch axis of one.
        kind: Where height and width are.
        masks: float32 (N, H, W).
        boxes: Where they differ from zero.
        costs: What things cost where this runs.
        hold: Takes note of a tensor that the plan keeps, and returns it.

    Returns:
        What makes a table of the pair (image, change), and what it makes; None where the masks cover the image.
    """
    if kind.axes != (2, 3) or len(shape) != 4:
        return None
    channels, size = shape[1], (shape[2], shape[3])
    low, high = boxes
    if (high - low).prod(1).mean() > COVERED * size[0] * size[1]:
        return None
    field = grouped(low, high, size, cost=costs.window(0, channels, channels), group_cost=costs.group, clean=True)
    at, mask = [], []
    for group in field.groups:
        y, x = (group.corner[:, axis, None] + np.arange(group.shape[axis]) for axis in (0, 1))
        at.append(((y * size[1])[:, :, None] + x[:, None, :]).ravel())
        mask.append((group.which[:, None] * (size[0] * size[1]) + at[-1].reshape(len(y), -1)).ravel())
    device = masks.device
    pixels = torch.from_numpy(np.concatenate(at).astype(np.int32)).to(device)
    amount = masks.view(-1, 1).index_select(0, torch.from_numpy(np.concatenate(mask)).to(device))
    return _Perturb(field, hold(pixels), hold(amount)), Map(field, channels)


@dataclass(frozen=True)
class _Perturb:
    """Makes the table of a perturbed image.

    Attributes:
        field: Its layout.
        pixels: (rows,): for each row after the clean ones, the pixel.
        amount: (rows, 1): how much the mask changes it.
    """

    field: Field
    pixels: torch.Tensor
    amount: torch.Tensor

    def __call__(self, image: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        image, change = (tensor.flatten(2)[0].T.contiguous() for tensor in (image, change))
        table = image.new_empty(self.field.count, image.shape[1])
        table[: self.field.pixels] = image
        table[self.field.pixels] = 0
        differing = table[self.field.pixels + 1 :]
        torch.addcmul(
            image.index_select(0, self.pixels), change.index_select(0, self.pixels), self.amount, out=differing
        )
        return table


@dataclass(frozen=True, eq=False)
class _Pieces:
    """What of the masks lies under the kernel, for each output pixel.

    Attributes:
        masks: (pixels, most masks that touch one pixel, taps + 1), with a last number that is 1; zero where fewer do.
        seen: The pixels: from the first that any mask touches to the last.
        field: The layout of the output.
    """

    masks: torch.Tensor
    seen: slice
    field: Field


def _mask_pieces(masks: torch.Tensor, axes: tuple[Axis, Axis], hold: Hold) -> _Pieces:
    """Cut out, for each output pixel, the piece under the kernel of those masks that touch it.

    Some at a time: all pieces at once would take as much memory as the result. By NumPy, whose calls wait for no other
    thread: there are hundreds of them.
    """
    size, taps = (axes[0].length, axes[1].length), axes[0].kernel * axes[1].kernel
    amounts = masks.numpy(force=True)
    under = _under(_under(amounts, axes[0], 1), axes[1], 2)  # (N, h, w, taps, taps)
    touched = _under(_under(amounts != 0, axes[1], 2).any(3), axes[0], 1).any(3)
    pixel, which = np.nonzero(touched.reshape(len(masks), -1).T)
    numbers = np.bincount(pixel, minlength=size[0] * size[1])
    first, beyond = (int(pixel[0]), int(pixel[-1]) + 1) if len(pixel) else (0, 1)
    most = int(numbers.max(initial=1))
    place = np.arange(len(pixel)) - (numbers.cumsum() - numbers)[pixel]  # among the masks that touch a pixel
    pieces = np.zeros((beyond - first, most, taps + 1), np.float32)
    pieces[pixel - first, place, taps] = 1
    for some in np.array_split(np.arange(len(pixel)), -(-len(pixel) * taps // PIECES_AT_A_TIME)):
        cut = under[which[some], pixel[some] // size[1], pixel[some] % size[1]]
        pieces[pixel[some] - first, place[some], :taps] = cut.reshape(len(some), taps)
    start = len(numbers) + 1
    rows = np.tile(np.arange(len(numbers)), (len(masks), 1))
    rows[which, pixel] = start + (pixel - first) * most + place
    low, high = _boxes(touched)
    field = Field(size, low, high, Listed(rows.reshape(-1, *size)), start + (beyond - first) * most)
    return _Pieces(hold(torch.from_numpy(pieces).to(masks.device)), slice(first, beyond), field)


def _under(array: Any, axis: Axis, dimension: int) -> Any:
    """Return what lies under the kernel along one dimension, for each output: a view, or of a padded copy.

    Args:
        array: (…, L, …).
        axis: The kernel, and how far it moves.
        dimension: Which one has length L.

    Returns:
        (…, outputs, …, taps).
    """
    width = [(0, 0)] * array.ndim
    beyond = axis.needed(axis.length) - axis.padding - array.shape[dimension]
    width[dimension] = (axis.padding, max(0, beyond))
    padded = np.pad(array, width) if any(map(any, width)) else array
    seen = sliding_window_view(padded, axis.reach, axis=dimension)[..., :: axis.dilation]
    return seen.swapaxes(0, dimension)[:: axis.stride][: axis.length].swapaxes(0, dimension)


def boxes_of(masks: torch.Tensor) -> Boxes:
    """Return the smallest boxes [low, high), each (N, 2), outside of which masks (N, H, W) are zero."""
    return _boxes(masks.numpy(force=True) != 0)


def _boxes(touched: Any) -> Boxes:
    """Return the smallest boxes [low, high), each (N, 2), that hold what is true in (N, H, W)."""
    ends = []
    for other in (2, 1):
        line = touched.any(other)
        first, beyond = line.argmax(1), line.shape[1] - line[:, ::-1].argmax(1)
        ends.append((first, np.where(line.any(1), beyond, first)))
    return np.stack([end[0] for end in ends], 1), np.stack([end[1] for end in ends], 1)
