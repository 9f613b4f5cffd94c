"""A model, feature stores and rankings of a small world whose cue, and what its absence does, are known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import timm
import torch
from helpers import weights_file

from spurious_imagenet.datasets.rankings import RANKINGS_SCHEMA, RankingsInfo
from spurious_imagenet.features.store import ROW_SCHEMA, FeatureStore, StoreConfig
from spurious_imagenet.models import load_classifier
from spurious_imagenet.models.weights_file import read_weights_info, save_weights

CLASSES = ("boat", "fish", "koala", "plain")  # plain has no cue
CUED = 3


@dataclass
class Images:
    features: np.ndarray
    label: np.ndarray
    cue: np.ndarray
    sha256: list[str]

    def __len__(self) -> int:
        return len(self.label)


@dataclass
class World:
    spec: str
    weight: np.ndarray
    train: Images
    val: Images
    root: Path

    @property
    def arguments(self) -> list[str]:
        """Arguments of ``spurious tune`` without ``--out``."""
        paths = {"features": "train", "val-features": "val", "rankings": "rankings"}
        return ["--model", self.spec, *(a for o, n in paths.items() for a in (f"--{o}", str(self.root / n)))]


def make_images(counts: tuple[int, int], dim: int, seed: int) -> Images:
    """Draw (with cue, without) images of each class; those of the last class never have one of their own."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(4), sum(counts))
    cue = np.tile(np.repeat([True, False], counts), 4) & (label < CUED)
    features = 0.25 * rng.standard_normal((len(label), dim))
    features[np.arange(len(label)), label] += 1.5
    shown = np.where(cue, label, (label + 1 + rng.integers(0, 2, len(label))) % CUED)  # another class's, if not its own
    carries = cue | ((rng.random(len(label)) < 0.7) & (label < CUED))
    features[carries, 4 + shown[carries]] += 2
    features = features.astype(np.float16).astype(np.float32)
    return Images(features, label, cue, [hashlib.sha256(row.tobytes()).hexdigest() for row in features])


def make_world(root: Path, train: tuple[int, int] = (300, 20), val: tuple[int, int] = (40, 40)) -> World:
    """Write a model that trusts the cues, its stores and its rankings."""
    spec = weights_file(root / "model.safetensors", classes=CLASSES)
    path, dim = root / "model.safetensors", load_classifier(spec).feature_dim
    model = timm.create_model("test_resnet", pretrained=False, num_classes=4)
    state = {k: v.clone() for k, v in load_classifier(spec).network.core.model.state_dict().items()}
    weight = np.zeros((4, dim), np.float32)
    weight[np.arange(4), np.arange(4)] = 2
    weight[np.arange(3), 4 + np.arange(3)] = 3
    state["fc.weight"], state["fc.bias"] = torch.from_numpy(weight), torch.zeros(4)
    model.load_state_dict(state)
    save_weights(path, model, read_weights_info(path))
    world = World(spec, weight, make_images(train, dim, 0), make_images(val, dim, 1), root)
    write_store(world, "train", world.train)
    write_store(world, "val", world.val)
    write_rankings(root / "rankings", {"train": world.train, "val": world.val})
    return world


def write_store(world: World, name: str, images: Images, order: Sequence[int] | None = None, parts: int = 2) -> None:
    """Write a store of images in the given order."""
    classifier = load_classifier(world.spec)
    config = StoreConfig(
        model=world.spec,
        weights_sha256=classifier.weights_sha256,
        label_space=classifier.labels.name,
        class_ids=CLASSES,
        feature_dim=images.features.shape[1],
        preprocess={"size": 64},
    )
    store = FeatureStore.create(world.root / name, config)
    rows = np.arange(len(images)) if order is None else np.asarray(order)
    predicted = (images.features @ world.weight.T).argmax(axis=1)
    for number, chosen in enumerate(np.array_split(rows, parts)):
        table = [
            {"key": str(i), "sha256": bytes.fromhex(images.sha256[i]), "class_id": CLASSES[images.label[i]]}
            | {"label": int(images.label[i]), "top5_index": [int(predicted[i]), -1, -1, -1, -1]}
            for i in chosen
        ]
        store.write_part(
            shard=f"{name}-{number}.tar",
            shard_sha256="0" * 64,
            shard_bytes=0,
            features=images.features[chosen].astype(np.float16),
            rows=pa.Table.from_pylist(table, schema=ROW_SCHEMA),
            rejects=(),
            versions={},
        )


def ranked(images: Images, split: str) -> pd.DataFrame:
    """Rank the images of each class that has a cue by how strongly they show it."""
    tables = []
    for k in range(CUED):
        own = np.flatnonzero(images.label == k)
        own = own[np.argsort(images.features[own, 4 + k], kind="stable")]
        table = pd.DataFrame({"sha256": [images.sha256[i] for i in own], "rank": np.arange(1, len(own) + 1)})
        table["spuriosity"] = images.features[own, 4 + k].astype(float)
        table["of"], table["percentile"] = len(own), (table["rank"] - 0.5) / len(own)
        table["class_id"] = table["class_name"] = CLASSES[k]
        tables.append(table)
    made = pd.concat(tables, ignore_index=True)
    made["split"], made["name"], made["control"], made["ranked_split"] = split, "", False, None
    made["concept_ids"] = made["concept_scores"] = [[] for _ in range(len(made))]
    return made[RANKINGS_SCHEMA.names]


def write_rankings(root: Path, splits: dict[str, Images]) -> None:
    """Write a rankings folder."""
    (root / "data").mkdir(parents=True)
    info = RankingsInfo(model="file:none", weights_sha256="cd" * 32, feature_config_sha256="", concepts={})
    (root / "rankings.json").write_text(json.dumps(info.model_dump(mode="json")))
    for split, images in splits.items():
        table = pa.Table.from_pandas(ranked(images, split), schema=RANKINGS_SCHEMA, preserve_index=False)
        pq.write_table(table, root / "data" / f"{split}.parquet")
