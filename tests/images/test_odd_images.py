"""Files of rare kinds are decoded or refused with a reason; no decoder's exception ends a run."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from helpers import encoded, jpeg, picture, run_spurious, weights_file, write_tar
from odd_images import ODD_IMAGES, odd_image, quilt
from PIL import Image, ImageOps

from spurious_imagenet.errors import DataError
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.images import DecodeLimits, UndecodableImageError, decode_image, read_picture
from spurious_imagenet.images.orientation import is_turned_elsewhere

LIMITS = DecodeLimits()
TWELVE_BITS = "JPEG of 12 bits"
ERRORS = [KeyError(6), RuntimeError(), OverflowError(), struct.error(), IndexError(), zlib.error(), OSError()]


def _expected(kind: str) -> np.ndarray:
    shown = Image.fromarray(quilt())
    if "one bit" in kind or "two colours" in kind:
        shown = shown.convert("1")
    elif "grey" in kind:
        shown = shown.convert("L")
    return np.asarray(shown.convert("RGB")).astype(int)


@pytest.mark.parametrize("kind", sorted(ODD_IMAGES.keys() - {TWELVE_BITS}))
def test_an_odd_image_is_decoded(kind: str) -> None:
    pixels = decode_image(odd_image(kind), LIMITS)
    assert pixels.shape == (64, 64, 3)
    assert np.abs(pixels - _expected(kind)).mean() < 2.5


def test_what_no_decoder_reads_is_a_reject_that_says_so() -> None:
    with pytest.raises(UndecodableImageError, match="begins as a JPEG, but is damaged or of a rare kind"):
        decode_image(odd_image(TWELVE_BITS), LIMITS)


def test_a_run_over_odd_images_keeps_them(tmp_path: Path) -> None:
    model = weights_file(tmp_path / "m.safetensors")
    names = {f"{i:02d}.{kind.replace(',', ' ').split()[0].lower()}": kind for i, kind in enumerate(ODD_IMAGES)}
    shard = write_tar(tmp_path / "odd.tar", [(name, odd_image(kind)) for name, kind in names.items()])
    ran = run_spurious("features", "--model", model, "--shards", shard, "--out", tmp_path / "store")
    assert ran.code == 0, ran.err
    (part,) = FeatureStore.open(tmp_path / "store").parts
    print(part.receipt.rejects)
    assert part.receipt.scored == len(ODD_IMAGES) - 1
    assert [names[f"{reject.key}.jpeg"] for reject in part.receipt.rejects] == [TWELVE_BITS]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("function", ["decode_jpeg_header", "decode_jpeg"])
def test_whatever_the_fast_decoder_raises_pillow_decides(
    error: Exception, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(simplejpeg, function, fails)
    assert np.abs(decode_image(jpeg(1), LIMITS).astype(int) - np.asarray(picture(1))).mean() < 3


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_whatever_pillow_raises_is_a_reject(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object) -> None:
        raise error

    monkeypatch.setattr(Image.Image, "convert", fails)
    with pytest.raises(UndecodableImageError, match=f"cannot be decoded: {type(error).__name__}"):
        decode_image(encoded(picture(1), "PNG"), LIMITS)


@pytest.mark.parametrize("data", [jpeg(1), encoded(picture(1), "PNG")])
def test_a_lack_of_memory_is_not_the_images_fault(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **kwargs: object) -> None:
        raise MemoryError

    monkeypatch.setattr(simplejpeg, "decode_jpeg", fails)
    monkeypatch.setattr(Image.Image, "load", fails)
    with pytest.raises(MemoryError):
        decode_image(data, LIMITS)


@pytest.mark.parametrize("content", [b"", b"no picture", encoded(picture(1), "PNG")[:90]])
def test_a_stage_names_the_picture_file_that_it_cannot_read(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_bytes(content)
    with pytest.raises(DataError, match=r"^mask .*mask\.png cannot be read .*: expected an intact picture file\.$"):
        read_picture(tmp_path / "mask.png", "mask")


def _tagged(kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(picture(3, (60, 40)), kind, exif=exif)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_images_that_others_turn_are_known(kind: str, orientation: int) -> None:
    data = _tagged(kind, orientation)
    with Image.open(io.BytesIO(data)) as image:
        here, elsewhere = decode_image(data, LIMITS), np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    differ = here.shape != elsewhere.shape or np.abs(here.astype(int) - elsewhere).mean() > 4
    assert is_turned_elsewhere(data) == differ


def test_what_is_no_image_is_not_turned() -> None:
    assert not is_turned_elsewhere(b"Exif and nothing else")
    assert not is_turned_elsewhere(jpeg(1))
    assert not is_turned_elsewhere(_tagged("JPEG", 0))
