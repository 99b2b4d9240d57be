import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from agentwrap_viewer.saliency.masks import blur, disc_masks, gaussian_masks, patch_masks

sizes = st.tuples(st.integers(3, 40), st.integers(3, 40))


def every(masks):
    return masks.make(torch.arange(masks.arrangement.count)).numpy()


def published(size, centre, sigma):
    """The definition: a disc of radius 1, blurred, divided by its maximum."""
    y, x = np.ogrid[: size[0], : size[1]]
    mask = gaussian_filter(((y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= 1).astype(float), sigma)
    return mask / mask.max()


def test_cut_masks_are_the_whole_ones_without_what_is_small():
    whole, cut = every(gaussian_masks((30, 40), 7, 4.0)), every(gaussian_masks((30, 40), 7, 4.0, 0.1))
    assert ((cut == 0) == (whole < 0.1)).all() and (cut[cut > 0] == whole[cut > 0]).all()
    assert cut.max((1, 2)) == pytest.approx(1)


def test_sums_under_masks():
    plane = np.random.default_rng(0).normal(size=(30, 40)).astype(np.float32)
    for masks in (gaussian_masks((30, 40), 7, 4.0), patch_masks((30, 40), 4, 6)):
        expected = (every(masks) * plane).sum((1, 2))
        np.testing.assert_allclose(masks.sums(torch.from_numpy(plane)), expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(size=sizes, stride=st.integers(1, 9), sigma=st.floats(0.3, 8))
def test_gaussian_masks_are_the_published_ones(size, stride, sigma):
    masks = gaussian_masks(size, stride, sigma)
    centres = [(y, x) for y in range(0, size[0], stride) for x in range(0, size[1], stride)]
    assert masks.arrangement.count == len(centres)
    for number in {0, len(centres) // 2, len(centres) - 1}:
        computed = masks.make(torch.tensor([number]))[0].numpy()
        np.testing.assert_allclose(computed, published(size, centres[number], sigma), atol=2e-6)


@settings(max_examples=20, deadline=None)
@given(size=sizes, stride=st.integers(1, 9), sigma=st.floats(0.3, 8))
def test_gaussian_masks_lie_between_0_and_a_maximum_of_1(size, stride, sigma):
    masks = every(gaussian_masks(size, stride, sigma))
    assert masks.min() >= -1e-6
    np.testing.assert_allclose(masks.max((1, 2)), 1, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(half=st.integers(2, 15), sigma=st.floats(0.3, 5))
def test_gaussian_mask_in_the_middle_is_symmetric(half, sigma):
    n = 2 * half + 1
    mask = every(gaussian_masks((n, n), half, sigma)).reshape(3, 3, n, n)[1, 1]
    for mirrored in (mask[::-1], mask[:, ::-1], mask.T):
        np.testing.assert_allclose(mask, mirrored, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(size=sizes, sigma=st.floats(0.3, 12), seed=st.integers(0, 100))
def test_blur_is_scipys_plane_by_plane(size, sigma, seed):
    planes = np.random.default_rng(seed).uniform(0, 255, (2, *size))
    expected = np.stack([gaussian_filter(plane, sigma) for plane in planes])
    np.testing.assert_allclose(blur(torch.from_numpy(planes).float(), sigma), expected, rtol=1e-4, atol=1e-3)


def test_disc_masks_hold_the_pixels_within_the_radius():
    mask = every(disc_masks((9, 9), 4, 2.0)).reshape(3, 3, 9, 9)[1, 1]
    y, x = np.ogrid[:9, :9]
    np.testing.assert_array_equal(mask, ((y - 4) ** 2 + (x - 4) ** 2 <= 4).astype(np.float32))


@pytest.mark.parametrize(("size", "patch", "stride"), [((10, 12), 4, 3), ((6, 6), 6, 1), ((7, 5), 1, 2)])
def test_patch_masks_are_every_position_that_fits(size, patch, stride):
    expected = []
    for top in range(0, size[0] - patch + 1, stride):
        for left in range(0, size[1] - patch + 1, stride):
            mask = np.zeros(size, np.float32)
            mask[top : top + patch, left : left + patch] = 1
            expected.append(mask)
    np.testing.assert_array_equal(every(patch_masks(size, stride, patch)), expected)
