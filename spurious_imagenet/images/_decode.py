"""Decoding untrusted image bytes to RGB.

JPEGs go through libjpeg-turbo, everything else through Pillow. What is done where formats leave a choice:

- EXIF orientation is not applied: the evaluation pipelines of both papers, timm and torchvision do not apply it either.
  Browsers, FiftyOne and the ``Image`` feature of ``datasets`` do, so that they show such an image turned or mirrored;
  ``is_turned_elsewhere`` knows these images, and features' receipts and published datasets' cards count them. A TIFF's
  own tag is part of its pixels for all of them.
- Alpha is dropped, not blended, as ``Image.convert("RGB")`` does; palettes with transparency go through RGBA.
- CMYK is converted by Pillow. 16-bit greyscale keeps its 8 high bits. Of an animation the first frame counts.
"""

from __future__ import annotations

import io

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pydantic import PositiveInt

from spurious_imagenet.errors import DataError
from spurious_imagenet.records import Record

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_STARTS: dict[str, tuple[bytes, ...]] = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n",),
    "GIF": (b"GIF8",),
    "TIFF": (b"II*\0", b"MM\0*"),
}
# What libjpeg-turbo itself turns into RGB.
_TURBO_COLORS = {"RGB", "YCbCr", "Gray"}


class UndecodableImageError(DataError):
    """An image that cannot or must not be decoded; the text is the reason."""


class DecodeLimits(Record):
    """What is too large or too small to be decoded."""

    max_pixels: PositiveInt = 100_000_000
    """Images of more pixels are refused before any pixel is decoded."""
    min_side: PositiveInt = 8
    """Images with a shorter side are refused: they are placeholders, not photographs."""

    def check(self, width: int, height: int) -> None:
        """Refuse a size outside the limits.

        Raises:
            UndecodableImageError: The size is outside them.
        """
        if width * height > self.max_pixels:
            raise UndecodableImageError(
                f"{width}x{height} px: expected at most {self.max_pixels} pixels (decompression bomb?)"
            )
        if min(width, height) < self.min_side:
            raise UndecodableImageError(f"{width}x{height} px: expected sides of at least {self.min_side} px")


def decode_image(data: bytes, limits: DecodeLimits) -> NDArray[np.uint8]:
    """Decode an image file to RGB.

    Args:
        data: The file's bytes.
        limits: Sizes to refuse.

    Returns:
        (H, W, 3) uint8.

    Raises:
        UndecodableImageError: The bytes are not a complete image of a supported format, or the size is refused.
    """
    if data[:2] == b"\xff\xd8":
        pixels = _decode_jpeg(data, limits)
        if pixels is not None:
            return pixels
    return _decode_with_pillow(data, limits)


def decode_again(data: bytes, limits: DecodeLimits, what: str) -> NDArray[np.uint8]:
    """Decode an image file to RGB that could be decoded when something was made of it.

    Args:
        data: The same bytes.
        limits: Image sizes to refuse.
        what: What the image is, for the error.

    Raises:
        DataError: Another version of a decoder refuses it.
    """
    try:
        return decode_image(data, limits)
    except UndecodableImageError as error:
        raise DataError(f"{what} cannot be decoded any more: {error}.") from error


def _decode_jpeg(data: bytes, limits: DecodeLimits) -> NDArray[np.uint8] | None:
    """Decode a JPEG; None where libjpeg-turbo cannot convert it to RGB or complains, so that Pillow decides."""
    header = _jpeg_header(data)
    if header is None:
        return None
    height, width, colorspace = header
    limits.check(width, height)
    if colorspace not in _TURBO_COLORS:
        return None
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)
    except MemoryError:  # says something of the machine, nothing of the image
        raise
    except Exception:  # whatever it cannot do or does not know the name of; Pillow has the last word
        return None
    return pixels


def _jpeg_header(data: bytes) -> tuple[int, int, str] | None:
    """Return height, width and colour space; None where the reader does not know the kind of JPEG."""
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
    except MemoryError:
        raise
    except Exception:  # a KeyError for a chroma subsampling that is not on its list, a ValueError for damage
        return None
    return height, width, colorspace


def _decode_with_pillow(data: bytes, limits: DecodeLimits) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            limits.check(*image.size)
            image.load()
            return _to_rgb(image)
    except (UndecodableImageError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise UndecodableImageError(_unidentified(data)) from None
    except Image.DecompressionBombError as error:
        most = min(limits.max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or limits.max_pixels))  # where Pillow itself stops
        raise UndecodableImageError(f"decompression bomb: expected at most {most} pixels") from error
    except Exception as error:  # Pillow's plugins raise many types on malformed input; each is a reject, never a crash
        raise UndecodableImageError(f"cannot be decoded: {_one_line(error)}") from error


def _unidentified(data: bytes) -> str:
    for kind, start in _STARTS.items():
        if data.startswith(start):
            rare = " or of a rare kind (such as 12 bits per sample)" if kind == "JPEG" else ""
            return f"cannot be decoded: it begins as a {kind}, but is damaged{rare}"
    return f"not an image: expected one of {', '.join(_FORMATS)}"


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit values at 255, which turns most of the picture white.
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "F":
        raise UndecodableImageError("floating-point pixels: expected 8 or 16 bits a channel")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return np.asarray(image.convert("RGB"))


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
