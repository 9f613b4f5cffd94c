"""Feature stores and concept banks from arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from spurious_imagenet.concepts import BankInfo, ConceptBank
from spurious_imagenet.features.store import ROW_SCHEMA, FeatureStore, StoreConfig

WEIGHTS = "ab" * 32


def empty_store(path: Path, dim: int, class_ids: Sequence[str] = ("a", "b", "c")) -> FeatureStore:
    """Make a store without parts."""
    config = StoreConfig(
        model="file:none",
        weights_sha256=WEIGHTS,
        label_space="custom",
        class_ids=tuple(class_ids),
        feature_dim=dim,
        preprocess={"size": 8},
    )
    return FeatureStore.create(path, config)


def add_part(
    store: FeatureStore,
    shard: str,
    keys: Sequence[str],
    features: np.ndarray,
    *,
    labels: Sequence[int] | None = None,
    assigned: Sequence[int] | None = None,
) -> str:
    """Write one part; return its name."""
    label = [-1] * len(keys) if labels is None else [int(k) for k in labels]
    first = [0] * len(keys) if assigned is None else [int(k) for k in assigned]
    columns = zip(keys, label, first, strict=True)
    rows = [{"key": key, "label": k, "top5_index": [f, -1, -1, -1, -1]} for key, k, f in columns]
    part = store.write_part(
        shard=shard,
        shard_sha256="0" * 64,
        shard_bytes=0,
        features=features.astype(np.float16),
        rows=pa.Table.from_pylist(rows, schema=ROW_SCHEMA),
        rejects=(),
        versions={},
    )
    return part.path.name


def bank_for(
    store: FeatureStore, directions: np.ndarray, offsets: np.ndarray | None = None, classes: Sequence[int] | None = None
) -> ConceptBank:
    """Make a bank of the given directions over a store's features."""
    count = len(directions)
    class_index = [0] * count if classes is None else list(classes)
    table = pd.DataFrame(
        {
            "concept_id": [f"test/{i}" for i in range(count)],
            "kind": "test",
            "class_index": class_index,
            "class_id": [store.config.class_ids[k] for k in class_index],
            "class_name": "",
            "component": range(count),
            "name": "",
        }
    )
    info = BankInfo(
        model=store.config.model,
        weights_sha256=store.config.weights_sha256,
        feature_dim=store.config.feature_dim,
        feature_config_sha256=store.config.sha256,
    )
    offsets = np.zeros(count) if offsets is None else offsets
    return ConceptBank(directions.astype(np.float32), offsets.astype(np.float32), table, info)
