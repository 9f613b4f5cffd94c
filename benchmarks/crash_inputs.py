"""What `crashes.py` runs the commands on: random shards, random models, a random concept bank."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import timm
from PIL import Image

from spurious_imagenet.concepts import BankInfo, ConceptBank
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.models.weights_file import WeightsFileInfo, save_weights

SHARDS, IMAGES = 4, 24
CLASSES = ("apple", "bird", "cup", "dog")


def make_inputs(root: Path, rng: np.random.Generator) -> None:
    """Write shards of random JPEGs and three random models."""
    (root / "shards").mkdir()
    for shard in range(SHARDS):
        with tarfile.open(root / "shards" / f"pool-{shard}.tar", "w") as tar:
            for i in range(IMAGES):
                buffer = io.BytesIO()
                pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(buffer, "JPEG")
                member = tarfile.TarInfo(f"{shard}-{i:03d}.jpg")
                member.size = buffer.tell()
                tar.addfile(member, io.BytesIO(buffer.getvalue()))
    for name in ("scorer", "voter0", "voter1"):
        model = timm.create_model("test_resnet", pretrained=False, num_classes=len(CLASSES))
        info = WeightsFileInfo(arch="test_resnet", class_ids=CLASSES, image_size=64)
        save_weights(root / f"{name}.safetensors", model, info)


def make_bank(store: FeatureStore, path: Path, rng: np.random.Generator) -> None:
    """Write four random concepts per class."""
    config = store.config
    concepts = [
        {"concept_id": f"{name}/{i}", "kind": "random", "class_index": c, "component": i, "name": ""}
        | {"class_id": name, "class_name": name}
        for c, name in enumerate(CLASSES)
        for i in range(4)
    ]
    directions = rng.standard_normal((len(concepts), config.feature_dim)).astype(np.float32)
    info = BankInfo(
        model=config.model,
        weights_sha256=config.weights_sha256,
        feature_dim=config.feature_dim,
        feature_config_sha256=config.sha256,
    )
    ConceptBank(directions, np.zeros(len(concepts), np.float32), pd.DataFrame(concepts), info).save(path)
