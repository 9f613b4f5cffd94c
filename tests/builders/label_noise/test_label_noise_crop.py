"""Core crops against a naive implementation of SR appendix H."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference.label_noise import crop_box

from spurious_imagenet.builders.label_noise import Box, core_box, core_crop
from spurious_imagenet.builders.label_noise._crop import in_original
from spurious_imagenet.errors import DataError
from spurious_imagenet.images import Preprocess

shapes = st.tuples(st.integers(1, 3), st.integers(4, 20), st.integers(4, 20))
# Sixteenths: means of them are the same in every order of summation.
maps_of = shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=st.integers(0, 16).map(lambda i: i / 16)))


@settings(max_examples=60, deadline=None)
@given(maps_of, st.sampled_from([0.5, 0.9, 1.0]), st.sampled_from([0.0, 0.2, 0.5]))
def test_the_box_is_the_naive_one(maps: np.ndarray, threshold: float, margin: float) -> None:
    mean = maps.mean(axis=0)
    if mean.max() - mean.min() <= 1e-6:
        with pytest.raises(DataError, match="same at every place"):
            core_box(maps, threshold=threshold, margin=margin)
        return
    box = core_box(maps, threshold=threshold, margin=margin)
    assert box == crop_box(maps.tolist(), threshold, margin)
    height, width = mean.shape
    assert 0 <= box.left < box.right <= width
    assert 0 <= box.top < box.bottom <= height
    tall, wide = box.bottom - box.top, box.right - box.left
    assert tall == wide or min(tall, wide) == min(height, width)
    scaled = (mean - mean.min()) / (mean.max() - mean.min())
    rows, columns = np.nonzero(scaled >= threshold)
    assert box.top <= rows.min() <= rows.max() < box.bottom
    assert box.left <= columns.min() <= columns.max() < box.right


@settings(max_examples=20, deadline=None)
@given(maps_of, st.randoms())
def test_the_order_of_the_maps_does_not_matter(maps: np.ndarray, random) -> None:  # type: ignore[no-untyped-def]
    if np.ptp(maps.mean(axis=0)) <= 1e-6:
        return
    order = list(range(len(maps)))
    random.shuffle(order)
    assert core_box(maps[order]) == core_box(maps)


def test_a_known_box() -> None:
    maps = np.zeros((1, 100, 100))
    maps[0, 40:60, 30:40] = 1.0  # 20 high, 10 wide: grown to 24 by 12, then to 24 by 24
    assert core_box(maps) == Box(23, 38, 47, 62)
    maps = np.zeros((1, 100, 100))
    maps[0, 0:20, 0:10] = 1.0  # at the corner it grows away from the edge
    assert core_box(maps) == Box(0, 0, 22, 22)


def test_maps_that_peak_at_different_places_keep_what_they_share() -> None:
    maps = np.zeros((2, 10, 10))
    maps[0, 2, 2], maps[1, 7, 7] = 1.0, 1.0
    maps[:, 5, 5] = 0.8
    assert core_box(maps, margin=0.0) == Box(5, 5, 6, 6)


def test_the_crop_is_cut_out_of_the_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    maps = np.zeros((1, 100, 100))
    maps[0, 40:60, 30:40] = 1.0
    assert np.array_equal(core_crop(image, maps), image[38:62, 23:47])


@pytest.mark.parametrize(
    "maps", [np.zeros((0, 4, 4)), np.zeros((4, 4)), np.full((1, 4, 4), np.nan), np.full((2, 4, 4), 0.5)]
)
def test_maps_without_a_peak_are_refused(maps: np.ndarray) -> None:
    with pytest.raises(DataError):
        core_box(maps)


def test_maps_of_another_size_are_refused() -> None:
    with pytest.raises(DataError, match=r"\(4, 4\) px do not fit an image of \(5, 5\) px"):
        core_crop(np.zeros((5, 5, 3), np.uint8), np.ones((1, 4, 4)))


@pytest.mark.parametrize("mode", ["shortest", "squash"])
@pytest.mark.parametrize("resize", [64, 80])
@pytest.mark.parametrize(("height", "width"), [(128, 128), (120, 200), (300, 131), (40, 64)])
def test_a_box_lies_at_the_same_place_of_the_original(mode: str, resize: int, height: int, width: int) -> None:
    """Pixels that hold their own coordinates: what the input shows in the box is what the original has there."""
    preprocess = Preprocess(size=64, resize=resize, resize_mode=mode, interpolation="bilinear")
    y, x = np.mgrid[0:height, 0:width]
    image = np.stack([y * 255 // height, x * 255 // width, 0 * x], axis=2).astype(np.uint8)
    shown = preprocess.apply(image)
    left, top, right, bottom = in_original(Box(16, 8, 48, 40), preprocess, height, width)
    steps = 255 / 64 * 2 + 255 / min(height, width) + 2  # two pixels of the input, one of the image, rounding
    for channel, first, last, start, end, length in ((0, 8, 39, top, bottom, height), (1, 16, 47, left, right, width)):
        line = shown[:, 32, channel] if channel == 0 else shown[24, :, channel]
        assert abs(int(line[first]) - start * 255 / length) <= steps
        assert abs(int(line[last]) - end * 255 / length) <= steps
