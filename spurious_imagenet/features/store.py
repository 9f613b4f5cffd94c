"""FeatureStore: penultimate features of a pool of images, one part per shard.

Each part is a directory that appears in one rename, so it is there whole or not at all:

    store.json                       what made the features (model, weights, preprocessing); a rerun must match it
    parts/<shard>-<hash>/            hash of the shard's bytes; of its address, where that is remote
        features.npy                 (n, D) float16, memory-mapped when read
        rows.parquet                 one row per image, in the order of the features
        receipt.json                 counts, rejects with reasons, hashes of input and outputs
        shard.json                   where the shard was seen last, and when it was changed; may be missing
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spurious_imagenet.errors import StoreError, one_line
from spurious_imagenet.features._parts import (
    ROW_SCHEMA,
    SCHEMA_VERSION,
    FeaturePart,
    PartReceipt,
    Reject,
    SeenShard,
    part_name,
)
from spurious_imagenet.features.shard_parts import ShardParts
from spurious_imagenet.io import is_unused
from spurious_imagenet.part_store import PartStore, config_sha256
from spurious_imagenet.records import Record

__all__ = ["ROW_SCHEMA", "FeaturePart", "FeatureStore", "PartReceipt", "Reject", "StoreConfig", "part_name"]


class StoreConfig(Record):
    """What made a store's features; equal configurations give interchangeable features."""

    schema_version: int = SCHEMA_VERSION
    model: str
    weights_sha256: str
    label_space: str
    class_ids: tuple[str, ...]
    feature_dim: int
    preprocess: dict[str, Any]
    dtype: str = "float16"

    @property
    def sha256(self) -> str:
        """Hash of everything that changes the features (where the weights were found does not)."""
        return config_sha256(self)


class FeatureStore:
    """Features of many shards by one model, read part by part.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> made_by = {"model": "timm:resnet50", "weights_sha256": "0" * 64, "label_space": "custom"}
        >>> config = StoreConfig(**made_by, class_ids=("n1", "n2"), feature_dim=3, preprocess={})
        >>> rows = pa.Table.from_pylist([{"key": "koala-1", "class_id": "n1", "label": 0}], schema=ROW_SCHEMA)
        >>> with TemporaryDirectory() as folder:
        ...     store = FeatureStore.create(folder, config)
        ...     shard = {"shard": "0.tar", "shard_sha256": "0" * 64, "shard_bytes": 10240}
        ...     features = np.ones((1, 3), np.float16)
        ...     _ = store.write_part(**shard, features=features, rows=rows, rejects=(), versions={})
        ...     [part.features().tolist() for part in FeatureStore.open(folder).parts]
        [[[1.0, 1.0, 1.0]]]
    """

    def __init__(self, path: str | Path, config: StoreConfig) -> None:
        self.path = Path(path)
        self.config = config
        self._store = PartStore(self.path)

    @classmethod
    def create(cls, path: str | Path, config: StoreConfig) -> FeatureStore:
        """Make a store, or open the one that is there if ``config`` made it.

        Raises:
            StoreError: The directory holds a store of another configuration, or something else.
        """
        root = Path(path)
        if (root / "store.json").exists():
            store = cls.open(root)
            changed = [
                name
                for name in StoreConfig.model_fields
                if name != "model" and getattr(store.config, name) != getattr(config, name)
            ]
            if changed:
                raise StoreError(
                    f"{root} was made with another configuration ({', '.join(changed)} differ): "
                    "resume with the same model and options, or write to another directory."
                )
        elif not is_unused(root):
            raise StoreError(f"{root} is not empty and not a feature store: expected a new directory.")
        else:
            config.write(root / "store.json")
        PartStore(root).prepare()
        return cls(root, config)

    @classmethod
    def open(cls, path: str | Path) -> FeatureStore:
        """Open a store for reading.

        Raises:
            StoreError: There is none at ``path``, or its schema is another.
        """
        file = Path(path) / "store.json"
        if not file.is_file():
            raise StoreError(f"{path} is not a feature store: store.json is missing.")
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            config = StoreConfig.model_validate(content)
        except ValueError as error:
            raise StoreError(f"{file} cannot be read: {one_line(error)}") from error
        if config.schema_version != SCHEMA_VERSION:
            raise StoreError(f"{file} has schema {config.schema_version}: expected {SCHEMA_VERSION}.")
        return cls(path, config)

    @property
    def parts(self) -> tuple[FeaturePart, ...]:
        """The finished parts, ordered by name, whatever the order they were made in."""
        return tuple(map(FeaturePart, self._store.folders))

    @property
    def sha256(self) -> str:
        """Hash of all features and rows, by which a run knows what it was made from."""
        lines = (f"{p.path.name} {p.receipt.features_sha256} {p.receipt.rows_sha256}\n" for p in self.parts)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def part(self, shard: str) -> FeaturePart | None:
        """Return the part of ``shard``, or None where it is not finished; see :class:`ShardParts`."""
        return ShardParts(self.parts).find(shard)

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def write_part(
        self,
        *,
        shard: str,
        shard_sha256: str,
        shard_bytes: int,
        features: NDArray[np.float16],
        rows: pa.Table,
        rejects: Iterable[Reject],
        versions: dict[str, str],
        label_problems: Iterable[Reject] = (),
        turned: int | None = None,
        shard_mtime_ns: int | None = None,
    ) -> FeaturePart:
        """Write one shard's part, whole or not at all.

        Args:
            shard: The shard's address.
            shard_sha256: Hash of the shard's bytes.
            shard_bytes: Size of the shard.
            features: (n, D) float16.
            rows: n rows of :data:`ROW_SCHEMA`.
            rejects: What got no features.
            versions: Versions of the libraries that made the features.
            label_problems: Scored images whose label cannot be used, and why.
            turned: Scored images with an orientation that is not applied; None where nobody counted.
            shard_mtime_ns: When a local shard was changed last, before it was read.
        """
        name, refused = part_name(shard, shard_sha256), tuple(rejects)
        with self._store.write(name) as part:
            receipt = PartReceipt(
                shard=shard,
                shard_sha256=shard_sha256,
                shard_bytes=shard_bytes,
                samples=len(features) + len(refused),
                scored=len(features),
                rejects=refused,
                label_problems=tuple(label_problems),
                turned=turned,
                config_sha256=self.config.sha256,
                features_sha256=part.save("features.npy", features),
                rows_sha256=part.save("rows.parquet", rows.cast(ROW_SCHEMA)),
                versions=versions,
            )
            part.say(receipt)
            if shard_mtime_ns is not None:
                part.say(SeenShard(shard=shard, mtime_ns=shard_mtime_ns), "shard.json")
        return FeaturePart(self._store.place(name))
