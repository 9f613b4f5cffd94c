from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from helpers import encoded, jpeg, picture
from PIL import Image

from spurious_imagenet.errors import DataError
from spurious_imagenet.images import DecodeLimits, UndecodableImageError, decode_again, decode_image

LIMITS = DecodeLimits()


def _claimed_png(width: int, height: int) -> bytes:
    """Return a PNG header that claims a size, with almost no data behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_jpeg_is_what_pillow_decodes() -> None:
    data = jpeg(1, (123, 77))
    ours = decode_image(data, LIMITS)
    reference = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert ours.shape == (77, 123, 3)
    assert np.abs(ours.astype(int) - reference).max() <= 1


@pytest.mark.parametrize("cut", [0.2, 0.5, 0.95])
def test_truncated_jpeg_is_refused(cut: float) -> None:
    data = jpeg(2, (200, 200))
    with pytest.raises(UndecodableImageError, match="decoded"):
        decode_image(data[: int(len(data) * cut)], LIMITS)


def test_text_named_jpg_is_refused() -> None:
    with pytest.raises(UndecodableImageError, match="not an image"):
        decode_image(b"this is not a picture", LIMITS)


def test_cmyk_jpeg_is_converted() -> None:
    pixels = decode_image(encoded(picture(3).convert("CMYK")), LIMITS)
    assert np.abs(pixels.astype(int) - np.asarray(picture(3))).mean() < 12


def test_sixteen_bit_grey_keeps_its_high_bits() -> None:
    ramp = (np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16).astype(np.uint16)
    pixels = decode_image(encoded(Image.fromarray(ramp), "PNG"), LIMITS)
    np.testing.assert_array_equal(pixels[..., 0], ramp >> 8)
    assert (pixels[..., 0] == pixels[..., 2]).all()


def test_palette_with_transparency_drops_alpha() -> None:
    image = picture(4).convert("P", palette=Image.Palette.ADAPTIVE)
    image.info["transparency"] = bytes([0] * 128)
    pixels = decode_image(encoded(image, "PNG", transparency=bytes([0] * 128)), LIMITS)
    assert np.abs(pixels.astype(int) - np.asarray(picture(4))).mean() < 12


def test_first_frame_of_an_animation_counts() -> None:
    data = encoded(picture(5), "GIF", save_all=True, append_images=[picture(6)])
    assert np.abs(decode_image(data, LIMITS).astype(int) - np.asarray(picture(5))).mean() < 12


def test_exif_rotation_is_not_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = decode_image(encoded(picture(7, (60, 40)), exif=exif.tobytes()), LIMITS)
    assert pixels.shape == (40, 60, 3)


def test_one_pixel_is_refused() -> None:
    with pytest.raises(UndecodableImageError, match="1x1 px"):
        decode_image(encoded(picture(8, (1, 1)), "PNG"), LIMITS)


@pytest.mark.parametrize("data", [_claimed_png(20_000, 20_000), jpeg(9, (300, 300))])
def test_too_many_pixels_are_refused_before_decoding(data: bytes) -> None:
    with pytest.raises(UndecodableImageError, match="at most 80000 pixels"):
        decode_image(data, DecodeLimits(max_pixels=80_000))


def test_a_bomb_beyond_pillows_own_limit_is_refused() -> None:
    with pytest.raises(UndecodableImageError):
        decode_image(_claimed_png(60_000, 60_000), LIMITS)


def test_floating_point_tiff_is_refused() -> None:
    with pytest.raises(UndecodableImageError, match="floating-point"):
        decode_image(encoded(Image.fromarray(np.zeros((32, 32), np.float32)), "TIFF"), LIMITS)


@pytest.mark.parametrize("data", [jpeg(1)[:200], b"<html>not found</html>", b"", jpeg(1, (3, 3))])
def test_an_image_that_was_decoded_before_is_named_when_it_cannot_be_again(data: bytes) -> None:
    with pytest.raises(UndecodableImageError) as reason:
        decode_image(data, LIMITS)
    with pytest.raises(DataError) as refused:
        decode_again(data, LIMITS, "image k7 of pool.tar")
    assert not isinstance(refused.value, UndecodableImageError)
    assert str(refused.value) == f"image k7 of pool.tar cannot be decoded any more: {reason.value}."


def test_an_image_that_is_as_it_was_is_decoded_as_before() -> None:
    for data in (jpeg(1), jpeg(2), jpeg(3)):
        np.testing.assert_array_equal(decode_again(data, LIMITS, "an image"), decode_image(data, LIMITS))
