"""Core cropping (SR appendix H): the part of an image that activates a class's core features."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spurious_imagenet.errors import DataError
from spurious_imagenet.images import Preprocess

#: Maps whose values differ by no more show no place.
FLAT = 1e-6


class Box(NamedTuple):
    """A rectangle of whole pixels; ``right`` and ``bottom`` are the first ones outside."""

    left: int
    top: int
    right: int
    bottom: int


def core_crop(
    image: NDArray[np.uint8], core_maps: NDArray[np.floating], *, threshold: float = 0.9, margin: float = 0.2
) -> NDArray[np.uint8]:
    """Cut the region out of an image that activates core features (SR appendix H).

    Args:
        image: (H, W, 3) uint8.
        core_maps: (M, H, W) neural activation maps of the class's core features, each in [0, 1].
        threshold: See :func:`core_box`.
        margin: See :func:`core_box`.

    Returns:
        (h, w, 3) uint8, square unless the region is longer than the image's shorter side.

    Raises:
        DataError: The maps do not fit the image, or are the same at every place.
    """
    if core_maps.shape[1:] != image.shape[:2]:
        raise DataError(f"core maps of {core_maps.shape[1:]} px do not fit an image of {image.shape[:2]} px.")
    box = core_box(core_maps, threshold=threshold, margin=margin)
    return image[box.top : box.bottom, box.left : box.right]


def core_box(core_maps: NDArray[np.floating], *, threshold: float = 0.9, margin: float = 0.2) -> Box:
    """Find the square around what activates core features most.

    The maps are averaged, and the average's least and greatest value made 0 and 1, as each map's are: maps that peak
    at different places would otherwise leave nothing above the threshold.

    Args:
        core_maps: (M, H, W) neural activation maps, each in [0, 1].
        threshold: Places of at least this count.
        margin: The box around them grows by this share of its height and of its width, half on either side, up to the
            image's edge. Its shorter side is then extended to the longer one, away from an edge that is in the way.

    Returns:
        A square, or the whole of the image's shorter side where the box is longer than it.

    Raises:
        DataError: There is no map, one is not finite, or the average is the same at every place.
    """
    if core_maps.ndim != 3 or not core_maps.size or not np.isfinite(core_maps).all():
        raise DataError(f"core maps have the shape {core_maps.shape}: expected at least one finite (H, W) map.")
    mean = core_maps.mean(axis=0, dtype=np.float64)
    low, high = mean.min(), mean.max()
    if high - low <= FLAT:
        raise DataError("the core maps are the same at every place: there is nothing to crop to.")
    rows, columns = np.nonzero((mean - low) / (high - low) >= threshold)
    height, width = mean.shape
    top, bottom = _grown(int(rows.min()), int(rows.max()) + 1, margin, height)
    left, right = _grown(int(columns.min()), int(columns.max()) + 1, margin, width)
    side = max(bottom - top, right - left)
    left, right = _extended(left, right, side, width)
    top, bottom = _extended(top, bottom, side, height)
    return Box(left, top, right, bottom)


def in_original(box: Box, preprocess: Preprocess, height: int, width: int) -> Box:
    """Find where a box in a model's input lies in the image before it was resized and cropped.

    Args:
        box: In pixels of the square input.
        preprocess: What made the input of the image.
        height: Of the image, px.
        width: Of the image, px.
    """
    resized = preprocess.resized(height, width)
    top, bottom = _back(box.top, box.bottom, resized[0], preprocess.size, height)
    left, right = _back(box.left, box.right, resized[1], preprocess.size, width)
    return Box(left, top, right, bottom)


def _grown(start: int, end: int, margin: float, limit: int) -> tuple[int, int]:
    half = margin * (end - start) / 2
    return max(0, math.floor(start - half)), min(limit, math.ceil(end + half))


def _extended(start: int, end: int, side: int, limit: int) -> tuple[int, int]:
    length = min(side, limit)
    first = start - (length - (end - start)) // 2
    first = min(max(0, first), limit - length)
    return first, first + length


def _back(start: int, end: int, resized: int, size: int, original: int) -> tuple[int, int]:
    # A side shorter than the input has a border around it; a longer one was cropped at its centre.
    offset = round((resized - size) / 2) if resized > size else -((size - resized) // 2)
    scale = original / resized
    first = min(max(0, math.floor((start + offset) * scale)), original - 1)
    last = min(original, math.ceil((end + offset) * scale))
    return first, max(first + 1, last)
