from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference import sensitivity as naive

from spurious_imagenet.builders.sensitivity.corruptions import CORRUPTIONS, blend, corrupt, without_core
from spurious_imagenet.builders.visualise.align_masks import align
from spurious_imagenet.errors import DataError
from spurious_imagenet.images import Preprocess

SIZES = (16, 33, 64)


def noise(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("size", SIZES)
def test_grey_and_patches_are_those_of_the_naive_ones(size: int) -> None:
    image = noise(size)
    np.testing.assert_array_equal(corrupt(image, "grey", rng()), naive.grey(image))
    turned = corrupt(image, "patch-rotate", rng(3))
    np.testing.assert_array_equal(turned, naive.patch_rotate(image, max(2, round(size / 8)), rng(3)))
    assert (turned != image).any()


@pytest.mark.parametrize("size", [32, 64, 96])
def test_blur_is_gaussian(size: int) -> None:
    image = noise(size)
    exact = naive.blur(image, size / 32)
    assert np.abs(corrupt(image, "blur", rng()) - exact).max() <= 0.5 + 1e-3


def test_each_corruption_takes_one_kind_of_information() -> None:
    image = noise(64)
    grey, blur, turned = (corrupt(image, kind, rng()) for kind in CORRUPTIONS)
    assert np.ptp(grey, axis=2).max() == 0  # no colour
    assert blur.std() < 0.35 * image.std()  # no texture
    # Turned patches keep every colour and all that is within a patch.
    np.testing.assert_array_equal(np.sort(turned.reshape(-1, 3), axis=0), np.sort(image.reshape(-1, 3), axis=0))


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_an_empty_mask_keeps_the_image_and_a_full_one_the_corruption(kind: str) -> None:
    image = noise(33)
    corrupted = corrupt(image, kind, rng())
    np.testing.assert_array_equal(blend(image, corrupted, np.zeros((33, 33), np.uint8)), image)
    np.testing.assert_array_equal(blend(image, corrupted, np.full((33, 33), 255, np.uint8)), corrupted)
    np.testing.assert_array_equal(corrupt(image, kind, rng()), corrupted)


small = arrays(np.uint8, (3, 4, 3))
masks = arrays(np.uint8, (3, 4))


@given(small, small, masks)
def test_blending_is_linear_in_the_mask(image: np.ndarray, corrupted: np.ndarray, mask: np.ndarray) -> None:
    mixed = blend(image, corrupted, mask)
    assert np.abs(mixed.astype(int) - naive.blend(image, corrupted, mask).astype(int)).max() <= 1  # ties by rounding
    exact = image + mask[..., None] / 255 * (corrupted.astype(float) - image)
    assert np.abs(mixed - exact).max() <= 0.5 + 1e-9
    np.testing.assert_array_equal(blend(corrupted, image, 255 - mask), mixed)


@given(masks, st.lists(masks, max_size=3))
def test_the_core_leaves_the_mask(mask: np.ndarray, cores: list[np.ndarray]) -> None:
    core = np.max([np.zeros_like(mask), *cores], axis=0)
    left = without_core(mask, core)
    np.testing.assert_array_equal(left, naive.without_core(mask, cores))
    assert (left[core == 255] == 0).all()
    np.testing.assert_array_equal(left[core == 0], mask[core == 0])


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"shape \(4, 5, 3\) cannot be corrupted"):
        corrupt(np.zeros((4, 5, 3), np.uint8), "grey", rng())
    with pytest.raises(DataError, match="cannot be blended"):
        blend(noise(4), noise(4), np.zeros((4, 5), np.uint8))


def ramp(width: int, height: int, axis: int) -> np.ndarray:
    """An image whose pixels say where they are."""
    values = np.arange(width if axis else height, dtype=np.uint8)
    plane = np.broadcast_to(values if axis else values[:, None], (height, width))
    return np.ascontiguousarray(np.broadcast_to(plane[..., None], (height, width, 3)))


transforms = st.builds(
    lambda size, extra, mode: Preprocess(size=size, resize=size + extra, resize_mode=mode, interpolation="bilinear"),
    st.integers(24, 80),
    st.integers(-8, 40),
    st.sampled_from(["shortest", "squash"]),
)
sides = st.integers(40, 250)


@settings(max_examples=60, deadline=None)
@given(transforms, sides, sides, st.integers(0, 1))
def test_the_view_is_what_the_transform_shows(preprocess: Preprocess, width: int, height: int, axis: int) -> None:
    pixels = preprocess.apply(ramp(width, height, axis))[..., 0].astype(float)
    seen = preprocess.view(width, height)
    length, start, stop = (width, seen.left, seen.right) if axis else (height, seen.top, seen.bottom)
    place = (start + (np.arange(preprocess.size) + 0.5) / preprocess.size * (stop - start)) * length - 0.5
    step = (stop - start) * length / preprocess.size
    inside = (place > 2 * step) & (place < length - 1 - 2 * step)  # filters reach over the border elsewhere
    line = pixels[preprocess.size // 2] if axis else pixels[:, preprocess.size // 2]
    assert np.abs(line - place)[inside].max(initial=0) <= 1.01


@settings(max_examples=60, deadline=None)
@given(transforms, transforms, sides, sides)
def test_an_aligned_mask_lies_where_the_other_model_sees_it(
    first: Preprocess, second: Preprocess, width: int, height: int
) -> None:
    image = ramp(width, height, 1)
    mask, wanted = first.apply(image)[..., 0], second.apply(image)[..., 0].astype(float)
    seen, other = first.view(width, height), second.view(width, height)
    aligned = align(mask, seen, other, second.size)
    assert aligned.shape == (second.size, second.size)
    place = other.left + (np.arange(second.size) + 0.5) / second.size * (other.right - other.left)
    margin = 3 * max((seen.right - seen.left) / first.size, (other.right - other.left) / second.size)
    known = (place > max(seen.left, 0) + margin) & (place < min(seen.right, 1) - margin)
    middle = second.size // 2
    assert np.abs(aligned[middle] - wanted[middle])[known].max(initial=0) <= 3
    outside = (place < seen.left - margin) | (place > seen.right + margin)
    assert (aligned[:, outside] == 0).all()
    assert align(mask, seen, seen, first.size) is mask
