"""Feature stores whose images have bytes, classes and scores that a test chooses."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from feature_store_helpers import bank_for, empty_store

from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.features.store import ROW_SCHEMA, FeatureStore

CLASSES = ("ape", "bee", "cat", "dog")
DIM = 6


def digest(name: str) -> bytes:
    """Return the hash of the image of that name."""
    return hashlib.sha256(name.encode()).digest()


def write_store(
    path: Path,
    features: Mapping[str, np.ndarray],
    *,
    shuffle: int | None = None,
    parts: int = 2,
    hashes: Mapping[str, bytes] | None = None,
    unlabelled: int = 0,
    classes: Sequence[str] = CLASSES,
) -> FeatureStore:
    """Write a store with the images ``CLASS/NUMBER`` of each class, spread over parts in an order of their own."""
    dim = next(iter(features.values())).shape[1]
    store = empty_store(path, dim, classes)
    images = [(c, f"{c}/{i:04d}", row) for c, rows in features.items() for i, row in enumerate(rows)]
    images += [(None, f"none/{i}", np.zeros(dim)) for i in range(unlabelled)]
    if shuffle is not None:
        order = np.random.default_rng(shuffle).permutation(len(images))
        images = [images[i] for i in order]
    for number, some in enumerate(np.array_split(np.arange(len(images)), parts)):
        chosen = [images[i] for i in some]
        rows = [
            {"key": name, "class_id": c, "label": classes.index(c) if c in classes else -1}
            | {"sha256": (hashes or {}).get(name, digest(name)), "top5_index": [0] * 5}
            for c, name, _ in chosen
        ]
        store.write_part(
            shard=f"{number}.tar",
            shard_sha256="0" * 64,
            shard_bytes=0,
            features=np.array([row for *_, row in chosen]).reshape(-1, dim).astype(np.float16),
            rows=pa.Table.from_pylist(rows, schema=ROW_SCHEMA),
            rejects=(),
            versions={},
        )
    return store


def random_features(counts: Mapping[str, int], seed: int = 0) -> dict[str, np.ndarray]:
    """Return random float16 features of so many images of each class."""
    rng = np.random.default_rng(seed)
    return {c: rng.standard_normal((n, DIM)).astype(np.float16) for c, n in counts.items()}


def judged_bank(
    store: FeatureStore, concepts: Mapping[str, int], verdicts: Sequence[str | None] | None = None
) -> ConceptBank:
    """Make a bank of so many random concepts of each class."""
    classes = [CLASSES.index(c) for c, n in concepts.items() for _ in range(n)]
    directions = np.random.default_rng(5).standard_normal((len(classes), DIM))
    bank = bank_for(store, directions, np.arange(len(classes)), classes)
    bank.table["class_name"] = [f"the {c}" for c in bank.table["class_id"]]
    if verdicts is not None:
        bank.table["verdict"] = list(verdicts)
    return bank
