"""Corruptions of a region that each take one kind of information and leave the others (SR appendix B).

Greying takes colour, blurring takes texture, and turning the patches of a grid by random quarter turns takes shape, as
it breaks every edge that is longer than a patch. SR gives no sizes; ours follow the image's side, so that models with
inputs of different sizes see the same corruption.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from spurious_imagenet.errors import DataError

__all__ = ["CORRUPTIONS", "Corruption", "blend", "corrupt", "without_core"]

Corruption = Literal["grey", "blur", "patch-rotate"]
CORRUPTIONS: tuple[Corruption, ...] = get_args(Corruption)

Pixels = NDArray[np.uint8]

# The blur's standard deviation and a patch's side, as parts of the image's side: at 224 px 7 px and 28 px. A patch must
# be long beside the texture that it is to keep and short beside the outlines that it is to break.
_BLUR = 32
_PATCHES = 8


def corrupt(image: Pixels, corruption: Corruption, rng: Generator) -> Pixels:
    """Corrupt a whole image.

    Args:
        image: (S, S, 3) uint8 RGB.
        corruption: ``grey``: every pixel its luma (ITU-R 601-2). ``blur``: Gaussian, standard deviation S / 32.
            ``patch-rotate``: each patch of a centred grid, of side S / 8 rounded, turned by 0, 90, 180 or 270 degrees;
            what the grid leaves of the border stays.
        rng: Where the turns come from; the other corruptions draw nothing.

    Returns:
        (S, S, 3) uint8.

    Raises:
        DataError: The image is not square RGB.
    """
    if image.ndim != 3 or image.shape[0] != image.shape[1] or image.shape[2] != 3:
        raise DataError(f"an image of shape {image.shape} cannot be corrupted: expected (S, S, 3).")
    return _CORRUPT[corruption](image, rng)


def blend(image: Pixels, corrupted: Pixels, mask: Pixels) -> Pixels:
    """Put a corrupted image where a soft mask is.

    Args:
        image: (H, W, 3) uint8.
        corrupted: The same shape.
        mask: (H, W) uint8: 0 keeps the image's pixel, 255 takes the corrupted one, between them the two are mixed.

    Returns:
        (H, W, 3) uint8, rounded to nearest; where the mask is 0 and where it is 255 bit for bit one of the two.

    Raises:
        DataError: The shapes differ.
    """
    if image.shape != corrupted.shape or mask.shape != image.shape[:2]:
        raise DataError(f"an image of shape {image.shape} cannot be blended with {corrupted.shape} by {mask.shape}.")
    weight = mask[..., None].astype(np.uint32)
    mixed = image * (255 - weight) + corrupted * weight
    return np.asarray((mixed + 127) // 255, dtype=np.uint8)


def without_core(mask: Pixels, core: Pixels) -> Pixels:
    """Take the overlap with the core mask out of a spurious concept's mask (SR appendix B), so that the object stays.

    The overlap of two soft masks is their pixel-wise minimum.

    Args:
        mask: (H, W) uint8 mask of the spurious concept.
        core: (H, W) uint8, the pixel-wise maximum of the masks of the class's core concepts.
    """
    return np.asarray(mask - np.minimum(mask, core))


def _grey(image: Pixels, rng: Generator) -> Pixels:
    return np.asarray(Image.fromarray(image).convert("L").convert("RGB"))


def _blur(image: Pixels, rng: Generator) -> Pixels:
    spread = len(image) / _BLUR
    # Pillow's Gaussian is three box blurs in turn: up to 10 levels off.
    smooth = gaussian_filter(image.astype(np.float32), (spread, spread, 0), mode="nearest")
    return np.asarray(np.rint(smooth), dtype=np.uint8)


def _patch_rotate(image: Pixels, rng: Generator) -> Pixels:
    side = max(2, round(len(image) / _PATCHES))
    count = len(image) // side
    first = (len(image) - count * side) // 2
    span = slice(first, first + count * side)
    patches = image[span, span].reshape(count, side, count, side, 3).swapaxes(1, 2)
    turns = rng.integers(0, 4, (count, count))
    turned = patches.copy()
    for quarter in (1, 2, 3):
        turned[turns == quarter] = np.rot90(patches, quarter, axes=(2, 3))[turns == quarter]
    result = image.copy()
    result[span, span] = turned.swapaxes(1, 2).reshape(count * side, count * side, 3)
    return result


_CORRUPT: dict[Corruption, Callable[[Pixels, Generator], Pixels]] = {
    "grey": _grey,
    "blur": _blur,
    "patch-rotate": _patch_rotate,
}
