"""Small real inputs of the reliability table: pictures, shards, a random model."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image

from spurious_imagenet.models.weights_file import WeightsFileInfo, save_weights

CLASSES = ("apple", "bird", "cup", "dog")


def picture(seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """Return a smooth random picture, different for every seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def jpeg(seed: int, size: tuple[int, int] = (64, 64)) -> bytes:
    """Return a random picture as JPEG."""
    buffer = io.BytesIO()
    picture(seed, size).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    """Write a tar of regular files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def shard(path: Path, images: int, seed: int = 0) -> Path:
    """Write a shard of random pictures that are labelled in turn."""
    members: list[tuple[str, bytes]] = []
    for i in range(images):
        note = json.dumps({"class_id": CLASSES[i % len(CLASSES)]}).encode()
        members += [(f"{path.stem}-{i:03d}.jpg", jpeg(seed + i)), (f"{path.stem}-{i:03d}.json", note)]
    return tar(path, members)


def folder(path: Path, per_class: int, classes: Iterable[str] = CLASSES, seed: int = 0) -> Path:
    """Write an image folder with one sub-folder per class."""
    for c, name in enumerate(classes):
        (path / name).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            (path / name / f"{i:03d}.jpg").write_bytes(jpeg(seed + 1000 * c + i))
    return path


def model_file(path: Path, seed: int = 0, classes: tuple[str, ...] = CLASSES) -> str:
    """Write a small random classifier; return its spec, relative to its folder."""
    torch.manual_seed(seed)
    network = timm.create_model("test_resnet", pretrained=False, num_classes=len(classes))
    save_weights(path, network, WeightsFileInfo(arch="test_resnet", class_ids=classes, image_size=64, crop_pct=1.0))
    return f"file:{path.name}"
