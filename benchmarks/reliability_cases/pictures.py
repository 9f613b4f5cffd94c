"""Pictures of rare kinds, and with an orientation tag."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image
from reliability_inputs import jpeg, model_file, picture, tar

from reliability_cases import Seen, Workbench, case
from spurious_imagenet.features.store import FeatureStore

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from odd_images import odd_image


def _scored(bench: Workbench, members: list[tuple[str, bytes]], about: str) -> Seen:
    model = model_file(bench.folder / "model.safetensors")
    tar(bench.folder / "pictures.tar", members)
    said = bench.said("features", "--model", model, "--shards", "pictures.tar", "--out", "features", about=about)
    (part,) = FeatureStore.open(bench.folder / "features").parts
    reasons = "".join(f"; {reject.key}: {reject.reason}" for reject in part.receipt.rejects)
    return Seen(said, f"features of {part.receipt.scored} images{reasons}")


@case("Pictures", "a 4:4:1 JPEG (luma 1x4) among ordinary ones")
def odd_jpeg(bench: Workbench) -> Seen:
    members = [("a.jpg", jpeg(1)), ("b.jpg", odd_image("JPEG, chroma 4:4:1 (luma 1x4)")), ("c.jpg", jpeg(2))]
    return _scored(bench, members, "scored")


@case("Pictures", "a JPEG of 12 bits per sample, which no installed decoder reads")
def deep_jpeg(bench: Workbench) -> Seen:
    return _scored(bench, [("a.jpg", jpeg(1)), ("b.jpg", odd_image("JPEG of 12 bits"))], "1 rejected:")


@case("Pictures", "a JPEG whose EXIF orientation asks for a quarter turn")
def turned(bench: Workbench) -> Seen:
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    picture(3, (96, 64)).save(buffer, "JPEG", exif=exif)
    return _scored(bench, [("a.jpg", jpeg(1)), ("b.jpg", buffer.getvalue())], "scored")
