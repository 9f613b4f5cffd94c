"""A scoring model and another one: weight files, feature stores of the same training images, and a bank."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from helpers import CLASSES, picture, spread_weights_file

from spurious_imagenet.builders.components import ComponentsConfig, build_bank
from spurious_imagenet.builders.features import FeaturesConfig
from spurious_imagenet.builders.features.extract import store_config
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.features.store import ROW_SCHEMA, FeatureStore
from spurious_imagenet.models import Classifier, load_classifier

IMAGES = 96
LABELS = np.arange(IMAGES) % len(CLASSES)
DIGESTS = [hashlib.sha256(str(i).encode()).digest() for i in range(IMAGES)]


def store_of(
    path: Path,
    classifier: Classifier,
    features: np.ndarray,
    rows: Sequence[int],
    *,
    parts: int = 2,
    class_ids: Sequence[str | None] | None = None,
    keys: Sequence[str] | None = None,
    weights: str | None = None,
) -> FeatureStore:
    """Write features of the images of the given rows, in that order."""
    made = store_config(classifier, FeaturesConfig(model=classifier.spec, shards=("-",)))
    changes = {"weights_sha256": weights or classifier.weights_sha256, "feature_dim": features.shape[1]}
    config = made.model_copy(update=changes)
    store = FeatureStore.create(path, config)
    named = [CLASSES[k] for k in LABELS] if class_ids is None else list(class_ids)
    for part, chunk in enumerate(np.array_split(np.array(rows), parts)):
        table = [
            {"key": keys[i] if keys else f"image-{i}", "sha256": DIGESTS[i], "class_id": named[i]}
            | {"label": classifier.labels.get(named[i]), "top5_index": [0, -1, -1, -1, -1]}
            for i in chunk
        ]
        store.write_part(
            shard=f"{part}.tar",
            shard_sha256="0" * 64,
            shard_bytes=0,
            features=features[chunk].astype(np.float16),
            rows=pa.Table.from_pylist(table, schema=ROW_SCHEMA),
            rejects=(),
            versions={},
        )
    return store


def pixels_of(classifier: Classifier, count: int = IMAGES) -> np.ndarray:
    """Return the training images as the classifier's input."""
    return np.stack([classifier.preprocess.apply(np.asarray(picture(s))) for s in range(count)])


@dataclass(frozen=True)
class World:
    """The scoring model with its bank of all components, and the other model; features are float32."""

    scorer: Classifier
    target: Classifier
    scorer_features: np.ndarray
    target_features: np.ndarray
    scorer_store: FeatureStore
    target_store: FeatureStore
    bank: ConceptBank

    def spurious(self) -> ConceptBank:
        """Return the bank of two components of one class, three of another and one of a third."""
        wanted = {("apple", 0), ("apple", 1), ("cup", 0), ("cup", 2), ("cup", 3), ("dog", 1)}
        table = self.bank.table
        return self.bank.select(
            [i for i, row in enumerate(zip(table["class_id"], table["component"], strict=True)) if row in wanted]
        )


def make_world(root: Path) -> World:
    """Make both models and all that is made of them."""
    models = [load_classifier(spread_weights_file(root / f"{name}.safetensors", seed=s)) for s, name in enumerate("ab")]
    features = [model.predict(pixels_of(model))[0] for model in models]
    stores = [
        store_of(root / f"store-{i}", model, found, range(IMAGES))
        for i, (model, found) in enumerate(zip(models, features, strict=True))
    ]
    bank = build_bank(stores[0], models[0].linear_head(), models[0].labels, ComponentsConfig(top=5))
    return World(*models, *features, *stores, bank)
