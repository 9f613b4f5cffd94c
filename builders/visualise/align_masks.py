"""A mask of what one model sees of an image, as another model sees the image."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spurious_imagenet.images import View

__all__ = ["align"]


def align(mask: NDArray[np.uint8], seen: View, wanted: View, size: int) -> NDArray[np.uint8]:
    """Bring a mask from one view of an image to another.

    Args:
        mask: (S, S) uint8.
        seen: What of the image the mask covers.
        wanted: What the result shall cover.
        size: Side of the result, px.

    Returns:
        (size, size) uint8, bilinear with antialiasing; 0 where the mask says nothing. The mask itself, bit for bit,
        where nothing changes.
    """
    if seen == wanted and size == len(mask):
        return mask
    width, height = seen.right - seen.left, seen.bottom - seen.top
    box = (
        (wanted.left - seen.left) / width * len(mask),
        (wanted.top - seen.top) / height * len(mask),
        (wanted.right - seen.left) / width * len(mask),
        (wanted.bottom - seen.top) / height * len(mask),
    )
    # Pillow's box must lie within the image, so the mask gets borders of zeros where the wanted view reaches further.
    border = max(0, math.ceil(max(-min(box), max(box) - len(mask))))
    padded = Image.fromarray(np.pad(mask, border))
    left, top, right, bottom = (min(max(side + border, 0.0), float(padded.width)) for side in box)
    return np.asarray(padded.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, right, bottom)))
