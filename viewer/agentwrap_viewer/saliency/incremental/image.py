"""Rules for the perturbed image: what is affine passes by, and the first convolution sees mask and image apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from agentwrap_viewer.program import Values

from .geometry import Axis, Field
from .maps import convolution_axes
from .values import Image, Map, Planned, Site

#: Operators that change image and change alike, and those that change the image alone.
_SCALING = {f"aten.{name}" for name in ("_to_copy.default", "mul.Tensor", "div.Tensor", "mul.Scalar", "div.Scalar")}
_SHIFTING = {f"aten.{name}" for name in ("add.Tensor", "sub.Tensor", "add.Scalar", "sub.Scalar")}

#: Most bytes of the masks' pieces, or of the first layer's table.
MAX_BYTES = 2**28


def image_rule(site: Site) -> Planned | None:
    """Plan a step whose first argument is the perturbed image; None where there is no rule."""
    op, kind = site.step.node.op, site.kinds[0]
    assert isinstance(kind, Image)
    if not site.rest_is_fixed:
        return None
    if op in _SCALING | _SHIFTING and all(map(_without_place, site.arguments[1:])):
        return _affine(site, kind, change_too=op in _SCALING)
    if op == "aten.permute.default":
        order = [axis % len(site.arguments[1]) for axis in site.arguments[1]]
        axes = (order.index(kind.axes[0]), order.index(kind.axes[1]))
        return _affine(site, Image(axes), change_too=True)
    if op == "aten.convolution.default" and kind.axes == (2, 3):
        return _first_convolution(site)
    return None


def _without_place(argument: Any) -> bool:
    """Whether an argument of pointwise arithmetic is the same for all pixels."""
    return not isinstance(argument, torch.Tensor) or all(length == 1 for length in argument.shape)


def _affine(site: Site, kind: Image, *, change_too: bool) -> Planned:
    call, (slot, *rest) = site.step.call, site.step.slots

    def act(values: Values) -> Any:
        image, change = values[slot]
        arguments = [values[other] for other in rest]
        return call(image, *arguments), call(change, *arguments) if change_too else change

    return act, kind


def _first_convolution(site: Site) -> Planned | None:
    """Plan conv(image + M·change) = conv(image) + Σ over the pixels under the kernel of M · (what that pixel adds)."""
    axes = convolution_axes(site)
    if axes is None:
        return None
    weight, bias, stride, padding, dilation = site.arguments[1:6]
    out_channels, in_channels, *kernel = weight.shape
    sliding = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    pieces = _mask_pieces(site.masks, axes, sliding, out_channels)
    if pieces is None:
        return None
    masks, field = pieces
    pixels, most, taps = masks.shape
    table = masks.new_zeros(field.count, out_channels)
    differing = table[field.pixels + 1 :].view(pixels, most, out_channels)
    call, slots = site.step.call, site.step.slots

    def act(values: Values) -> torch.Tensor:
        image, change = values[slots[0]]
        clean = call(image, *(values[slot] for slot in slots[1:]))[0].flatten(1).T
        by_tap = site.keep(
            values,
            slots[1],
            "by tap",
            lambda w: w.permute(2, 3, 1, 0).reshape(taps, in_channels, out_channels).contiguous(),
        )
        under = F.unfold(change, **sliding).view(in_channels, taps, pixels).permute(1, 2, 0)
        adds = torch.bmm(under, by_tap).transpose(0, 1)
        torch.bmm(masks, adds, out=differing)
        differing.add_(clean[:, None])
        table[: field.pixels] = clean
        return table

    return act, Map(field, out_channels)


def _mask_pieces(
    masks: torch.Tensor, axes: tuple[Axis, Axis], sliding: dict[str, Any], out_channels: int
) -> tuple[torch.Tensor, Field] | None:
    """Cut out, for each output pixel, the piece under the kernel of those masks that touch it.

    Returns:
        The pieces (pixels, most masks that touch one pixel, taps), zero where fewer do, and the field of the output;
        None where that would take too much memory.
    """
    size = (axes[0].length, axes[1].length)
    pixels, taps = size[0] * size[1], axes[0].kernel * axes[1].kernel
    cut = [F.unfold(mask[None, None], **sliding)[0].T for mask in masks]
    touched = torch.stack([(piece != 0).any(1) for piece in cut]).numpy(force=True)
    numbers = touched.sum(0)
    most = int(numbers.max(initial=1))
    if 4 * pixels * most * max(taps, out_channels) > MAX_BYTES:
        return None
    place = np.cumsum(touched, axis=0) - 1  # of each mask among those that touch a pixel
    pieces = masks.new_zeros(pixels, most, taps)
    for mask, piece in enumerate(cut):
        at = np.flatnonzero(touched[mask])
        pieces[at, place[mask, at]] = piece[at]
    start = pixels + 1
    rows = np.where(touched, start + np.arange(pixels) * most + place, np.arange(pixels)).reshape(-1, *size)
    low, high = _boxes(touched.reshape(-1, *size))
    return pieces, Field(size, low, high, rows, start + pixels * most)


def _boxes(touched: Any) -> tuple[Any, Any]:
    """Return the smallest boxes [low, high), each (N, 2), that hold what is true in (N, H, W)."""
    ends = []
    for other in (2, 1):
        line = touched.any(other)
        first, beyond = line.argmax(1), line.shape[1] - line[:, ::-1].argmax(1)
        ends.append((first, np.where(line.any(1), beyond, first)))
    return np.stack([end[0] for end in ends], 1), np.stack([end[1] for end in ends], 1)
