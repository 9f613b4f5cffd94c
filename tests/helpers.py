"""Small real things that several tests build on: images, tars, weight files."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from spurious_imagenet.benchmark.models.weights_file import WeightsFileInfo, save_weights

CLASSES = ("apple", "bird", "cup", "dog")


def picture(seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """Return a smooth random picture of (width, height), different for every seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """Return the image file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(seed: int, size: tuple[int, int] = (64, 64)) -> bytes:
    """Return a random picture as JPEG."""
    return encoded(picture(seed, size), quality=90)


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    """Write a tar of regular files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def labelled_shard(path: Path, seeds: Sequence[int], classes: Sequence[str] = CLASSES) -> Path:
    """Write a shard of random pictures, labelled in turn with the classes."""
    members: list[tuple[str, bytes]] = []
    for i, seed in enumerate(seeds):
        key, class_id = f"{path.stem}-{i:04d}", classes[i % len(classes)]
        members += [(f"{key}.jpg", jpeg(seed)), (f"{key}.json", json.dumps({"class_id": class_id}).encode())]
    return write_tar(path, members)


def weights_file(
    path: Path, arch: str = "test_resnet", seed: int = 0, classes: Sequence[str] = CLASSES, size: int = 64
) -> str:
    """Write a small random classifier; return its spec."""
    torch.manual_seed(seed)
    model = timm.create_model(arch, pretrained=False, num_classes=len(classes))
    info = WeightsFileInfo(arch=arch, class_ids=tuple(classes), image_size=size, crop_pct=1.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(path, model, info)
    return f"file:{path}"
