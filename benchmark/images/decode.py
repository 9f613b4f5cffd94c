"""Decoding untrusted image bytes to RGB.

JPEGs go through libjpeg-turbo, everything else through Pillow. What is done where formats leave a choice:

- EXIF orientation is not applied: the evaluation pipelines of both papers and of timm do not apply it either.
- Alpha is dropped, not blended, as ``Image.convert("RGB")`` does; palettes with transparency go through RGBA.
- CMYK is converted by Pillow. 16-bit greyscale keeps its 8 high bits. Of an animation the first frame counts.
"""

from __future__ import annotations

import io

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, PositiveInt

from spurious_imagenet.errors import DataError
from spurious_imagenet.process import no_warnings

__all__ = ["DecodeLimits", "UndecodableImageError", "decode_image"]

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


class UndecodableImageError(DataError):
    """An image that cannot or must not be decoded; the text is the reason."""


class DecodeLimits(BaseModel):
    """What is too large or too small to be decoded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
        UndecodableImageError: The bytes are no complete image of a supported format, or the size is refused.
    """
    if data[:2] == b"\xff\xd8":
        pixels = _decode_jpeg(data, limits)
        if pixels is not None:
            return pixels
    return _decode_with_pillow(data, limits)


def _decode_jpeg(data: bytes, limits: DecodeLimits) -> NDArray[np.uint8] | None:
    """Decode a JPEG; None where libjpeg-turbo cannot convert it to RGB or complains, so that Pillow decides."""
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
        limits.check(width, height)
        if colorspace in {"CMYK", "YCCK"}:
            return None
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)
    except ValueError:
        return None
    return pixels


def _decode_with_pillow(data: bytes, limits: DecodeLimits) -> NDArray[np.uint8]:
    try:
        with no_warnings(), Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            limits.check(*image.size)
            image.load()
            return _to_rgb(image)
    except UndecodableImageError:
        raise
    except UnidentifiedImageError:
        raise UndecodableImageError(f"not an image: expected one of {', '.join(_FORMATS)}") from None
    except Image.DecompressionBombError as error:
        raise UndecodableImageError(f"decompression bomb: expected at most {limits.max_pixels} pixels") from error
    except Exception as error:  # Pillow's plugins raise many types on malformed input; each is a reject, never a crash
        raise UndecodableImageError(f"cannot be decoded: {_one_line(error)}") from error


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
